"""Several LoRA adapters in one graph: each sequence as if its own were merged into the weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.card import assert_close, open_loop, reference, write_card_graph
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.config import DecoderModel
from modelc.errors import BadInput
from modelc.frontends.huggingface.adapter import read_adapter
from modelc.ir.stored import StoredMatrix
from modelc.targets.qaic.runtime import CardRuntime

TOKENS = np.random.default_rng(0).integers(0, 40, (3, 30))
MODULES = ("self_attn.q_proj", "self_attn.v_proj")


def write_adapter(
    folder: Path, seed: int, rank: int, modules: tuple[str, ...] = MODULES, **changes: Any
) -> Path:
    folder.mkdir()
    random, tensors = np.random.default_rng(seed), {}
    widths = {"self_attn.q_proj": 32, "self_attn.v_proj": 16, "mlp.down_proj": 32}
    for layer in range(2):
        for module in modules:
            name = f"base_model.model.model.layers.{layer}.{module}"
            source = 48 if module == "mlp.down_proj" else 32
            tensors[f"{name}.lora_A.weight"] = random.normal(0, 0.3, (rank, source)).astype("f")
            tensors[f"{name}.lora_B.weight"] = random.normal(0, 0.3, (widths[module], rank)).astype(
                "f"
            )
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 12, "bias": "none", **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def merged(source: DecoderModel, adapter: Path, scale: float, path: Path) -> DecoderModel:
    """The decoder with an adapter's products added to its weights, read with `safetensors`."""
    from safetensors.numpy import load_file

    tensors = load_file(adapter / "adapter_model.safetensors")
    weights, parts = dict(source.weights), b""
    for name, down in tensors.items():
        if name.endswith("lora_B.weight"):
            continue
        up = tensors[name.replace("lora_A", "lora_B")]
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        whole = weights[f"{module}.weight"].decode() + scale * (up @ down)
        weights[f"{module}.weight"] = StoredMatrix(path, len(parts), "F32", whole.shape)
        parts += whole.astype("<f4").tobytes()
    path.write_bytes(parts)
    return replace(source, weights=weights)


@pytest.fixture
def source(tmp_path: Path) -> DecoderModel:
    made = tiny_source(tiny_config(), tmp_path / "weights.bin", biases=True)
    write_weights(made)
    return made


@pytest.mark.parametrize("batched", [False, True])
def test_each_sequence_has_its_own(source: DecoderModel, tmp_path: Path, batched: bool) -> None:
    first = write_adapter(tmp_path / "first", 1, 4)
    second = write_adapter(tmp_path / "second", 2, 8, (*MODULES, "mlp.down_proj"), use_rslora=True)
    adapters = (read_adapter(first), read_adapter(second))
    path = write_card_graph(source, tmp_path, adapters=adapters, continuous_batching=batched)
    loop = open_loop(path, prefill_seq_len=8, sequences=3, continuous_batching=batched)
    loop.adapters = {0: 1, 2: 2}
    models = [
        merged(source, first, 12 / 4, tmp_path / "first.bin"),
        source,
        merged(source, second, 12 / 8**0.5, tmp_path / "second.bin"),
    ]
    expected = [reference(model, row) for model, row in zip(models, TOKENS, strict=True)]
    found = loop.prefill({slot: TOKENS[slot][:19] for slot in range(3)})
    assert_close(found, np.stack([rows[18] for rows in expected]))
    tokens = {slot: TOKENS[slot][19:20] for slot in range(3)}
    found = loop.decode(tokens, dict.fromkeys(range(3), 19))[:, 0]
    assert_close(found, np.stack([rows[19] for rows in expected]))
    runtime = CardRuntime(loop.engine, loop.shapes, adapter=2)
    assert_close(runtime.logits(TOKENS[2]), expected[2])


def test_a_graph_without_adapters(source: DecoderModel, tmp_path: Path) -> None:
    loop = open_loop(write_card_graph(source, tmp_path))
    with pytest.raises(BadInput, match="no adapters"):
        CardRuntime(loop.engine, loop.shapes, adapter=1)


def test_a_layer_of_other_sizes_is_refused(source: DecoderModel, tmp_path: Path) -> None:
    adapter = read_adapter(write_adapter(tmp_path / "adapter", 1, 4))
    small = tiny_source(tiny_config(heads=2), tmp_path / "small.bin")
    with pytest.raises(BadInput, match="an adapter is of 32 to 32, the layer of 32 to 16"):
        write_card_graph(small, tmp_path, adapters=(adapter,))


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "IA3"},
        {"bias": "all"},
        {"use_dora": True},
        {"r": 0},
        {"r": 8},
        {"rank_pattern": {"q_proj": 2}},
        {"modules_to_save": ["lm_head"]},
        {"lora_alpha": "much"},
    ],
)
def test_other_adapters_are_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", 1, 4, **changes)
    with pytest.raises(BadInput):
        read_adapter(tmp_path / "adapter")


def test_unknown_tensors_are_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", 1, 4)
    save_file({"model.norm.weight": np.ones(4, "f")}, folder / "adapter_model.safetensors")
    with pytest.raises(BadInput, match="no part of a LoRA"):
        read_adapter(folder)

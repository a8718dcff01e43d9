"""Bundles for Cloud AI 100 in every variant: verified, run, made again from their recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import modelc
from modelc.api import Bundle
from modelc.errors import BadInput
from modelc.pipeline.store import Store

PROMPTS = ["In the beginning God created", "The quick brown fox", "def main(argument):"]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "continuous": {"full_batch_size": 2},
    "prefixes": {"full_batch_size": 2, "kv_cache_batch_size": 4},
    "speculation": {"num_speculative_tokens": (2, 4)},
    "lengths": {
        "sdk_version": "1.21",
        "comp_ctx_lengths_prefill": (40, 60),
        "comp_ctx_lengths_decode": (32, 64),
    },
    "one-token-prefill": {"prefill_seq_len": 1, "full_batch_size": 2},
    "decode": {"only": "decode"},
    "repeated": {"repeat_kv_heads": 2, "num_devices": 4},
    "sampling": {"max_top_k": 16, "full_batch_size": 2},
    "oldest": {"sdk_version": "1.20", "full_batch_size": 2},
}


def make(source: Path, store: Path, output: Path, **options: Any) -> Bundle:
    named = {f"qaic_{name}": value for name, value in options.items()}
    return modelc.compile(
        source,
        target="qaic:ai100",
        output=output,
        store=Store(store),
        context_length=64,
        verify_tokens=24,
        qaic_prepare_only=True,
        **{"qaic_prefill_seq_len": 16, **named},
    )


@pytest.fixture(scope="module")
def expected(llama_folder: Path, shared_store: Path, tmp_path_factory: Any) -> list[list[int]]:
    """What the float model writes."""
    output = tmp_path_factory.mktemp("cpu") / "bundle"
    bundle = modelc.compile(
        llama_folder, target="cpu", quant="fp32", output=output, store=Store(shared_store),
        context_length=64,
    )  # fmt: skip
    with bundle:
        return [[*bundle.generate(prompt, 6).token_ids] for prompt in PROMPTS]


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(
    name: str, llama_folder: Path, shared_store: Path, expected: list[list[int]], tmp_path: Path
) -> None:
    with make(llama_folder, shared_store, tmp_path / "bundle", **VARIANTS[name]) as bundle:
        assert bundle.manifest.metrics["sqnr_db"] > 90
        made = bundle.generate_all(PROMPTS, 6)
        assert [[*row.token_ids] for row in made] == expected
        assert bundle.verify().passed
        again = Path(bundle.path, "recipe.toml")
    repeated = modelc.compile(
        llama_folder, recipe=again, output=tmp_path / "again", store=Store(shared_store)
    )
    for path in (tmp_path / "bundle").iterdir():
        assert path.read_bytes() == (repeated.path / path.name).read_bytes(), path.name


def test_prefill_alone(
    llama_folder: Path, shared_store: Path, expected: list[list[int]], tmp_path: Path
) -> None:
    with make(llama_folder, shared_store, tmp_path / "bundle", only="prefill") as bundle:
        assert [*bundle.generate(PROMPTS[0], 1).token_ids] == expected[0][:1]
        with pytest.raises(BadInput, match="has a prefill only"):
            bundle.generate(PROMPTS[0], 2)


def write_adapter(folder: Path, seed: int, rank: int) -> Path:
    folder.mkdir()
    random, tensors = np.random.default_rng(seed), {}
    for layer in range(2):
        for module, width in (("self_attn.q_proj", 64), ("mlp.down_proj", 64)):
            name = f"base_model.model.model.layers.{layer}.{module}"
            inputs = 128 if "down" in module else 64
            tensors[f"{name}.lora_A.weight"] = random.normal(0, 1, (rank, inputs)).astype("f")
            tensors[f"{name}.lora_B.weight"] = random.normal(0, 1, (width, rank)).astype("f")
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_adapters(
    llama_folder: Path, shared_store: Path, expected: list[list[int]], tmp_path: Path
) -> None:
    """The bundle has them, one is chosen by name, and another content is another graph."""
    folders = tuple(write_adapter(tmp_path / name, n, n + 1) for n, name in enumerate(("a", "b")))
    first = make(llama_folder, shared_store, tmp_path / "bundle", adapters=folders)
    assert (first.path / "adapters/b/adapter_model.safetensors").is_file()
    written = []
    for name in (None, "a", "b"):
        with Bundle.open(first.path, adapter=name) as bundle:
            written.append([*bundle.generate(PROMPTS[0], 6).token_ids])
    assert written[0] == expected[0] and len({tuple(row) for row in written}) == 3
    with pytest.raises(BadInput, match="no adapter c"):
        Bundle.open(first.path, adapter="c")
    again = modelc.compile(
        llama_folder, recipe=first.path / "recipe.toml", output=tmp_path / "again",
        store=Store(shared_store),
    )  # fmt: skip
    data = "model.onnx.data"
    assert (again.path / data).read_bytes() == (first.path / data).read_bytes()
    (folders[1] / "adapter_model.safetensors").unlink()
    (folders[1] / "adapter_config.json").unlink()
    folders[1].rmdir()
    write_adapter(folders[1], 9, 2)
    changed = make(llama_folder, shared_store, tmp_path / "changed", adapters=folders)
    assert (changed.path / data).read_bytes() != (first.path / data).read_bytes()


def test_files_that_options_name(llama_folder: Path, shared_store: Path, tmp_path: Path) -> None:
    """They go with the bundle, under their names, and count by what stands in them."""
    nodes, own = tmp_path / "nodes.yaml", tmp_path / "own.json"
    nodes.write_text("FP32NodeInstanceNames:\n  - x\n")
    own.write_text("{}")
    options = {"node_precision_info": nodes, "mdp_load_partition_config": own, "num_devices": 2}
    bundle = make(llama_folder, shared_store, tmp_path / "bundle", **options)
    (argv,) = bundle.manifest.settings["card"]["commands"]
    assert "-node-precision-info=nodes.yaml" in argv
    assert "-mdp-load-partition-config=own.json" in argv
    assert not any(str(tmp_path) in word for word in argv)
    assert (bundle.path / "nodes.yaml").read_text() == nodes.read_text()
    assert (bundle.path / "own.json").read_text() == "{}"
    assert not (bundle.path / "mdp_ts_2.json").exists()
    nodes.write_text("FP32NodeInstanceNames:\n  - y\n")
    bundle = make(llama_folder, shared_store, tmp_path / "other", **options)
    assert "- y" in (bundle.path / "nodes.yaml").read_text()


def test_lengths_that_the_model_has_not(
    llama_folder: Path, shared_store: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="make the context 1024, and the model's is 256"):
        make(llama_folder, shared_store, tmp_path / "bundle", ccl_enabled=True)


def test_the_report_says_what_is_compiled(
    llama_folder: Path, shared_store: Path, tmp_path: Path
) -> None:
    bundle = make(llama_folder, shared_store, tmp_path / "bundle", full_batch_size=3)
    report = (bundle.path / "report.md").read_text()
    assert "not compiled yet" in report and "-aic-binary-dir=qpc" in report
    assert "| Decode | 3 | 1 | 64 | 3 |" in report

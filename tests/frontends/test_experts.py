"""Mixtures of experts in all forms that checkpoints have them in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.random_models import make, model
from support.write_gguf import write_gguf

from modelc.errors import BadInput
from modelc.frontends import read_model
from modelc.frontends.fields import Fields
from modelc.frontends.huggingface.config import read_config

Folders = Callable[[str], Path]


@pytest.fixture
def changed(folder_of: Folders, tmp_path: Path) -> Callable[..., Path]:
    """A function that copies a model's folder with other tensors or other settings."""

    def make(
        identity: str,
        change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = lambda rows: rows,
        **settings: Any,
    ) -> Path:
        target = tmp_path / "changed"
        shutil.copytree(folder_of(identity), target)
        path = target / "model.safetensors"
        save_file(change(load_file(path)), path)
        config = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps({**config, **settings}))
        return target

    return make


def weights(path: Path) -> dict[str, np.ndarray]:
    return {name: matrix.decode() for name, matrix in read_model(path).weights.items()}


def fused(identity: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Experts as transformers holds them in memory, beside all the rest."""
    state = {n: t for n, t in model(identity).state_dict().items() if ".mlp.experts." in n}

    def change(rows: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {n: t for n, t in rows.items() if ".experts." not in n} | state

    return change


@pytest.mark.parametrize("identity", ["mixtral", "qwen2_moe", "qwen3_moe"])
def test_one_tensor_for_all_experts(
    identity: str, folder_of: Folders, changed: Callable[..., Path]
) -> None:
    folder = changed(identity, fused(identity))
    wanted, found = weights(folder_of(identity)), weights(folder)
    assert wanted.keys() == found.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_experts_are_those_of_the_checkpoint(folder_of: Folders) -> None:
    stored = load_file(folder_of("mixtral") / "model.safetensors")
    found = weights(folder_of("mixtral"))
    for mine, theirs in (("gate", "w1"), ("up", "w3"), ("down", "w2")):
        name = f"model.layers.1.block_sparse_moe.experts.2.{theirs}.weight"
        own = found[f"model.layers.1.mlp.experts.2.{mine}_proj.weight"]
        np.testing.assert_array_equal(own, stored[name].numpy())


def test_first_gguf_files_of_mixtral(folder_of: Folders, tmp_path: Path) -> None:
    together, apart = (
        write_gguf(folder_of("mixtral"), tmp_path / f"{together}.gguf", together=together)
        for together in (True, False)
    )
    wanted, found = weights(together), weights(apart)
    assert wanted.keys() == found.keys()
    assert all(np.array_equal(array, found[name]) for name, array in wanted.items())


@pytest.mark.parametrize("quant", ["F16", "Q8_0", "Q5_1", "Q4_0"])
def test_blocks_of_an_expert(quant: str, gguf_of: Callable[..., Path]) -> None:
    path = gguf_of("qwen2_moe", quant)
    found = weights(path)
    for tensor in gguf.GGUFReader(path).tensors:
        if "_exps" not in tensor.name:
            continue
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        _, layer, which, _ = tensor.name.split(".")
        module = f"model.layers.{layer}.mlp.experts"
        for expert in range(4):
            name = f"{module}.{expert}.{which.split('_')[1]}_proj.weight"
            np.testing.assert_array_equal(found[name], values[expert])


def test_which_layers_have_experts(folder_of: Folders) -> None:
    config = read_model(folder_of("qwen2_moe-some_layers")).config
    assert config.experts is not None
    assert config.experts.layers == (1,)
    assert config.windows == (12, 0, 12, 0)


def test_the_number_of_experts_has_two_names(folder_of: Folders) -> None:
    path = folder_of("qwen3_moe") / "config.json"
    values = json.loads(path.read_text())
    count = values.pop("num_local_experts")
    both = (
        read_config(Fields({**values, name: count}, path))
        for name in ("num_experts", "num_local_experts")
    )
    assert len({config.experts for config in both}) == 1
    with pytest.raises(BadInput, match="num_local_experts is 6"):
        read_config(Fields({**values, "num_experts": 5, "num_local_experts": 6}, path))
    with pytest.raises(BadInput, match="mlp_only_layers is"):
        read_config(Fields({**values, "num_experts": 6, "mlp_only_layers": [0.5]}, path))


def test_a_fused_tensor_of_another_size(changed: Callable[..., Path]) -> None:
    folder = changed("mixtral", fused("mixtral"), num_local_experts=3)
    with pytest.raises(BadInput, match=r"is \[4, 64, 128\], not \[3, 64, 128\]"):
        read_model(folder)


def test_experts_fused_and_apart(changed: Callable[..., Path]) -> None:
    folder = changed("qwen2_moe", lambda rows: fused("qwen2_moe")(rows) | rows)
    with pytest.raises(BadInput, match="which another tensor is"):
        read_model(folder)


def test_settings_of_a_gguf(gguf_of: Callable[..., Path], tmp_path: Path) -> None:
    from modelc.frontends.gguf.config import read_config as config_of
    from modelc.frontends.gguf.container import read_container

    def with_settings(identity: str, **settings: Any) -> None:
        made = read_container(gguf_of(identity))
        name = made.metadata["general.architecture"]
        values = {**made.metadata, **{f"{name}.{key}": v for key, v in settings.items()}}
        config_of(Fields(values, made.path), made.tensors)

    for identity, settings, match in (
        ("qwen2", {"expert_count": 4}, "expert_count is 4"),
        ("qwen2_moe", {"expert_count": 0}, "expert_count is 0"),
        ("qwen2_moe", {"expert_used_count": 5}, "expert_used_count is 5"),
        ("qwen3_moe", {"expert_shared_feed_forward_length": 8}, "shared_feed_forward_length is 8"),
        ("qwen3_moe", {"expert_weights_scale": 2.5}, "unknown setting qwen3moe.expert_weights"),
    ):
        with pytest.raises(BadInput, match=match):
            with_settings(identity, **settings)
    with_settings("llama", expert_count=0, expert_used_count=0)


def test_no_experts_in_gguf_that_llama_cpp_would_compute_otherwise(tmp_path: Path) -> None:
    folder = make("qwen2_moe-normalised", tmp_path / "model")
    with pytest.raises(ValueError, match="norm_topk_prob"):
        write_gguf(folder, tmp_path / "model.gguf")

"""Folders that came quantised, against what their writers say the weights are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import quantised_folders
from support.quantised_folders import CASES, set_config

from modelc.decoder.builder import build_decoder
from modelc.errors import BadInput
from modelc.frontends import describe, read_model, source_files
from modelc.ir.coded import CodedMatrix
from modelc.ir.packing.kinds import FloatForm, IntegerForm
from modelc.ir.stored import slice_rows
from modelc.reference.stream import StreamedReference

FolderOf = Callable[[str], Path]
Made = Callable[..., tuple[Path, dict[str, torch.Tensor]]]
DOWN = "model.layers.0.mlp.down_proj"


@pytest.fixture(scope="module")
def made(folder_of: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A function from a way of quantising (and a model) to the folder, not to be changed, and its
    weights."""
    base = tmp_path_factory.mktemp("quantised")

    @cache
    def make(case: str, identity: str = "llama") -> tuple[Path, dict[str, torch.Tensor]]:
        folder = base / f"{identity}-{case}"
        return folder, quantised_folders.write(folder_of(identity), folder, CASES[case])

    return make


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Callable[[str], Path]:
    """A function that copies such a folder."""
    return lambda case: Path(shutil.copytree(made(case)[0], tmp_path / "model"))


@pytest.mark.parametrize("case", CASES)
def test_weights_are_what_their_codes_stand_for(case: str, made: Made) -> None:
    folder, expected = made(case)
    found = read_model(folder).weights
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        matrix, wanted = found[name], values.float().numpy()
        close = {"rtol": 3e-7, "atol": 1e-9, "err_msg": name}
        np.testing.assert_allclose(matrix.decode(), wanted, **close)
        assert isinstance(matrix, CodedMatrix) == name.endswith("_proj.weight")
        if isinstance(matrix, CodedMatrix):
            part = slice_rows(matrix, 5, 30)
            np.testing.assert_allclose(part.decode(), wanted[5:30], **close)
            rows = np.array([3, 24, 0, 11])
            np.testing.assert_allclose(part.decode_rows(rows), wanted[5:30][rows], **close)


@pytest.mark.parametrize(
    ("case", "form"),
    [
        ("gptq", IntegerForm(4, 32)),
        ("gptq-v2-asymmetric", IntegerForm(4, 32, symmetric=False)),
        ("gptq-act-order", IntegerForm(4, 1, symmetric=False)),
        ("gptq-int8", IntegerForm(8)),
        ("gptq-int3", IntegerForm(3, 32, symmetric=False)),
        ("awq", IntegerForm(4, 32, symmetric=False)),
        ("packed-int4", IntegerForm(4, 32)),
        ("int8-channel", IntegerForm(8)),
        ("float8-tensor", FloatForm("e4m3", block_rows=0)),
        ("float8-channel", FloatForm("e4m3")),
        ("fp8-block", FloatForm("e4m3", 40, 24)),
        ("fp8-powers", FloatForm("e4m3", 40, 24, power_scales=True)),
        ("mxfp8", FloatForm("e4m3", 32, power_scales=True)),
        ("mxfp4", FloatForm("e2m1", 32, power_scales=True)),
        ("nf4", None),
        ("bnb-int8", IntegerForm(8)),
    ],
)
def test_the_form_is_known(case: str, form: Any, made: Made) -> None:
    matrix = read_model(made(case)[0]).weights[f"{DOWN}.weight"]
    assert isinstance(matrix, CodedMatrix)
    assert matrix.form == form


@pytest.mark.parametrize(
    ("identity", "case"),
    [
        ("qwen2", "gptq-asymmetric"),  # biases beside the codes
        ("phi3", "gptq"),  # fused matrices
        ("phi3", "fp8-block"),  # whose blocks the cuts go through
        ("gemma2", "awq"),  # a tied head
        ("qwen3", "nf4-nested"),
    ],
)
def test_logits_are_those_of_transformers(
    identity: str, case: str, folder_of: FolderOf, made: Made
) -> None:
    from transformers import AutoModelForCausalLM

    folder, expected = made(case, identity)
    theirs = AutoModelForCausalLM.from_pretrained(folder_of(identity), attn_implementation="eager")
    missing, unknown = theirs.load_state_dict(expected, strict=False)
    assert not unknown
    assert set(missing) <= {"lm_head.weight"}  # tied
    ids = list(range(3, 23))
    with torch.no_grad():
        logits = theirs.float()(torch.tensor([ids])).logits[0].numpy()
    model = build_decoder(read_model(folder), 32)
    ours = StreamedReference(model).logits(np.array(ids))
    np.testing.assert_allclose(ours.reshape(logits.shape), logits, atol=2e-4, rtol=1e-4)


def test_inspection_shows_one_weight_with_its_form(made: Made) -> None:
    tensors = {tensor.name: tensor for tensor in describe(made("gptq")[0]).tensors}
    down = tensors[f"{DOWN}.weight"]
    assert (down.format, down.shape) == ("int4 in blocks of 32 (gptq)", (64, 128))
    assert down.size == 64 * 128 // 2 + 64 * 4 * 2
    assert "model.norm.weight" in tensors
    assert not [name for name in tensors if name.endswith(("qweight", "scales", "g_idx"))]


def test_settings_may_lie_beside_and_files_be_called_otherwise(copy: Callable[[str], Path]) -> None:
    folder = copy("gptq")
    expected = read_model(folder).weights[f"{DOWN}.weight"].decode()
    settings = json.loads((folder / "config.json").read_text())["quantization_config"]
    set_config(folder, quantization_config=None)
    del settings["quant_method"]
    (folder / "quantize_config.json").write_text(json.dumps(settings))
    (folder / "model.safetensors").rename(folder / "gptq_model-4bit-32g.safetensors")
    np.testing.assert_array_equal(read_model(folder).weights[f"{DOWN}.weight"].decode(), expected)
    names = {path.name for path in source_files(folder)}
    assert {"quantize_config.json", "gptq_model-4bit-32g.safetensors"} <= names


def test_scales_of_activations_and_caches_are_left_out(copy: Callable[[str], Path]) -> None:
    folder = copy("float8-tensor")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.k_proj.k_scale"] = torch.tensor(1.0)
    tensors["model.layers.0.self_attn.v_scale"] = torch.tensor(1.0)
    save_file(tensors, folder / "model.safetensors")
    assert f"{DOWN}.weight" in read_model(folder).weights


@pytest.mark.parametrize(
    ("case", "settings", "message"),
    [
        ("gptq", {"quant_method": "hqq"}, "quantised by 'hqq'"),
        ("gptq", {"quant_method": None}, "quant_method is missing"),
        ("gptq", {"bits": 5}, "bits is 5"),
        ("gptq", {"checkpoint_format": "marlin"}, "checkpoint_format"),
        ("gptq", {"checkpoint_format": None, "format": "gptq_p"}, "format is 'gptq_p'"),
        ("awq", {"version": "gemv"}, "version"),
        ("awq", {"format": "gemv_fast"}, "format"),
        ("awq", {"bits": 8}, "bits is 8"),
        ("awq", {"group_size": 48}, "are not 4 groups of 48"),
        ("packed-int4", {"format": "marlin-24"}, "format"),
        ("packed-int4", {"quantization_status": "frozen"}, "quantization_status"),
        ("packed-int4", {"config_groups": [1]}, "config_groups"),
        ("packed-int4", {"sparsity_config": {"format": "sparse-24-bitmask"}}, "format"),
        ("packed-int4", {"transform_config": {"config_groups": {"R3": {}}}}, "transformed"),
        ("fp8-block", {"weight_block_size": [128]}, "weight_block_size"),
        ("fp8-block", {"weight_block_size": [0, 40]}, "weight_block_size"),
        ("fp8-block", {"weight_block_size": [16, 16]}, "are not those of a weight"),
    ],
)
def test_settings_that_are_not_read_are_refused(
    case: str, settings: dict[str, Any], message: str, copy: Callable[[str], Path]
) -> None:
    folder = copy(case)
    found = json.loads((folder / "config.json").read_text())["quantization_config"]
    set_config(folder, quantization_config={**found, **settings})
    with pytest.raises(BadInput, match=message):
        read_model(folder)


def _state(**changes: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    def make(old: torch.Tensor) -> torch.Tensor:
        state = {**json.loads(bytes(old.tolist())), **changes}
        return torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)

    return make


@pytest.mark.parametrize(
    ("case", "part", "change", "message"),
    [
        ("gptq", "qzeros", None, "down_proj.qzeros is missing"),
        ("gptq", "scales", lambda old: old[:, :-1], "scales"),
        ("gptq", "scales", lambda old: old.int(), "I32"),
        ("gptq", "qzeros", lambda old: old[:-1], "qzeros"),
        ("gptq", "qweight", lambda old: old[:-1], "not the codes of 128 inputs"),
        ("gptq", "qweight", lambda old: old[:0], "qweight"),
        ("gptq", "g_idx", lambda old: old + 1, "groups 1 to 4, but there are 4"),
        ("gptq", "g_idx", lambda old: old - 2, "groups -2 to 1"),
        ("gptq-act-order", "g_idx", None, "g_idx is missing"),
        ("awq", "scales", lambda old: old[:-1], "qzeros"),
        ("awq", "qweight", lambda old: old[:-8], "120 inputs are not 4 groups of 32"),
        ("packed-int4", "weight_shape", lambda old: old * 2, "no codes of"),
        ("packed-int4", "weight_shape", lambda old: -old, "weight_shape is -64"),
        ("packed-int4", "weight_shape", lambda old: old << 40, "weight_shape"),
        ("packed-int4", "weight_packed", lambda old: old[:, :-1], "no codes of"),
        ("packed-int4", "weight_scale", lambda old: old[:-1], "outputs must have a scale"),
        ("packed-int4-asymmetric", "weight_zero_point", lambda old: old[:-1], "zero_point"),
        ("int8-channel", "weight", lambda old: old.half(), "F16"),
        ("float8-channel", "weight_scale", lambda old: old[:-1], "are not those of a weight"),
        ("nf4", "weight.absmax", lambda old: old[:-1], "absmax"),
        ("nf4", "weight.quant_map", lambda old: old[:-1], "quant_map"),
        ("nf4", "weight", lambda old: old[:-1], "codes of 4 bits"),
        ("nf4", "weight.quant_state.bitsandbytes__nf4", lambda old: old[:-2], "not valid JSON"),
        ("nf4", "weight.quant_state.bitsandbytes__nf4", _state(blocksize=0), "blocksize"),
        ("nf4", "weight.quant_state.bitsandbytes__nf4", _state(shape=[1 << 60, 2]), "shape"),
        ("nf4", "weight.quant_state.bitsandbytes__nf4", _state(shape=[64, 127]), "share a byte"),
        ("nf4-nested", "weight.nested_absmax", lambda old: old[:0], "nested_absmax"),
        (
            "nf4-nested",
            "weight.quant_state.bitsandbytes__nf4",
            _state(nested_offset="x"),
            "nested_offset",
        ),
        ("bnb-int8", "weight_format", lambda old: old + 1, "by rows"),
        ("bnb-int8", "SCB", lambda old: old[:-1], "SCB"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    case: str, part: str, change: Any, message: str, copy: Callable[[str], Path]
) -> None:
    folder = copy(case)
    tensors = load_file(folder / "model.safetensors")
    name = f"{DOWN}.{part}"
    old = tensors.pop(name)
    if change is not None:
        tensors[name] = change(old).contiguous()
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadInput, match=message) as caught:
        read_model(folder)
    assert DOWN in str(caught.value) or "quant_state" in part

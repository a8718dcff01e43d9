"""Encodings out of one bundle and into another: weights get the same codes."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.commands import Ran

pytestmark = [
    pytest.mark.simulator,
    pytest.mark.skipif(
        importlib.util.find_spec("onnxruntime_qnn") is None, reason="needs onnxruntime-qnn"
    ),
]

RECIPE = """
target = "snapdragon-8-elite"
context_length = 32
ar = 1
splits = 1
[verify]
tokens = 8
min_sqnr_db = -10
min_top1 = 0
max_perplexity_ratio = 100
"""
CALIBRATION = """
[calibration]
samples = 1
sequence_length = 24
"""
QUERIES = "model.layers.0.self_attn.q_proj"
GRAPH = "token_ar1_cl32_1_of_1"
KINDS = ("--override", "lm_head=w4_b64", "--override", "layers.0.mlp.*=w4_lpbq")
Call = Callable[..., Ran]


def quantised(call: Call, source: Path, encodings: Path, out: Path, *options: object) -> Path:
    """The named steps one by one, up to `quantize`."""
    files: list[object] = []
    for name in ("prepare_exports", "split_model", "mha_to_sha", "quantize"):
        arguments = ("--encodings", encodings, *options, "-o", out / name, "--json")
        ran = call("step", name, source, *files, *arguments)
        files = [path for path in ran.json()["files"] if path.endswith(".onnx")]
    return out / "quantize" / f"{GRAPH}.onnx"


def constants(path: Path) -> dict[str, np.ndarray]:
    """The codes, scales and factors of every weight."""
    found = ir.load(path).graph.initializers
    return {name: found[name].const_value.numpy() for name in found if ".weight" in name}


def test_weights_get_the_same_codes(llama_folder: Path, call: Call, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    (tmp_path / "first.toml").write_text(RECIPE + CALIBRATION)
    (tmp_path / "second.toml").write_text(RECIPE)
    plain = ("--recipe", tmp_path / "first.toml", "--quant", "w4a16", *KINDS)
    assert call("compile", llama_folder, *plain, "-o", first).code == 0
    made = quantised(call, llama_folder, first / "encodings.json", tmp_path / "one", *plain)

    file = made.with_suffix(".encodings")
    arguments = ("--recipe", tmp_path / "second.toml", "--encodings", file, "-o", second)
    document = call("compile", llama_folder, *arguments, "--json").json()
    assert "calibrate" not in {step["name"] for step in document["steps"]}
    told = json.loads((second / "imported.json").read_text())
    assert told["weights"]["lm_head"] == "w4_b64"
    assert told["weights"]["model.layers.0.mlp.up_proj"] == "w4_lpbq"
    assert all(name.endswith("norm.weight") for name in told["other_weights"])

    again = quantised(
        call, llama_folder, second / "encodings.json", tmp_path / "two",
        "--recipe", second / "recipe.toml",
    )  # fmt: skip
    theirs, ours = constants(made), constants(again)
    assert theirs.keys() == ours.keys()
    assert {f"{QUERIES}.weight.head_3.{part}" for part in ("codes", "scale")} <= ours.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)

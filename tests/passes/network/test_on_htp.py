"""What the table writes out, in HTP's simulator: one graph of forms that it refuses or computes
wrongly as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.network_graphs import lower, network, node, normal, operators, run

from modelc.ir.write import write_model
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import CompileOptions, compile_graphs

TOLERANCE = 0.01
"""Relative to the largest: half precision has 11 bits, and some of these take it ten times."""


@pytest.mark.simulator
def test_forms_in_the_simulator(tmp_path: Path) -> None:
    feeds = {
        "image": normal(2, 3, 8, 8),
        "rows": normal(2, 3, 4, 5, seed=1),
        "unit": np.tanh(normal(3, 8, seed=2)) * 0.9,
        "pixels": np.arange(192).reshape(1, 3, 8, 8).astype(np.uint8),
        "places": np.array([[-1, 0], [1, -2]], np.int64),
    }
    nodes = [
        node("AveragePool", "image", "average", kernel_shape=[3, 3], pads=[1, 1, 1, 1],
             count_include_pad=1, strides=[2, 2], ceil_mode=1),
        node("MaxPool", "image", "dilated", kernel_shape=[2, 2], dilations=[2, 2]),
        node("Pad", "image edges", "edge", mode="edge"),
        node("Resize", "image _ _ half", "nearest", mode="nearest", nearest_mode="ceil"),
        node("InstanceNormalization", "image scale bias", "instance"),
        node("LayerNormalization", "rows gamma", "layer", axis=-1),
        node("Trilu", "rows", "triangle"),
        node("Einsum", "rows rows", "product", equation="bhid,bhjd->bhij"),
        node("ReduceProd", "unit last", "all", keepdims=0),
        node("Erf", "unit", "erf"),
        node("Asin", "unit", "asin"),
        node("Softplus", "unit", "softplus"),
        node("CumSum", "unit axis", "running", reverse=1),
        node("Cast", "pixels", "numbers", to=1),
        node("GatherElements", "unit places", "found", axis=1),
    ]  # fmt: skip
    constants = {
        "edges": np.array([0, 0, 1, 2, 0, 0, 2, 1]), "half": np.array([2, 3, 5, 3]),
        "scale": normal(3, seed=3), "bias": normal(3, seed=4), "gamma": normal(5, seed=5),
        "last": np.array([1]), "axis": np.array(1),
    }  # fmt: skip
    outputs = " ".join(made.output[0] for made in nodes)
    model = network(nodes, feeds, outputs, constants)
    lowered = lower(model, "network", "htp-network")
    assert not {"Erf", "Trilu", "Einsum", "AveragePool"} & set(operators(lowered))
    write_model(lowered, tmp_path / "forms.onnx")
    compiled = compile_graphs(
        {"forms": tmp_path / "forms.onnx"},
        find_chipset("snapdragon-8-elite"),
        CompileOptions(fp16=True, finalization=1),
        tmp_path / "forms.bin",
        workdir=tmp_path / "work",
        timeout_s=120,
        feeds={"forms": feeds},
    )
    expected = run(model, feeds)
    for name, found in compiled.results["forms"].items():
        largest = np.abs(expected[name]).max()
        assert np.abs(found - expected[name]).max() <= TOLERANCE * largest, name

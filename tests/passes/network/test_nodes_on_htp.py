"""Some of the onnx package's tests of single operators, lowered, compiled for HTP and run in its
simulator: one network of them all. docs/operators.md has every one, each for itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from modelc.errors import BadInput
from modelc.frontends.onnx.network import read_network
from modelc.ir.write import write_model
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import CompileOptions
from modelc.targets.snapdragon.network.compile import compile_network
from modelc.targets.snapdragon.network.options import NetworkOptions
from modelc.targets.snapdragon.network.run import run_network

TOLERANCE = 0.01
"""Relative to the largest: half precision has 11 bits, and some of these take it ten times."""

PASSED: Mapping[str, tuple[str, ...]] = {
    "attention": ("attention_4d_gqa_softcap", "attention_3d_causal"),
    "averagepool": ("averagepool_2d_ceil", "averagepool_3d_dilations_small"),
    "batch_normalization": ("batchnorm_epsilon",),
    "col2im": ("col2im_pads",),
    "conv": ("conv_with_strides_and_asymmetric_padding",),
    "cumsum": ("cumsum_1d_int32_exclusive",),
    "depthtospace": ("depthtospace_crd_mode_example",),
    "gatherelements": ("gather_elements_negative_indices",),
    "gelu": ("gelu_tanh_1",),
    "gemm": ("gemm_all_attributes",),
    "groupnormalization": ("group_normalization_example",),
    "lstm": ("lstm_with_peepholes",),
    "maxpool": ("maxpool_2d_ceil_output_size_reduce_by_one", "maxpool_3d_dilations"),
    "onehot": ("onehot_negative_indices",),
    "pad": ("edge_pad",),
    "reduceprod": ("reduce_prod_do_not_keepdims_random",),
    "resize": ("resize_upsample_sizes_nearest_ceil_half_pixel",),
    "scatterelements": (
        "scatter_elements_with_duplicate_indices", "scatter_elements_with_reduction_mul",
    ),
    "softmax": ("softmax_axis_0",),
    "softplus": ("softplus",),
    "trilu": ("tril_neg",),
    "where": ("where_example",),
}  # fmt: skip
"""Tests by the package's module. Each stands for others: forms that HTP takes as they are, refuses,
or computes wrongly."""

REFUSED: Mapping[str, tuple[str, str]] = {
    "deformconv": ("basic_deform_conv_without_padding", "deformable convolution"),
    "det": ("det_2d", "no such operator"),
    "isnan": ("isnan", "doesn't keep NaN"),
    "scatternd": ("scatternd_max", "doesn't scatter elements by max"),
    "unique": ("unique_sorted_without_axis", "depends on the inputs' numbers"),
}
"""The test and the reason."""


@dataclass(frozen=True)
class Case:
    """One test; its inputs but the first are constants, as sizes and weights are in models."""

    name: str
    graph: onnx.GraphProto
    feeds: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]


@pytest.mark.simulator
def test_operators_in_the_simulator(tmp_path: Path) -> None:
    cases = [case for module, names in PASSED.items() for case in _cases(module, names)]
    source, graph = tmp_path / "source.onnx", tmp_path / "network.onnx"
    onnx.save(_joined(cases), source)
    model = read_network(source)
    for row in ("network", "htp-network"):
        model, _ = run_passes(model, build_pipeline(row, {}), graph="network")
    write_model(model, graph)
    _check_sizes(graph)
    made = compile_network(
        graph,
        "network",
        find_chipset("snapdragon-8-elite"),
        NetworkOptions(CompileOptions(fp16=True, finalization=1)),
        tmp_path / "network.bin",
        workdir=tmp_path / "compile",
        timeout_s=300,
    )
    feeds = {name: array for case in cases for name, array in case.feeds.items()}
    (found,) = run_network(made.wrapper, [feeds], workdir=tmp_path / "run", timeout_s=300)
    wrong = [line for case in cases for line in _differences(case, found)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", REFUSED)
def test_what_is_refused_is_refused_by_name(module: str, tmp_path: Path) -> None:
    name, reason = REFUSED[module]
    onnx.save(_joined(list(_cases(module, (name,)))), tmp_path / "source.onnx")
    model = read_network(tmp_path / "source.onnx")
    model, _ = run_passes(model, build_pipeline("network", {}), graph="network")
    with pytest.raises(BadInput) as caught:
        run_passes(model, build_pipeline("htp-network", {}), graph="network")
    assert reason in caught.value.message
    assert caught.value.hint


def _cases(module: str, names: tuple[str, ...]) -> Iterator[Case]:
    from onnx.backend.test.case import node

    import_module(f"onnx.backend.test.case.node.{module}")  # makes the tests; all would take long
    made = {case.name.removeprefix("test_"): case for case in node._NodeTestCases}
    return (_read(name, made[name]) for name in names)


def _read(name: str, case: Any) -> Case:
    graph = onnx.GraphProto()
    graph.CopyFrom(onnx.compose.add_prefix(case.model, f"{name}.").graph)
    inputs, outputs = ([np.asarray(array) for array in side] for side in case.data_sets[0])
    for value, array in zip((*graph.input, *graph.output), (*inputs, *outputs), strict=True):
        element = value.type.tensor_type.elem_type
        value.type.CopyFrom(helper.make_tensor_type_proto(element, array.shape))
    feeds = {value.name: array for value, array in zip(graph.input, inputs, strict=True)}
    stored = dict(list(feeds.items())[1:])
    graph.initializer.extend(numpy_helper.from_array(array, n) for n, array in stored.items())
    expected = {value.name: array for value, array in zip(graph.output, outputs, strict=True)}
    return Case(name, graph, {n: feeds[n] for n in feeds if n not in stored}, expected)


def _joined(cases: list[Case]) -> onnx.ModelProto:
    """Return one model of all; they mean the same in opset 23."""
    graph = onnx.GraphProto(name="network")
    for case in cases:
        graph.node.extend(case.graph.node)
        graph.initializer.extend(case.graph.initializer)
        graph.input.extend(value for value in case.graph.input if value.name in case.feeds)
        graph.output.extend(case.graph.output)
    opsets = [helper.make_opsetid("", 23)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=11)


def _check_sizes(graph: Path) -> None:
    """ONNX infers the sizes that the passes wrote; the provider refuses others only by chance."""
    onnx.shape_inference.infer_shapes_path(
        str(graph), str(graph.with_name("inferred.onnx")), check_type=True, strict_mode=True
    )


def _differences(case: Case, found: Mapping[str, np.ndarray]) -> Iterator[str]:
    for name, wanted in case.expected.items():
        got = found[name]
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype), name
        if wanted.dtype.kind != "f":
            if not np.array_equal(got, wanted):
                yield f"{name}: {got.tolist()}, not {wanted.tolist()}"
            continue
        error = float(np.abs(got - wanted).max() / np.abs(wanted).max())
        if not error <= TOLERANCE:
            yield f"{name}: off by {error:.2g}"

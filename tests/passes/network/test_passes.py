"""Each pass over networks: golden text before and after, and the same numbers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.golden import check_golden
from support.network_graphs import assert_same, lower, network, node, normal, operators, run

from modelc.errors import BadInput
from modelc.ir.emit import dims_of
from modelc.ir.provenance import module_of
from modelc.ir.text import to_text
from modelc.passes.base import Pass, run_passes
from modelc.passes.network.decompose_operators import written_out
from modelc.passes.network.fold_constants import FoldConstants
from modelc.passes.network.reduce_rank import merged
from modelc.passes.pipelines import PIPELINES, build_pipeline

GOLDEN = Path(__file__).parent / "golden"

_spec = importlib.util.spec_from_file_location("network_cases", Path(__file__).parent / "graphs.py")
assert _spec is not None and _spec.loader is not None
graphs = importlib.util.module_from_spec(_spec)
sys.modules["network_cases"] = graphs
_spec.loader.exec_module(graphs)


def passes() -> dict[str, Pass]:
    rows = ("network", "htp-network")
    return {step.name: step for row in rows for step in build_pipeline(row, {})}


def apply(name: str, model: ir.Model) -> ir.Model:
    return run_passes(model.clone(), [passes()[name]], graph="network")[0]


def test_every_pass_has_a_golden_text() -> None:
    assert {*graphs.CASES, "check_operators"} == set(passes())


@pytest.mark.parametrize("name", graphs.CASES)
def test_golden_pair(name: str) -> None:
    case = graphs.CASES[name]()
    check_golden(GOLDEN / f"{name}.before.txt", to_text(case.model))
    check_golden(GOLDEN / f"{name}.after.txt", to_text(apply(name, case.model)))


@pytest.mark.parametrize("name", graphs.CASES)
def test_numbers_sizes_and_modules_stay(name: str) -> None:
    case = graphs.CASES[name]()
    after = apply(name, case.model)
    assert_same(run(case.model, case.feeds), run(after, case.feeds))
    assert operators(after) != operators(case.model) or name == "bound_masks"
    known = {module_of(made) for made in case.model.graph}
    for made in after.graph:
        assert set(module_of(made).split("+")) <= known
        assert all(isinstance(dim, int) for value in made.outputs for dim in dims_of(value))


@pytest.mark.parametrize("name", graphs.CASES)
def test_whole_rows(name: str) -> None:
    case = graphs.CASES[name]()
    after = lower(case.model, "network", "htp-network")
    assert_same(run(case.model, case.feeds), run(after, case.feeds))
    assert lower(after, "network", "htp-network") is not None
    again = operators(lower(after, "network", "htp-network"))
    assert again == operators(after), "lowering what is lowered changes it"


def test_the_fused_ones() -> None:
    assert operators(apply("fuse_norms", graphs.CASES["fuse_norms"]().model)) == [
        "LayerNormalization",
        "RMSNormalization",
    ]
    assert operators(apply("fuse_activations", graphs.CASES["fuse_activations"]().model)) == [
        "Gelu",
        "Gelu",
        "HardSwish",
        "Mish",
    ]
    fused = operators(apply("fuse_batch_norm", graphs.CASES["fuse_batch_norm"]().model))
    assert fused == ["Mul", "Add", "Conv", "ConvTranspose"]


def test_what_others_read_is_not_fused_away() -> None:
    feeds = {"x": normal(1, 2, 3, 3)}
    nodes = [
        node("Conv", "x kernel", "a"),
        node("BatchNormalization", "a one zero zero one", "b"),
        node("Add", "a b", "y"),
    ]
    constants = {
        "kernel": normal(2, 2, 1, 1),
        "one": np.ones(2, np.float32),
        "zero": np.zeros(2, np.float32),
    }
    model = network(nodes, feeds, "y", constants)
    after = apply("fuse_batch_norm", model)
    assert operators(after) == ["Conv", "Mul", "Add", "Add"]
    assert_same(run(model, feeds), run(after, feeds))


def test_a_guard_for_rows_that_are_hidden_wholly_goes() -> None:
    bias = np.array([[0, -np.inf], [-np.inf, 0]], np.float32)
    nodes = [
        node("Add", "x bias", "scores"),
        node("Softmax", "scores", "chances", axis=-1),
        node("ReduceMax", "bias axes", "largest"),
        node("Equal", "largest lowest", "nothing"),
        node("Where", "nothing zero chances", "y"),
    ]
    feeds = {"x": normal(2, 2), "bias": bias}
    constants = {"zero": np.float32(0), "lowest": np.float32(-np.inf), "axes": np.array([-1])}
    model = network(nodes, feeds, "y", constants)
    after = apply("bound_masks", model)
    assert "Where" not in operators(after)
    assert_same(run(model, feeds), run(after, feeds))


@pytest.mark.parametrize("slope, shift", [(0.2, 0.5), (1 / 6, 0.4)])
def test_another_gate_is_no_hard_swish(slope: float, shift: float) -> None:
    nodes = [
        node("HardSigmoid", "x", "gate", alpha=slope, beta=shift),
        node("Mul", "x gate", "y"),
    ]
    model = network(nodes, {"x": normal(2, 3)}, "y")
    assert operators(apply("fuse_activations", model)) == ["HardSigmoid", "Mul"]


@pytest.mark.parametrize("axis", [0, 1])
def test_a_norm_over_another_axis_stays(axis: int) -> None:
    nodes = [
        node("Mul", "x x", "squares"),
        node("ReduceMean", "squares axis", "mean"),
        node("Add", "mean epsilon", "shifted"),
        node("Sqrt", "shifted", "root"),
        node("Div", "x root", "y"),
    ]
    constants = {"axis": np.array([axis]), "epsilon": np.float32(1e-6)}
    model = network(nodes, {"x": normal(2, 3, 4)}, "y", constants)
    assert "RMSNormalization" not in operators(apply("fuse_norms", model))


def test_what_is_told_to_grow_is_not_folded() -> None:
    nodes = [node("ConstantOfShape", "sizes", "big"), node("ReduceMax", "big", "m", keepdims=0),
             node("Add", "x m", "y")]  # fmt: skip
    model = network(nodes, {"x": normal(2)}, "y", {"sizes": np.array([1 << 20, 1 << 10])})
    kept, _ = run_passes(model.clone(), [FoldConstants()], graph="network")
    assert operators(kept) == ["ConstantOfShape", "ReduceMax", "Add"]
    small = network(nodes, {"x": normal(2)}, "y", {"sizes": np.array([4, 4])})
    assert operators(apply("fold_constants", small)) == ["Add"]


def test_large_results_are_computed_when_they_are_read() -> None:
    weight = normal(600, 700)
    nodes = [node("Transpose", "weight", "turned"), node("MatMul", "x turned", "y")]
    model = network(nodes, {"x": normal(2, 700)}, "y", {"weight": weight})
    after = apply("fold_constants", model)
    tensor = after.graph.initializers["turned"].const_value
    assert isinstance(tensor, ir.LazyTensor)
    assert np.array_equal(tensor.numpy(), weight.T)


def test_what_is_written_out_is_known_before() -> None:
    case = graphs.CASES["decompose_operators"]()
    text = to_text(case.model)
    found = written_out(case.model)
    assert [(one.operator, one.module) for one in found] == [
        ("Trilu", "a"), ("Erf", "b"), ("AveragePool", "c"), ("Einsum", "d"), ("ReduceL1", "y"),
    ]  # fmt: skip
    assert found[2].operators == ("Conv", "Mul")
    assert all(one.reason for one in found)
    assert to_text(case.model) == text


def test_refused_nodes_are_named_together() -> None:
    nodes = [
        node("IsNaN", "x", "a"),
        node("Cast", "a", "b", to=1),
        node("Det", "m", "c"),
        node("Add", "b c", "y"),
    ]
    model = network(nodes, {"x": normal(2), "m": normal(3, 3)}, "y")
    with pytest.raises(BadInput) as caught:
        lower(model, "network", "htp-network")
    assert caught.value.exit_code == 2
    assert "2 of the network's 4 nodes" in caught.value.message
    assert "IsNaN in a: HTP doesn't keep NaN" in caught.value.message
    assert "Det in c: HTP has no such operator" in caught.value.message
    assert operators(lower(model, "network", "htp-network-fallback")) == operators(model)


def test_a_users_own_operator_is_left_alone() -> None:
    model = network([node("Relu", "x", "y")], {"x": normal(2)}, "y")
    only = model.graph[0]
    only.domain, only.op_type = "my.package", "Erf"
    model.opset_imports["my.package"] = 1
    assert operators(lower(model, "network", "htp-network")) == ["Erf"]


def test_neighbouring_axes_of_one_kind_are_merged() -> None:
    assert merged(["a", "a", "b"], [2, 3, 4]) == [[0, 1], [2]]
    assert merged(["a", "b", "a"], [2, 1, 3]) == [[0, 1, 2]]
    assert merged(["a", "b"], [1, 3]) == [[0, 1]]
    assert merged(["a", "b", "a"], [2, 3, 4]) == [[0], [1], [2]]


def test_rows_name_their_passes_once_each() -> None:
    for row in ("network", "htp-network", "htp-network-fallback"):
        assert len(set(PIPELINES[row])) == len(PIPELINES[row])

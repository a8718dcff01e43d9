"""Sizes that a file leaves open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_sources import assert_canonical, assert_close, run_file, run_graph, write_graph

from modelc.errors import BadInput
from modelc.frontends.onnx.network import read_network

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@pytest.fixture
def attention(tmp_path: Path) -> Path:
    """x [batch, seq, 4] and mask [batch, ?] -> scores of heads, as exporters compute shapes."""
    constants = {
        "zero": np.array(0), "one": np.array(1), "heads": np.array([2]), "rest": np.array([-1]),
        "axis": np.array([0]), "half": np.array(2),
    }  # fmt: skip
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "zero"], ["batch"]),
        helper.make_node("Gather", ["sizes", "one"], ["length"]),
        helper.make_node("Unsqueeze", ["batch", "axis"], ["batches"]),
        helper.make_node("Unsqueeze", ["length", "axis"], ["lengths"]),
        helper.make_node("Concat", ["batches", "lengths", "heads", "rest"], ["split"], axis=0),
        helper.make_node("Reshape", ["x", "split"], ["apart"]),
        helper.make_node("Range", ["zero", "length", "one"], ["places"]),
        helper.make_node("Div", ["places", "half"], ["halves"]),
        helper.make_node("Cast", ["halves"], ["numbers"], to=FLOAT),
        helper.make_node("Unsqueeze", ["numbers", "last"], ["columns"]),
        helper.make_node("Add", ["apart", "columns"], ["moved"]),
        helper.make_node("Concat", ["batches", "rest"], ["flat_sizes"], axis=0),
        helper.make_node("Reshape", ["moved", "flat_sizes"], ["flat"]),
        helper.make_node("Concat", ["flat", "mask"], ["y"], axis=1),
    ]
    constants["last"] = np.array([1, 2])
    graph = helper.make_graph(
        nodes,
        "attention",
        [
            helper.make_tensor_value_info("x", FLOAT, ["batch", "seq", 4]),
            helper.make_tensor_value_info("mask", FLOAT, ["batch", None]),
        ],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", "total"])],
        [onnx.numpy_helper.from_array(a.astype(np.int64), n) for n, a in constants.items()],
    )
    return write_graph(tmp_path / "attention.onnx", graph, 17)


def test_every_size_follows(attention: Path, tmp_path: Path) -> None:
    model = read_network(attention, {"batch": 2, "seq": 5, "mask.1": 3})
    assert_canonical(model)
    assert [node.op_type for node in model.graph] == ["Reshape", "Add", "Reshape", "Concat"]
    assert [list(value.shape or ()) for value in model.graph.outputs] == [[2, 23]]
    rng = np.random.default_rng(0)
    feeds = {"x": rng.random((2, 5, 4), np.float32), "mask": rng.random((2, 3), np.float32)}
    assert_close(run_graph(model, feeds, tmp_path), run_file(attention, feeds))


def test_a_place_fixes_its_symbol(attention: Path) -> None:
    model = read_network(attention, {"x.0": 2, "x.1": 1, "mask.1": 1})
    assert [list(value.shape or ()) for value in model.graph.inputs] == [[2, 1, 4], [2, 1]]


def test_all_open_sizes_are_named(attention: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read_network(attention, {"seq": 4})
    message = "sizes are open: batch (x axis 0, mask axis 0); mask.1 (mask axis 1)"
    assert caught.value.message == message
    assert "--dim batch=1 --dim mask.1=1" in caught.value.hint
    assert caught.value.where.path == str(attention)


@pytest.mark.parametrize(
    ("dims", "message", "hint"),
    [
        ({"bath": 1}, "no open size 'bath'", "did you mean batch"),
        ({"batch": 0}, "batch=0 is no size", "1 or more"),
        ({"batch": 2**31}, "is no size", "1 or more"),
        ({"x.2": 3}, "the model fixes it to 4", "leave it out"),
        ({"batch": 1, "mask.0": 2}, "batch is given as 1 and as 2", "once"),
    ],
)
def test_wrong_sizes_are_refused(
    dims: dict[str, int], message: str, hint: str, attention: Path
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        read_network(attention, {"seq": 4, "mask.1": 2, **dims})
    assert hint in caught.value.hint


def test_a_size_that_is_fixed_may_be_given(attention: Path) -> None:
    read_network(attention, {"batch": 1, "seq": 4, "mask.1": 2, "x.2": 4})


def test_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["y"], name="/block/sum/Add")],
        "sum",
        [helper.make_tensor_value_info(name, FLOAT, [name]) for name in "ab"],
        [helper.make_tensor_value_info("y", FLOAT, None)],
    )
    with pytest.raises(BadInput, match="Add can't take what it is given") as caught:
        read_network(write_graph(tmp_path / "sum.onnx", graph), {"a": 2, "b": 3})
    assert caught.value.where.module == "block.sum"


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_below_one_count_as_open(size: int, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", FLOAT, [size, 3])],
        [helper.make_tensor_value_info("y", FLOAT, [size, 3])],
    )
    path = write_graph(tmp_path / "one.onnx", graph)
    model = read_network(path, {"x.0": 7})
    assert list(model.graph.outputs[0].shape or ()) == [7, 3]
    with pytest.raises(BadInput, match=r"sizes are open: x.0 \(x axis 0\)"):
        read_network(path)

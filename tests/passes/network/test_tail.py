"""A network is cut before what gives sizes that depend on data, and both parts together give what
ONNX Runtime gives of the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from support.detectors import images, write_detector, write_proposals
from support.onnx_sources import run_file, run_graph, tensor_type, write_graph

from modelc.errors import BadInput
from modelc.frontends.onnx.network import read_network
from modelc.passes.network.tail import ALONE, BEHIND, OPEN, Cut, check_cut, cut_tail, join_tail

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 8])


def cut_of(path: Path, **dims: int) -> Cut:
    cut = cut_tail(read_network(path, dims))
    assert cut is not None
    return cut


@pytest.mark.parametrize("write", [write_detector, write_proposals])
def test_the_parts_give_what_the_whole_does(write: Callable[[Path], Path], tmp_path: Path) -> None:
    path = write(tmp_path / "detector.onnx")
    cut = cut_of(path, batch=1)
    assert all(value.shape is not None and value.shape.is_static()
               for node in cut.head.graph for value in node.outputs)  # fmt: skip
    sizes = set()
    for image in (*images(3), np.zeros_like(images(1)[0])):
        feeds = {"x": image}
        wanted = run_file(path, feeds)
        made = feeds | run_graph(cut.head, feeds, tmp_path)
        taken = {str(value.name): made[str(value.name)] for value in cut.tail.graph.inputs}
        found = made | run_graph(cut.tail, taken, tmp_path)
        joined = run_graph(join_tail(cut.head, cut.tail, list(wanted)), feeds, tmp_path)
        assert list(joined) == list(wanted)
        for name, array in wanted.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-5)
            np.testing.assert_array_equal(joined[name], found[name])
            sizes.add(len(array))
    assert len(sizes) > 1


def test_what_crosses(tmp_path: Path) -> None:
    """The same tensor in another shape doesn't cross twice."""
    cut = cut_of(write_detector(tmp_path / "detector.onnx"), batch=1)
    assert cut.crossing == ("all_boxes", "all_scores")
    why = {node.name: node.why for node in cut.nodes}
    assert why["/nms/NonMaxSuppression"] == OPEN and why["/nms/GatherND"] == BEHIND
    assert why["/nms/Squeeze_1"] == ALONE and len(why) == 8


def test_an_inner_graph_reads_across_the_cut(tmp_path: Path) -> None:
    """The branches read tensors of the head that no input of the If names."""
    cut = cut_of(write_proposals(tmp_path / "proposals.onnx"), batch=1)
    assert set(cut.crossing) == {"all_scores_flat", "top"}
    assert {node.op_type for node in cut.nodes} >= {"If", "TopK", "NonZero"}
    assert "Greater" not in {node.op_type for node in cut.head.graph}  # it selects for NonZero


def test_a_choice_that_the_head_needs_stays_there(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["best", "at"], "/select/TopK"),
        helper.make_node("MatMul", ["best", "w"], ["y"], "/fc/MatMul"),
        helper.make_node("NonZero", ["best"], ["places"], "/out/NonZero"),
    ]
    stored = {"k": np.array([2]), "w": np.ones((2, 3), np.float32)}
    outputs = [tensor_type("y", None, [4, 3]), tensor_type("places", np.zeros((2, 1), int))]
    outputs[1].type.tensor_type.shape.dim[1].dim_param = "n"
    tensors = [ir.serde.serialize_tensor(ir.tensor(a, name=n)) for n, a in stored.items()]
    graph = helper.make_graph(nodes, "g", [X], outputs, tensors)
    cut = cut_of(write_graph(tmp_path / "g.onnx", graph))
    assert [node.op_type for node in cut.nodes] == ["NonZero"]
    assert [value.name for value in cut.head.graph.outputs] == ["y", "best"]
    assert "w" not in cut.tail.graph.initializers


def test_a_static_network_has_no_tail(tmp_path: Path) -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [X],
                              [tensor_type("y", None, [4, 8])])  # fmt: skip
    assert cut_tail(read_network(write_graph(tmp_path / "g.onnx", graph))) is None


def test_refusals(tmp_path: Path) -> None:
    cut = cut_of(write_detector(tmp_path / "detector.onnx"), batch=1)
    check_cut(cut, True)
    with pytest.raises(BadInput, match=r"behind NonMaxSuppression in nms.*8 of 23") as caught:
        check_cut(cut, False)
    assert "--allow-cpu-fallback" in caught.value.hint and caught.value.where.module == "nms"
    output = helper.make_tensor_value_info("y", TensorProto.INT64, [2, "n"])
    graph = helper.make_graph([helper.make_node("NonZero", ["x"], ["y"])], "g", [X], [output])
    with pytest.raises(BadInput, match="leaves nothing for HTP"):
        check_cut(cut_of(write_graph(tmp_path / "g.onnx", graph)), True)

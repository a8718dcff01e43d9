"""Files that are damaged, or made to do harm, are refused."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper
from support.onnx_sources import assert_close, run_file, run_graph

from modelc.errors import BadInput
from modelc.frontends.onnx.network import network_files, read_network

FLOAT = TensorProto.FLOAT
X = helper.make_tensor_value_info("x", FLOAT, [2, 3])
Y = helper.make_tensor_value_info("y", FLOAT, [2, 3])
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def model(*nodes: onnx.NodeProto, **weights: np.ndarray) -> ModelProto:
    nodes = nodes or (helper.make_node("Add", ["x", "w"], ["y"]),)
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(list(nodes), "g", [X], [Y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save(proto: ModelProto, folder: Path) -> Path:
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return folder / "model.onnx"


def outside(tensor: TensorProto, **entries: object) -> None:
    """Move a tensor's data to a file, or where the entries say."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", **entries}.items():
        tensor.external_data.add(key=key, value=str(value))


@pytest.fixture
def apart(tmp_path: Path) -> ModelProto:
    """A model whose weight lies in weights.bin."""
    (tmp_path / "weights.bin").write_bytes(bytes(16) + WEIGHT.tobytes())
    proto = model(w=WEIGHT)
    outside(proto.graph.initializer[0], offset=16, length=24)
    return proto


def test_weights_outside_stay_there(apart: ModelProto, tmp_path: Path) -> None:
    import onnx_ir as ir

    path = save(apart, tmp_path)
    graph = read_network(path)
    (weight,) = graph.graph.initializers.values()
    assert isinstance(weight.const_value, ir.ExternalTensor)
    assert network_files(path) == (path, tmp_path / "weights.bin")
    feeds = {"x": WEIGHT}
    assert_close(run_graph(graph, feeds, tmp_path), run_file(path, feeds))


def test_weights_in_branches_are_found(tmp_path: Path) -> None:
    path = save(branches(tmp_path), tmp_path)
    assert network_files(path) == (path, tmp_path / "weights.bin")
    feeds = {"x": WEIGHT}
    assert_close(run_graph(read_network(path), feeds, tmp_path), run_file(path, feeds))


def branches(folder: Path) -> ModelProto:
    """An If whose way is known, and whose branch has its weights in weights.bin."""
    (folder / "weights.bin").write_bytes(WEIGHT.tobytes())
    weight = onnx.numpy_helper.from_array(WEIGHT, "w")
    outside(weight)
    result = onnx.ValueInfoProto(name="z")
    taken = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["z"])], "t", [], [result],
                              [weight])  # fmt: skip
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["z"])], "e", [], [result])
    node = helper.make_node("If", ["yes"], ["y"], then_branch=taken, else_branch=other)
    return model(node, yes=np.array(True))


def beyond(proto: ModelProto) -> None:
    entry = next(e for e in proto.graph.initializer[0].external_data if e.key == "offset")
    entry.value = "20"


def location(value: str) -> Callable[[ModelProto], None]:
    def change(proto: ModelProto) -> None:
        proto.graph.initializer[0].external_data[0].value = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (beyond, "weights are cut short"),
        (location("gone.bin"), "weights are not here"),
        (location("../weights.bin"), "outside of its folder"),
        (location("/etc/passwd"), "outside of its folder"),
        (location("link.bin"), "outside of its folder"),
        (location(""), "weights are not here"),
    ],
)
def test_places_of_weights(
    change: Callable[[ModelProto], None], message: str, apart: ModelProto, tmp_path: Path
) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "weights.bin").rename(folder / "weights.bin")
    (tmp_path / "secret.bin").write_bytes(bytes(100))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    change(apart)
    for read in (read_network, network_files):
        with pytest.raises(BadInput, match=message):
            read(save(apart, folder))


def test_places_of_weights_in_branches(tmp_path: Path) -> None:
    proto = branches(tmp_path)
    taken = next(a.g for a in proto.graph.node[0].attribute if a.name == "then_branch")
    taken.initializer[0].external_data[0].value = "../x"
    with pytest.raises(BadInput, match="outside of its folder"):
        read_network(save(proto, tmp_path))


def sparse(graph: GraphProto) -> None:
    graph.sparse_initializer.add().values.name = "s"


def sparse_constant(graph: GraphProto) -> None:
    node = graph.node.add(op_type="Constant", output=["s"])
    node.attribute.add(name="sparse_value", type=AttributeProto.SPARSE_TENSOR)
    node.attribute[0].sparse_tensor.dims.append(1)


def short(graph: GraphProto) -> None:
    graph.initializer[0].dims[0] = 3


def huge(graph: GraphProto) -> None:
    graph.initializer[0].dims[0] = 1 << 62


def negative(graph: GraphProto) -> None:
    graph.initializer[0].dims[0] = -2


def untyped(graph: GraphProto) -> None:
    graph.initializer[0].data_type = 99


def twice(graph: GraphProto) -> None:
    graph.node.append(graph.node[0])


def same_inputs(graph: GraphProto) -> None:
    graph.input.append(graph.input[0])


def circle(graph: GraphProto) -> None:
    graph.node[0].input[1] = "back"
    graph.node.append(helper.make_node("Neg", ["y"], ["back"]))


def unmade(graph: GraphProto) -> None:
    graph.node[0].input[1] = "nowhere"


def no_output(graph: GraphProto) -> None:
    graph.output[0].name = "nowhere"


def empty(graph: GraphProto) -> None:
    del graph.node[:]


def sequence(graph: GraphProto) -> None:
    graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = FLOAT


def shapeless(graph: GraphProto) -> None:
    graph.input[0].type.tensor_type.ClearField("shape")


def no_branch(graph: GraphProto) -> None:
    graph.node.append(helper.make_node("If", ["x"], ["z"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (sparse, "sparse initialisers"),
        (sparse_constant, "sparse tensor"),
        (short, "doesn't hold what its type and sizes"),
        (huge, "doesn't hold what its type and sizes"),
        (negative, "doesn't hold what its type and sizes"),
        (untyped, "doesn't hold what its type and sizes"),
        (twice, "two things in it are called 'y'"),
        (same_inputs, "two of its inputs are called 'x'"),
        (circle, "its nodes go in circles"),
        (unmade, "Add reads 'nowhere', which nothing makes"),
        (no_output, "nothing makes its output 'nowhere'"),
        (empty, "it has no nodes"),
        (sequence, "input x is no tensor"),
        (shapeless, "input x has no shape"),
        (no_branch, "isn't used as opset 17 defines it"),
    ],
)
def test_unsound_graphs(change: Callable[[GraphProto], None], message: str, tmp_path: Path) -> None:
    proto = model(w=WEIGHT)
    change(proto.graph)
    with pytest.raises(BadInput, match=message) as caught:
        read_network(save(proto, tmp_path))
    assert caught.value.hint
    assert caught.value.where.path == str(tmp_path / "model.onnx")


@pytest.mark.parametrize(("opset", "message"), [(6, "too old"), (99, "newer than"), (0, "which")])
def test_opsets(opset: int, message: str, tmp_path: Path) -> None:
    proto = model(w=WEIGHT)
    del proto.opset_import[:]
    if opset:
        proto.opset_import.append(helper.make_opsetid("", opset))
    with pytest.raises(BadInput, match=message):
        read_network(save(proto, tmp_path))


def test_texts_that_are_no_text(tmp_path: Path) -> None:
    proto = model(helper.make_node("Add", ["x", "w"], ["y"], name="NAME"), w=WEIGHT)
    path = save(proto, tmp_path)
    path.write_bytes(path.read_bytes().replace(b"NAME", b"\xff\xfeME"))
    with pytest.raises(BadInput, match="not UTF-8"):
        read_network(path)


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    proto = model(
        helper.make_node("Neg", ["a"], ["y"]), helper.make_node("Add", ["x", "w"], ["a"]), w=WEIGHT
    )
    graph = read_network(save(proto, tmp_path))
    assert [node.op_type for node in graph.graph] == ["Add", "Neg"]
    result = run_graph(graph, {"x": WEIGHT}, tmp_path)
    np.testing.assert_array_equal(result["y"], -2 * WEIGHT)


def constants(sizes: list[int]) -> ModelProto:
    filled = helper.make_node("ConstantOfShape", ["sizes"], ["big"])
    return model(filled, helper.make_node("ReduceSum", ["big"], ["y"]),
                 sizes=np.array(sizes, np.int64))  # fmt: skip


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="gives a tensor of sizes") as caught:
        read_network(save(constants([1 << 20, 1 << 20, 1 << 20]), tmp_path))
    assert "elements at most" in caught.value.hint


def test_what_is_large_is_not_computed(tmp_path: Path) -> None:
    """4 GB of zeros, of which read_network makes none."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    graph = read_network(save(constants([1 << 10, 1 << 20]), tmp_path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert [node.op_type for node in graph.graph] == ["ConstantOfShape", "ReduceSum"]


def test_a_file_over_two_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        os.truncate(file.fileno(), (1 << 31) + 1)
    with pytest.raises(BadInput, match="2 GB"):
        read_network(path)

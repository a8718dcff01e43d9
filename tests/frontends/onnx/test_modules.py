"""Module paths, from wherever an exporter leaves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_sources import assert_canonical, assert_close, run_file, run_graph, write_graph

from modelc.errors import BadInput
from modelc.frontends.onnx.network import read_network
from modelc.ir.provenance import module_of

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])


def modules_of(path: Path) -> list[str]:
    model = read_network(path)
    assert_canonical(model)
    return [module_of(node) for node in model.graph]


@pytest.mark.parametrize(
    ("name", "module"),
    [
        (
            "/encoder/layer.0/attention/self/query/MatMul",
            "encoder.layer.0.attention.self.query",
        ),
        ("/layer1/layer1.0/conv1/Conv_1", "layer1.0.conv1"),
        ("/features/features.1/features.1.0/Relu", "features.1.0"),
        ("model/block_1/conv/Conv2D", "model.block_1.conv"),
        ("/Softmax", "Softmax"),
        ("MatMul_12", "MatMul_12"),
        ("", "y"),
    ],
)
def test_names_of_nodes(name: str, module: str, tmp_path: Path) -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name=name)], "g", [X], [Y])
    assert modules_of(write_graph(tmp_path / "m.onnx", graph)) == [module]


@pytest.mark.parametrize(
    ("scopes", "module"),
    [
        ("['', 'encoder', 'encoder.layer.0', 'linear']", "encoder.layer.0"),
        ("['', 'relu']", "the_node"),
        ("['', 'encoder'", "the_node"),
        ("[" * 3000, "the_node"),
        ("[__import__('os')]", "the_node"),
    ],
)
def test_scopes_of_pytorch(scopes: str, module: str, tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="the_node")
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File /home/me/model.py")
    path = write_graph(tmp_path / "m.onnx", helper.make_graph([node], "g", [X], [Y]))
    (kept,) = read_network(path).graph
    assert dict(kept.metadata_props) == {"modelc.module": module}


def test_nodes_made_of_an_old_one_are_its_modules(tmp_path: Path) -> None:
    old = helper.make_node("Softmax", ["x"], ["y"], name="/head/probabilities/Softmax", axis=0)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    graph = helper.make_graph([old], "g", ports[:1], ports[1:])
    path = write_graph(tmp_path / "m.onnx", graph, 11)
    modules = modules_of(path)
    assert len(modules) > 1 and set(modules) == {"head.probabilities"}


def nested(tmp_path: Path, **changes: Any) -> Path:
    """Functions as exporters write them: a block that calls a layer twice; opset 11 inside."""
    old, new = helper.make_opsetid("", 11), helper.make_opsetid("", 17)
    local = helper.make_opsetid("local", 1)
    layer = helper.make_function(
        "local", "Layer", ["a"], ["b"],
        [
            helper.make_node("Softmax", ["a"], ["s"], name="activation/Softmax", axis=0),
            helper.make_node("Clip", ["s"], ["b"], name="Clip_1") if changes.get("plain") else
            helper.make_node("Unsqueeze", ["s"], ["b"], name="Unsqueeze_1", axes=[0]),
        ],
        [old, local],
    )  # fmt: skip
    if changes.get("recursive"):
        layer.node[1].CopyFrom(helper.make_node("Layer", ["s"], ["b"], domain="local"))
    block = helper.make_function(
        "local", "Block", ["a"], ["c"],
        [
            helper.make_node("Layer", ["a"], ["b"], name="layers.0", domain="local"),
            helper.make_node("Layer", ["b"], ["c"], name="layers.1", domain="local"),
        ],
        [new, local],
    )  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["r"], name="stem/Relu"),
            helper.make_node("Block", ["r"], ["y"], name="encoder", domain="local"),
        ],
        "g",
        [X],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    return write_graph(
        tmp_path / "functions.onnx", graph, 17, imports=[local], functions=[layer, block]
    )


def test_calls_of_functions(tmp_path: Path) -> None:
    path = nested(tmp_path)
    modules = modules_of(path)
    assert list(dict.fromkeys(modules)) == [
        "stem",
        "encoder.layers.0.activation",
        "encoder.layers.0",
        "encoder.layers.1.activation",
        "encoder.layers.1",
    ]
    assert list(read_network(path).graph.outputs[0].shape or ()) == [1, 1, 1, 3]


def test_functions_of_other_opsets_mean_the_same(tmp_path: Path) -> None:
    """ONNX Runtime wants one opset, so the same graph is written flat for it."""
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal((1, 3)).astype(np.float32)}
    flat = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("Softmax", ["r"], ["s"], axis=0),
            helper.make_node("Unsqueeze", ["s"], ["b"], axes=[0]),
            helper.make_node("Softmax", ["b"], ["t"], axis=0),
            helper.make_node("Unsqueeze", ["t"], ["y"], axes=[0]),
        ],
        "g",
        [X],
        [onnx.ValueInfoProto(name="y")],
    )
    want = run_file(write_graph(tmp_path / "flat.onnx", flat, 11), feeds)
    assert_close(run_graph(read_network(nested(tmp_path)), feeds, tmp_path), want)


def test_functions_that_call_themselves_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a function calls itself"):
        read_network(nested(tmp_path, recursive=True))


def test_calls_that_grow_without_bound_are_refused(tmp_path: Path) -> None:
    local, opset = helper.make_opsetid("local", 1), helper.make_opsetid("", 17)
    functions = [
        helper.make_function("local", "F0", ["a"], ["b"],
                             [helper.make_node("Relu", ["a"], ["b"])], [opset]),
        *(helper.make_function(
            "local", f"F{n}", ["a"], ["c"],
            [helper.make_node(f"F{n - 1}", ["a"], ["b"], domain="local"),
             helper.make_node(f"F{n - 1}", ["b"], ["c"], domain="local")],
            [opset, local]) for n in range(1, 40)),
    ]  # fmt: skip
    graph = helper.make_graph([helper.make_node("F39", ["x"], ["y"], domain="local")], "g", [X],
                              [Y])  # fmt: skip
    path = write_graph(tmp_path / "b.onnx", graph, 17, imports=[local], functions=functions)
    with pytest.raises(BadInput, match="more than 1000000 nodes"):
        read_network(path)

"""Writes a network with an operator of its own: Relu, ScaledTanh of the domain example.ops, Relu.

    python examples/udo/make_model.py scaled_tanh.onnx

Needs the package onnx only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
from onnx import TensorProto, helper

SHAPE = [1, 8, 8, 16]


def network() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"], "first"),
        helper.make_node(
            "ScaledTanh", ["positive"], ["bent"], "bend", domain="example.ops", scale=1.5
        ),
        helper.make_node("Relu", ["bent"], ["y"], "last"),
    ]
    for node in nodes:
        node.metadata_props.add(key="modelc.module", value=f"example.{node.name}")
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE)
        for name in ("x", "positive", "bent", "y")
    }
    graph = helper.make_graph(
        nodes,
        "scaled_tanh",
        [values["x"]],
        [values["y"]],
        # Nobody can infer the size of what a custom operator gives, so it is written out.
        value_info=[values["positive"], values["bent"]],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("example.ops", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    onnx.save(network(), str(options.output))
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()

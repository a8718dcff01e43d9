"""A graph of two matrices and a gate, its weights quantised as each scheme does it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

AR, HIDDEN, INNER, BLOCK = 8, 64, 128, 32
KINDS = ("float", "int8", "int4", "int4 blocks", "lpbq")


class _Graph:
    """Collects nodes and constants; activations are uint16 over [-limit, limit)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []
        self.random = np.random.default_rng(0)

    def constant(self, array: np.ndarray, dtype: ir.DataType | None = None) -> ir.Value:
        name = f"constant_{len(self.constants)}"
        tensor = ir.Tensor(array, dtype, name=name)
        value = ir.Value(
            name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor
        )
        self.constants.append(value)
        return value

    def call(self, op_type: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        name = f"{op_type}_{len(self.nodes)}"
        node = ir.node(op_type, inputs, attributes, name=name)
        node.outputs[0].name = f"{name}_out"
        self.nodes.append(node)
        return node.outputs[0]

    def scale(self, limit: float) -> tuple[ir.Value, ir.Value]:
        return self.constant(np.float32(limit / 32768)), self.constant(np.uint16(32768))

    def activation(self, value: ir.Value, limit: float) -> ir.Value:
        if self.kind == "float":
            return value
        codes = self.call("QuantizeLinear", value, *self.scale(limit))
        return self.call("DequantizeLinear", codes, *codes.producer().inputs[1:])

    def weight(self, rows: int, columns: int) -> ir.Value:
        matrix = (self.random.normal(size=(rows, columns)) / rows**0.5).astype(np.float32)
        if self.kind == "float":
            return self.constant(matrix)
        if self.kind in ("int8", "int4"):
            return self._per_channel(matrix)
        blocks = matrix.reshape(-1, BLOCK, columns)
        scale = np.abs(blocks).max(1) / 7
        factors = self.constant(scale)
        if self.kind == "lpbq":
            per_channel = scale.max(0) / 15
            steps = np.clip(np.rint(scale / per_channel), 1, 15).astype(np.uint8)
            scale = steps * per_channel
            zeros = self.constant(np.zeros(columns, np.uint8))
            factors = self.call(
                "DequantizeLinear", self.constant(steps), self.constant(per_channel), zeros, axis=1
            )
        codes = np.clip(np.rint(blocks / scale[:, None]), -8, 7).reshape(matrix.shape)
        return self.call(
            "DequantizeLinear", self._int4(codes), factors, self._int4(0 * scale),
            axis=0, block_size=BLOCK,
        )  # fmt: skip

    def _per_channel(self, matrix: np.ndarray) -> ir.Value:
        limit = 127 if self.kind == "int8" else 7
        scale = np.abs(matrix).max(0) / limit
        codes = np.rint(matrix / scale)
        pack = self._int4 if self.kind == "int4" else self._int8
        return self.call(
            "DequantizeLinear", pack(codes), self.constant(scale), pack(0 * scale), axis=1
        )

    def _int8(self, codes: np.ndarray) -> ir.Value:
        return self.constant(codes.astype(np.int8))

    def _int4(self, codes: np.ndarray) -> ir.Value:
        import ml_dtypes

        return self.constant(codes.astype(ml_dtypes.int4), ir.DataType.INT4)


def write_graph(kind: str, path: Path) -> Path:
    """Write the graph with its weights beside it. Input `x`, output `y`: [1, AR, HIDDEN]."""
    graph = _Graph(kind)
    dtype = ir.DataType.FLOAT if kind == "float" else ir.DataType.UINT16
    x = ir.val("x", dtype, (1, AR, HIDDEN))
    start = x if kind == "float" else graph.call("DequantizeLinear", x, *graph.scale(4))
    inner = graph.activation(graph.call("MatMul", start, graph.weight(HIDDEN, INNER)), 8)
    gate = graph.activation(graph.call("Sigmoid", inner), 2)
    gated = graph.activation(graph.call("Mul", inner, gate), 8)
    y = graph.call("MatMul", gated, graph.weight(INNER, HIDDEN))
    if kind != "float":
        y = graph.call("QuantizeLinear", y, *graph.scale(8))
    y.name, y.dtype, y.shape = "y", dtype, x.shape
    made = ir.Graph(
        [x], [y], nodes=graph.nodes, initializers=graph.constants, opset_imports={"": 21}, name="g"
    )
    ir.save(ir.Model(made, ir_version=10), path, external_data=f"{path.name}.data")
    return path


def feed(kind: str) -> dict[str, np.ndarray]:
    values = np.random.default_rng(1).normal(size=(1, AR, HIDDEN)).clip(-3.9, 3.9)
    if kind == "float":
        return {"x": values.astype(np.float32)}
    return {"x": np.rint(values * 32768 / 4 + 32768).astype(np.uint16)}

"""Small networks, written as a frontend would: canonical graphs with module paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Scope, Sheet, dims_of, new_value

OPSET = 23


class Net:
    """Writes a network node by node; sizes of what a node makes are asked of ONNX's inference."""

    def __init__(self, seed: int = 0) -> None:
        self.sheet = Sheet()
        self.random = np.random.default_rng(seed)
        self._inputs: list[ir.Value] = []

    def input(
        self, name: str, dims: Sequence[int], dtype: ir.DataType = ir.DataType.FLOAT
    ) -> ir.Value:
        value = new_value(name, dims, dtype)
        self._inputs.append(value)
        return value

    def weight(self, name: str, *dims: int, scale: float | None = None) -> ir.Value:
        fan = int(np.prod(dims[1:])) if len(dims) > 1 else dims[0]
        spread = scale if scale is not None else 1.6 / fan**0.5
        return self.constant(name, (self.random.normal(size=dims) * spread).astype(np.float32))

    def constant(self, name: str, array: Any) -> ir.Value:
        return Scope("", self.sheet).constant(name, np.asarray(array))

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        module: str,
        *,
        dims: Sequence[int],
        dtype: ir.DataType = ir.DataType.FLOAT,
        **attributes: Any,
    ) -> ir.Value:
        return Scope(module, self.sheet).emit(op_type, inputs, dims, dtype=dtype, **attributes)

    def model(self, *outputs: ir.Value) -> ir.Model:
        graph = ir.Graph(
            self._inputs,
            outputs,
            nodes=self.sheet.nodes,
            initializers=list(self.sheet.initializers.values()),
            opset_imports={"": OPSET},
            name="network",
        )
        return ir.Model(graph, ir_version=10, producer_name="tests")


def cnn(seed: int = 0, size: int = 16) -> ir.Model:
    """A classifier with every kind of convolution: plain, depthwise, transposed, pointwise."""
    net = Net(seed)
    x = net.input("image", [1, 3, size, size])
    half = size // 2

    def conv(name: str, x: ir.Value, out: int, **attributes: Any) -> ir.Value:
        group = attributes.get("group", 1)
        kernel = attributes["kernel_shape"][0]
        _, channels, height, _ = (int(d) for d in dims_of(x))
        weight = net.weight(f"{name}.weight", out, channels // group, kernel, kernel)
        bias = net.weight(f"{name}.bias", out, scale=0.1)
        side = height // attributes.get("strides", [1])[0]
        dims = [1, out, side, side]
        pads = [kernel // 2] * 4
        return net.op("Conv", [x, weight, bias], name, dims=dims, pads=pads, **attributes)

    def relu(name: str, x: ir.Value) -> ir.Value:
        return net.op("Relu", [x], name, dims=[int(d) for d in dims_of(x)])

    x = relu("stem.relu", conv("stem.conv", x, 8, kernel_shape=[3, 3], strides=[2, 2]))
    skip = x
    x = conv("block.depthwise", x, 8, kernel_shape=[3, 3], group=8)
    low, high = net.constant("zero", np.float32(0)), net.constant("six", np.float32(6))
    x = net.op("Clip", [x, low, high], "block.relu6", dims=[1, 8, half, half])
    x = conv("block.pointwise", x, 8, kernel_shape=[1, 1])
    x = net.op("Add", [x, skip], "block.add", dims=[1, 8, half, half])
    pooled = net.op(
        "MaxPool", [x], "pool", dims=[1, 8, half // 2, half // 2],
        kernel_shape=[2, 2], strides=[2, 2],
    )  # fmt: skip
    up = net.op(
        "ConvTranspose",
        [pooled, net.weight("up.weight", 8, 6, 2, 2), net.weight("up.bias", 6, scale=0.1)],
        "up", dims=[1, 6, half, half], kernel_shape=[2, 2], strides=[2, 2],
    )  # fmt: skip
    x = net.op("Concat", [up, x], "join", dims=[1, 14, half, half], axis=1)
    x = relu("head.relu", conv("head.conv", x, 16, kernel_shape=[3, 3]))
    x = net.op("GlobalAveragePool", [x], "head.pool", dims=[1, 16, 1, 1])
    x = net.op("Flatten", [x], "head.flatten", dims=[1, 16], axis=1)
    weight, bias = net.weight("head.fc.weight", 10, 16), net.weight("head.fc.bias", 10, scale=0.1)
    return net.model(net.op("Gemm", [x, weight, bias], "head.fc", dims=[1, 10], transB=1))


def encoder(
    seed: int = 0, layers: int = 2, tokens: int = 8, width: int = 32, outlier: float = 1.0
) -> ir.Model:
    """A sentence encoder of BERT's shape, masked by -10000; one channel of what the feed-forward
    parts add is `outlier` times as large as the others."""
    net, heads = Net(seed), 4
    ids = net.input("input_ids", [1, tokens], ir.DataType.INT64)
    mask = net.input("attention_mask", [1, tokens], ir.DataType.FLOAT)
    shape = [1, tokens, width]
    table = net.weight("embeddings.weight", 40, width, scale=0.5)
    x = net.op("Gather", [table, ids], "embeddings", dims=shape)
    x = net.op("Add", [x, net.weight("positions", *shape, scale=0.2)], "embeddings.add", dims=shape)
    x = _norm(net, x, "embeddings.norm")
    one = net.constant("one", np.float32(1))
    hidden = net.op("Sub", [one, mask], "mask.inverse", dims=[1, tokens])
    far = net.constant("far", np.float32(-10000))
    hidden = net.op("Mul", [hidden, far], "mask.add", dims=[1, tokens])
    hidden = net.op(
        "Reshape", [hidden, net.constant("mask.shape", np.array([1, 1, 1, tokens]))],
        "mask", dims=[1, 1, 1, tokens],
    )  # fmt: skip
    for index in range(layers):
        x = _layer(net, x, hidden, f"encoder.layer.{index}", heads, outlier)
    first = net.op(
        "Gather", [x, net.constant("first", np.array(0))], "pooler.first", dims=[1, width], axis=1
    )
    pooled = net.op(
        "Gemm",
        [first, net.weight("pooler.weight", width, width), net.weight("pooler.bias", width)],
        "pooler.dense", dims=[1, width], transB=1,
    )  # fmt: skip
    return net.model(x, net.op("Tanh", [pooled], "pooler.tanh", dims=[1, width]))


def _layer(
    net: Net, x: ir.Value, mask: ir.Value, module: str, heads: int, outlier: float
) -> ir.Value:
    _, tokens, width = (int(d) for d in dims_of(x))
    each = width // heads
    split = net.constant("split.shape", np.array([1, tokens, heads, each]))
    merge = net.constant("merge.shape", np.array([1, tokens, width]))

    def part(name: str, perm: Sequence[int]) -> ir.Value:
        y = _linear(net, x, f"{module}.{name}", width)
        y = net.op("Reshape", [y, split], f"{module}.{name}.heads", dims=[1, tokens, heads, each])
        dims = [[1, tokens, heads, each][axis] for axis in perm]
        return net.op("Transpose", [y], f"{module}.{name}.turned", dims=dims, perm=perm)

    query, value = part("query", [0, 2, 1, 3]), part("value", [0, 2, 1, 3])
    key = part("key", [0, 2, 3, 1])
    dims = [1, heads, tokens, tokens]
    scores = net.op("MatMul", [query, key], f"{module}.scores", dims=dims)
    scale = net.constant("scale", np.float32(each**-0.5))
    scores = net.op("Mul", [scores, scale], f"{module}.scaled", dims=dims)
    scores = net.op("Add", [scores, mask], f"{module}.masked", dims=dims)
    probabilities = net.op("Softmax", [scores], f"{module}.softmax", dims=dims, axis=-1)
    y = net.op("MatMul", [probabilities, value], f"{module}.context", dims=[1, heads, tokens, each])
    y = net.op(
        "Transpose", [y], f"{module}.context.turned",
        dims=[1, tokens, heads, each], perm=[0, 2, 1, 3],
    )  # fmt: skip
    y = net.op("Reshape", [y, merge], f"{module}.context.merged", dims=[1, tokens, width])
    y = _linear(net, y, f"{module}.output", width)
    x = net.op("Add", [y, x], f"{module}.residual", dims=[1, tokens, width])
    x = _norm(net, x, f"{module}.norm")
    y = _linear(net, x, f"{module}.up", 2 * width)
    y = net.op("Gelu", [y], f"{module}.gelu", dims=[1, tokens, 2 * width])
    y = _linear(net, y, f"{module}.down", width, outlier)
    x = net.op("Add", [y, x], f"{module}.residual2", dims=[1, tokens, width])
    return _norm(net, x, f"{module}.norm2")


def _linear(net: Net, x: ir.Value, module: str, out: int, outlier: float = 1.0) -> ir.Value:
    *outer, width = (int(d) for d in dims_of(x))
    array = net.random.normal(size=(width, out)) / width**0.5
    array[:, 1] *= outlier
    weight = net.constant(f"{module}.weight", array.astype(np.float32))
    y = net.op("MatMul", [x, weight], f"{module}.product", dims=[*outer, out])
    bias = net.weight(f"{module}.bias", out, scale=0.1)
    return net.op("Add", [y, bias], module, dims=[*outer, out])


def _norm(net: Net, x: ir.Value, module: str) -> ir.Value:
    dims = [int(d) for d in dims_of(x)]
    gamma = net.constant(
        f"{module}.weight", net.random.uniform(0.5, 1.5, dims[-1]).astype(np.float32)
    )
    beta = net.weight(f"{module}.bias", dims[-1], scale=0.1)
    return net.op("LayerNormalization", [x, gamma, beta], module, dims=dims, axis=-1)


def images(count: int, size: int = 16, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Feeds of `cnn`."""
    random = np.random.default_rng(seed)
    return [
        {"image": random.normal(size=(1, 3, size, size)).astype(np.float32)} for _ in range(count)
    ]


def sentences(count: int, tokens: int = 8, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Feeds of `encoder`, of all lengths."""
    random = np.random.default_rng(seed)
    feeds = []
    for index in range(count):
        length = tokens - index % (tokens // 2)
        mask = np.zeros((1, tokens), np.float32)
        mask[:, :length] = 1
        feeds.append({"input_ids": random.integers(0, 40, (1, tokens)), "attention_mask": mask})
    return feeds

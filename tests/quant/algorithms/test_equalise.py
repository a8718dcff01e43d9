"""Ranges of channels become equal: in the decoder that ships, and in a convolutional network."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx_ir as ir
import pytest
from support.rewritten import example, worked

from modelc.quant.algorithms.equalise import Equalise
from modelc.quant.algorithms.equalise_graph import Pair, equalise_graph

IMAGES = np.random.default_rng(9).standard_normal((4, 3, 12, 12)).astype(np.float32)


def test_ranges_of_a_decoder_become_equal() -> None:
    made = example()
    config, weights = made.model.config, worked(made.graph, made.model, [Equalise()])
    for index in range(config.layers):
        layer = f"model.layers.{index}"
        up, down = (weights[f"{layer}.mlp.{name}_proj.weight"] for name in ("up", "down"))
        assert np.allclose(np.abs(up).max(axis=1), np.abs(down).max(axis=0), rtol=1e-5)
        values, out = (weights[f"{layer}.self_attn.{name}_proj.weight"] for name in "vo")
        columns = np.abs(out).max(axis=0).reshape(config.kv_heads, -1, config.head_dim)
        assert np.allclose(np.abs(values).max(axis=1), columns.max(axis=1).ravel(), rtol=1e-5)


def network(seed: int = 0, leak: bool = False) -> ir.Model:
    """Convolutions, one of them depthwise and one in groups, then linear layers of every form;
    some channels are a hundred times as large as others, and what reads them as much smaller."""
    random = np.random.default_rng(seed)
    shapes = {
        "conv": (16, 3, 3, 3),
        "depthwise": (16, 1, 3, 3),
        "grouped": (24, 4, 1, 1),
        "gemm": (20, 24),
        "gemm_turned": (20, 18),
        "matmul": (18, 10),
    }
    arrays = {name: random.standard_normal(s) / np.sqrt(s[1] * 2) for name, s in shapes.items()}
    widths = {"conv": 16, "depthwise": 16, "grouped": 24, "gemm": 20, "gemm_turned": 18}
    biases = {name: random.standard_normal(width) for name, width in widths.items()}
    unbalance(arrays, biases, {name: 10 ** random.uniform(-1, 1, widths[name]) for name in biases})
    values = {
        name: ir.Value(name=name, const_value=ir.Tensor(array.astype(np.float32), name=name))
        for name, array in (arrays | {f"{n}.bias": b for n, b in biases.items()}).items()
    }
    value = start = ir.Value(
        name="images", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", 3, 12, 12])
    )
    nodes: list[ir.Node] = []

    def add(op: str, *parameters: str, name: str = "", **attributes: object) -> None:
        nonlocal value
        inputs = [value, *(values[parameter] for parameter in parameters)]
        nodes.append(ir.node(op, inputs, attributes, name=name or f"{op}_{len(nodes)}"))
        (value,) = nodes[-1].outputs
        value.name = f"value_{len(nodes)}"

    add("Conv", "conv", "conv.bias", name="conv", pads=[1, 1, 1, 1])
    add("LeakyRelu" if leak else "Relu")
    add("Conv", "depthwise", "depthwise.bias", name="depthwise", group=16)
    add("Relu")
    add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    add("Conv", "grouped", "grouped.bias", name="grouped", group=4)
    add("Relu")
    add("GlobalAveragePool")
    add("Flatten", axis=1)
    add("Gemm", "gemm", "gemm.bias", name="gemm", transB=1)
    add("Relu")
    add("MatMul", "gemm_turned", name="gemm_turned")
    add("Add", "gemm_turned.bias")
    add("Relu")
    add("MatMul", "matmul", name="matmul")
    value.type = ir.TensorType(ir.DataType.FLOAT)
    for initializer in values.values():
        initializer.type = ir.TensorType(ir.DataType.FLOAT)
        initializer.shape = initializer.const_value.shape  # type: ignore[union-attr]
    used = {id(v) for node in nodes for v in node.inputs}
    kept = [v for v in values.values() if id(v) in used]
    graph = ir.Graph(
        [start], [value], nodes=nodes, initializers=kept, opset_imports={"": 20}, name="network"
    )
    return ir.Model(graph, ir_version=10)


def unbalance(
    arrays: dict[str, np.ndarray], biases: dict[str, np.ndarray], scales: dict[str, np.ndarray]
) -> None:
    """Multiply what makes a channel, and divide what reads it."""
    names = list(arrays)
    for first, second in pairwise(names):
        scale = scales[first]
        outputs = {"gemm": 0, "gemm_turned": 1}.get(first, 0)
        shape = [1] * arrays[first].ndim
        shape[outputs] = -1
        arrays[first] = arrays[first] * scale.reshape(shape)
        biases[first] = biases[first] * scale
        if second == "depthwise":
            arrays[second] = arrays[second] / scale.reshape(-1, 1, 1, 1)
        elif second == "grouped":
            each = np.repeat(scale.reshape(4, 1, 4, 1, 1), 6, axis=1)
            arrays[second] = arrays[second] / each.reshape(24, 4, 1, 1)
        elif second == "gemm":
            arrays[second] = arrays[second] / scale[None]
        else:
            arrays[second] = arrays[second] / scale[:, None]


def run(model: ir.Model) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        ir.serde.serialize_model(model).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    result: np.ndarray = session.run(None, {"images": IMAGES})[0]
    return result


def rounded(model: ir.Model) -> ir.Model:
    """Return a copy with weights of 8 bits, one scale for each tensor."""
    copy = model.clone()
    for name, value in copy.graph.initializers.items():
        if not name.endswith("bias"):
            array = value.const_value.numpy()  # type: ignore[union-attr]
            step = np.abs(array).max() / 127
            value.const_value = ir.Tensor((np.rint(array / step) * step).astype("f4"), name=name)
    return copy


def names(pairs: tuple[Pair, ...]) -> list[str]:
    return [str(pair) for pair in pairs]


@pytest.mark.parametrize("leak", [False, True])
def test_a_convolutional_network_survives_one_scale_for_a_tensor(leak: bool) -> None:
    model = network(leak=leak)
    wanted = run(model)
    lost = np.square(run(rounded(model)) - wanted).mean()
    pairs = equalise_graph(model)
    assert names(pairs) == [
        "conv -> depthwise",
        "depthwise -> grouped",
        "grouped -> gemm",
        "gemm -> gemm_turned",
        "gemm_turned -> matmul",
    ]
    assert np.allclose(run(model), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    assert np.square(run(rounded(model)) - wanted).mean() < lost / 20


def test_both_ranges_of_a_channel_are_equal() -> None:
    model = network()
    equalise_graph(model, rounds=200)
    weights = {n: v.const_value.numpy() for n, v in model.graph.initializers.items()}  # type: ignore[union-attr]
    made, read = np.abs(weights["conv"]).max(axis=(1, 2, 3)), np.abs(weights["depthwise"])
    assert np.allclose(made, read.max(axis=(1, 2, 3)), rtol=0.02)
    made, read = np.abs(weights["gemm"]).max(axis=1), np.abs(weights["gemm_turned"])
    assert np.allclose(made, read.max(axis=1), rtol=0.02)


@pytest.mark.parametrize("what", ["two readers", "an output", "a sigmoid", "a shared weight"])
def test_what_would_change_the_function_is_left_alone(what: str) -> None:
    model = network()
    nodes = {node.name: node for node in model.graph}
    first = nodes["conv"]
    if what == "a sigmoid":
        next(node for node in model.graph if node.op_type == "Relu").op_type = "Sigmoid"
    elif what == "an output":
        model.graph.outputs.append(first.outputs[0])
        first.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    elif what == "a shared weight":
        nodes["depthwise"].replace_input_with(2, first.inputs[2])
        del model.graph.initializers["depthwise.bias"]
    else:
        extra = ir.node("ReduceMean", [first.outputs[0]], {"keepdims": 0}, name="mean")
        extra.outputs[0].name, extra.outputs[0].type = "mean", ir.TensorType(ir.DataType.FLOAT)
        model.graph.append(extra)
        model.graph.outputs.append(extra.outputs[0])
    wanted = run(model)
    assert "conv -> depthwise" not in names(equalise_graph(model))
    assert np.allclose(run(model), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_a_channel_of_zeros_stays() -> None:
    model = network()
    value = model.graph.initializers["depthwise"]
    array = value.const_value.numpy().copy()  # type: ignore[union-attr]
    array[3] = 0
    value.const_value = ir.Tensor(array, name="depthwise")
    wanted = run(model)
    equalise_graph(model)
    assert np.allclose(run(model), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())

import numpy as np
import onnx_ir as ir
import pytest
from support.network_models import Net

from modelc.ir.operands import data_inputs, linear_of


def node_of(op_type: str, weight: tuple[int, ...], **attributes: int) -> ir.Node:
    net = Net()
    inputs = [net.input("x", [1]), net.weight("w", *weight), net.weight("b", 3)]
    if op_type == "MatMul":
        inputs.pop()
    made = net.op(op_type, inputs, "m", dims=[1], **attributes)
    (node,) = net.model(made).graph
    return node


@pytest.mark.parametrize(
    ("op_type", "shape", "attributes", "axis", "has_bias"),
    [
        ("Conv", (3, 2, 1, 1), {}, 0, True),
        ("ConvTranspose", (2, 3, 1, 1), {}, 1, True),
        ("MatMul", (2, 3), {}, 1, False),
        ("MatMul", (4, 2, 3), {}, None, False),
        ("Gemm", (2, 3), {}, 1, True),
        ("Gemm", (3, 2), {"transB": 1}, 0, True),
    ],
)
def test_channels(
    op_type: str, shape: tuple[int, ...], attributes: dict[str, int], axis: int, has_bias: bool
) -> None:
    linear = linear_of(node_of(op_type, shape, **attributes))
    assert linear is not None
    assert (linear.axis, linear.bias is not None) == (axis, has_bias)
    assert [value.name for _, value in data_inputs(linear.node)] == ["x"]
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    rows = linear.rows(array)
    if axis is not None:
        for channel in range(3):
            assert set(rows[channel]) == set(array.take(channel, axis).reshape(-1))
    np.testing.assert_array_equal(linear.unrows(rows, shape), array)


def test_a_varying_weight_is_data() -> None:
    net = Net()
    a, b = net.input("a", [2, 2]), net.input("b", [2, 2])
    node = net.op("MatMul", [a, b], "m", dims=[2, 2]).producer()
    assert node is not None and linear_of(node) is None
    assert [index for index, _ in data_inputs(node)] == [0, 1]


def test_settings_are_no_data() -> None:
    net = Net()
    scales = net.constant("scales", np.ones(4, np.float32))
    node = net.op("Resize", [net.input("x", [1] * 4), None, scales], "m", dims=[1] * 4).producer()
    assert node is not None
    assert [index for index, _ in data_inputs(node)] == [0]

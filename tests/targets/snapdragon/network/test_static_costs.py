"""Multiply-adds are what ONNX Runtime adds up; bytes are those of what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from support.qnn_networks import (
    FLOAT32,
    on_cpu,
    save,
    write_cnn,
    write_encoder,
    write_quantised,
)

from modelc.errors import BadInput
from modelc.targets.snapdragon.network.static_costs import StaticCost, static_costs


def costs(model: Path) -> dict[str, StaticCost]:
    return {cost.node: cost for cost in static_costs(model)}


@pytest.mark.parametrize(
    ("op", "shapes", "attributes"),
    [
        ("Conv", [(2, 4, 9, 7), (6, 2, 3, 2)], {"group": 2, "strides": [2, 1]}),
        ("Conv", [(1, 3, 8), (5, 3, 3)], {"dilations": [2]}),
        ("Conv", [(1, 6, 5, 5), (6, 1, 3, 3)], {"group": 6}),
        ("ConvTranspose", [(1, 6, 4, 5), (6, 5, 3, 3)], {"strides": [2, 2]}),
        ("ConvTranspose", [(1, 6, 4, 5), (6, 2, 2, 2)], {"group": 3}),
        ("MatMul", [(2, 3, 4, 5), (5, 7)], {}),
        ("MatMul", [(2, 1, 4, 5), (3, 5, 7)], {}),
        ("MatMul", [(5,), (5, 7)], {}),
        ("Gemm", [(4, 3), (4, 6)], {"transA": 1}),
        ("Gemm", [(4, 3), (6, 3)], {"transB": 1}),
    ],
)
def test_multiply_adds(
    op: str, shapes: list[tuple[int, ...]], attributes: dict[str, object], tmp_path: Path
) -> None:
    """Where all numbers are 1 and nothing is padded, the outputs count the multiply-adds."""
    data, weights = (np.ones(shape, np.float32) for shape in shapes)
    node = helper.make_node(op, ["x", "w"], ["y"], "node", **attributes)
    ports, path = {"x": (FLOAT32, [*data.shape])}, tmp_path / "net.onnx"
    rank = max(data.ndim, weights.ndim) - (data.ndim == 1)
    shapeless = {"y": (FLOAT32, [None] * rank)}
    counted = on_cpu(save(path, [node], ports, shapeless, {"w": weights}), {"x": data})["y"]
    save(path, [node], ports, {"y": (FLOAT32, [*counted.shape])}, {"w": weights})
    assert costs(path)["node"].macs == int(counted.sum())


def test_bytes_of_floats(tmp_path: Path) -> None:
    found = costs(write_cnn(tmp_path))
    conv = found["conv"]
    assert (conv.op_type, conv.module) == ("Conv", "net.conv")
    assert conv.weight_bytes == 4 * (8 * 3 * 3 * 3 + 8)
    assert conv.activation_bytes == 4 * (3 * 16 * 16 + 8 * 16 * 16)


def test_bytes_of_codes(tmp_path: Path) -> None:
    """Codes take a byte; the conversions around them have no row of their own."""
    found = costs(write_quantised(tmp_path))
    assert list(found) == ["conv", "middle"]
    assert found["conv"].weight_bytes == 8 * 3 * 3 * 3
    assert found["conv"].activation_bytes == 3 * 8 * 8 + 8 * 8 * 8


def test_whole_numbers_and_truth_values(tmp_path: Path) -> None:
    found = costs(write_encoder(tmp_path))
    assert found["embed"].activation_bytes == 8 * 8 + 4 * 8 * 16
    assert found["mask"].activation_bytes == 8 + 4 * 8
    assert found["scores"].macs == 8 * 8 * 16


def test_what_can_not_be_told(tmp_path: Path) -> None:
    port = (FLOAT32, [4, 4])
    node = helper.make_node("Einsum", ["x", "x"], ["y"], "einsum", equation="ij,jk->ik")
    found = costs(save(tmp_path / "net.onnx", [node], {"x": port}, {"y": port}, {}))
    assert found["einsum"].macs is None


def test_no_model(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(BadInput):
        static_costs(path)

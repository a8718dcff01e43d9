"""Codes and numbers against implementations that are not ours: ONNX Runtime, ml_dtypes, torch,
gguf, and MLC's rules written out."""

from __future__ import annotations

from typing import Any

import gguf
import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.kinds import KINDS, FloatForm, Form
from modelc.ir.packing.quantise_rows import quantise_rows

ROWS, COLUMNS = 12, 256
TYPES = {
    "w8": ir.DataType.INT8,
    "w4": ir.DataType.INT4,
    "u8": ir.DataType.UINT8,
    "u4": ir.DataType.UINT4,
    "e4m3": ir.DataType.FLOAT8E4M3FN,
    "e5m2": ir.DataType.FLOAT8E5M2,
}


def numbers(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).laplace(size=(ROWS, COLUMNS)).astype(np.float32)


def run(nodes: list[Any], feeds: dict[str, np.ndarray], constants: list[ir.Tensor]) -> np.ndarray:
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        for name, array in feeds.items()
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        nodes, "g", inputs, [output], [ir.serde.serialize_tensor(tensor) for tensor in constants]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, feeds)
    return np.asarray(found)


def attributes(form: Form) -> dict[str, int]:
    if form.block:
        return {"axis": 1, "block_size": form.block}
    return {"axis": 0}


@pytest.mark.parametrize(
    "kind",
    [
        *("w8", "w8_tensor", "w8_b32", "w8_b128", "w4", "w4_b16", "w4_b32", "w4_b128"),
        *("u8", "u8_b32", "u4", "u4_b32", "u4_b64"),
        *("e4m3", "e4m3_channel", "e5m2", "e5m2_channel"),
    ],
)
def test_as_onnx_runtime_quantises_and_dequantises(kind: str) -> None:
    """What its operators make of the same scales: of our codes, and of the numbers."""
    form, values = KINDS[kind], numbers()
    coded, dtype = quantise_rows(values, form), TYPES[kind.split("_")[0]]
    scales = coded.scales[:, 0] if not form.block else coded.scales
    zeros = np.zeros(scales.shape, np.uint8) if coded.zeros is None else coded.zeros
    zeros = zeros.reshape(scales.shape)
    if not form.block_rows:
        scales, zeros = scales[0], zeros[0]
    constants = [
        ir.Tensor(np.asarray(scales), name="s"),
        ir.Tensor(np.asarray(zeros).astype(np.int32).astype(dtype.numpy()), dtype, name="z"),
    ]
    codes = ir.Tensor(coded.codes.astype(dtype.numpy()), dtype, name="c")
    back = helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"], **attributes(form))
    np.testing.assert_allclose(
        run([back], {}, [codes, *constants]), dequantise_rows(coded), rtol=1e-6
    )
    if isinstance(form, FloatForm) and form.block_rows:
        return  # its QuantizeLinear has no float8 for each channel
    there = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["c"], **attributes(form))
    found = run([there, back], {"x": values}, constants)
    np.testing.assert_allclose(found, dequantise_rows(coded), rtol=1e-6)


@pytest.mark.parametrize("element", ["e4m3", "e5m2"])
def test_float8_is_torchs(element: str) -> None:
    dtype = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}[element]
    form, values = FloatForm(element), np.exp(numbers(1)) * np.sign(numbers(2))  # type: ignore[arg-type]
    coded = quantise_rows(values, form)
    ratios = torch.from_numpy(values / coded.scales)
    largest = torch.finfo(dtype).max
    assert form.highest == largest
    expected = ratios.clamp(-largest, largest).to(dtype).view(torch.uint8).numpy()
    np.testing.assert_array_equal(coded.codes.view(np.uint8), expected)
    assert coded.scales[:, 0] == pytest.approx(np.abs(values).max(1) / largest)


@pytest.mark.parametrize("kind", ["e4m3_b128", "e5m2_b128"])
def test_scales_of_squares(kind: str) -> None:
    """128 x 128, as in checkpoints that have `weight_scale_inv`; the last ones may be smaller."""
    values = np.random.default_rng(3).normal(size=(200, 300)).astype(np.float32)
    form = KINDS[kind]
    coded = quantise_rows(values, form)
    for top in (0, 128):
        for left in (0, 128, 256):
            square = values[top : top + 128, left : left + 128]
            scale = np.abs(square).max() / np.float32(form.highest)
            assert np.all(coded.scales[top : top + 128, left // 128] == scale)
            codes = coded.codes[top : top + 128, left : left + 128]
            np.testing.assert_array_equal(codes, (square / scale).astype(form.array_type))


MX = {
    "mxfp8": (ml_dtypes.float8_e4m3fn, 8),
    "mxfp6": (ml_dtypes.float6_e2m3fn, 2),
    "mxfp6_e3m2": (ml_dtypes.float6_e3m2fn, 4),
    "mxfp4": (ml_dtypes.float4_e2m1fn, 2),
}


@pytest.mark.parametrize("kind", MX)
def test_microscaling_formats(kind: str) -> None:
    """OCP MX 1.0, section 6.3: X = 2^(floor(log2(max)) - emax), each element max-normal clamped
    and rounded to nearest even; X is an E8M0 number."""
    element, largest_exponent = MX[kind]
    values = numbers(4) * np.exp(numbers(5))
    coded = quantise_rows(values, KINDS[kind])
    peaks = np.abs(values).reshape(ROWS, -1, 32).max(-1)
    expected = np.exp2(np.floor(np.log2(peaks)) - largest_exponent).astype(np.float32)
    np.testing.assert_array_equal(coded.scales, expected)
    e8m0 = coded.scales.astype(ml_dtypes.float8_e8m0fnu)
    np.testing.assert_array_equal(e8m0.astype(np.float32), coded.scales)
    largest = float(ml_dtypes.finfo(element).max)
    ratios = np.clip(values / np.repeat(expected, 32, 1), -largest, largest)
    np.testing.assert_array_equal(coded.codes, ratios.astype(element))


def test_fp4_is_ggufs_mxfp4() -> None:
    """Its blocks hold an E8M0 byte, and pairs of FP4 from both halves of 32."""
    values = numbers(6)
    coded = quantise_rows(values, KINDS["mxfp4"])
    nibbles = coded.codes.view(np.uint8).reshape(ROWS, -1, 32)
    exponents = np.log2(coded.scales).astype(np.int32) + 127
    block = np.concatenate(
        [exponents[..., None].astype(np.uint8), nibbles[..., :16] | nibbles[..., 16:] << 4], -1
    )
    kind = gguf.GGMLQuantizationType.MXFP4
    found = gguf.quants.dequantize(block.reshape(ROWS, -1), kind)
    np.testing.assert_array_equal(found, dequantise_rows(coded))


@pytest.mark.parametrize(("kind", "format"), [("w4_b32", "Q4_0"), ("w8_b32", "Q8_0")])
def test_blocks_of_32_are_ggufs(kind: str, format: str) -> None:
    """With GGML's scales the codes are GGML's; with searched ones, which are positive as targets
    want them, about as much is lost."""
    dtype = gguf.GGMLQuantizationType[format]
    blocks = gguf.quants.quantize(numbers(7), dtype)
    theirs = gguf.quants.dequantize(blocks, dtype)
    size = {"Q4_0": 18, "Q8_0": 34}[format]
    scales = np.ascontiguousarray(blocks.reshape(ROWS, -1, size)[..., :2])
    coded = quantise_rows(theirs, KINDS[kind], scales.view("<f2")[..., 0].astype(np.float32))
    np.testing.assert_array_equal(dequantise_rows(coded), theirs)
    ours = dequantise_rows(quantise_rows(numbers(7), KINDS[kind]))
    error = [np.linalg.norm(found - numbers(7)) for found in (ours, theirs)]
    assert error[0] <= error[1] * 1.04


@pytest.mark.parametrize(("kind", "group", "largest"), [("w4_b32", 32, 7), ("w3_b40", 40, 3)])
def test_mlcs_groups(kind: str, group: int, largest: int) -> None:
    """q4f16_1 and q3f16_1: scale = max |w| / largest, code = round(w / scale). With those scales
    the codes are MLC's; searched ones lose less."""
    values = np.random.default_rng(8).normal(size=(8, 320)).astype(np.float32)
    groups = values.reshape(8, -1, group)
    scales = np.abs(groups).max(-1) / np.float32(largest)
    codes = np.clip(np.round(groups / scales[..., None]) + largest, 0, 2 * largest)
    theirs = ((codes - largest) * scales[..., None]).reshape(8, 320).astype(np.float32)
    given = quantise_rows(values, KINDS[kind], scales)
    np.testing.assert_array_equal(given.codes.reshape(codes.shape), codes - largest)
    ours = dequantise_rows(quantise_rows(values, KINDS[kind]))
    assert np.linalg.norm(ours - values) < np.linalg.norm(theirs - values)

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.errors import Damaged
from modelc.ir.encodings import Encoding, IntegerType, from_range, load, save, symmetric

DTYPES: list[IntegerType] = ["uint8", "uint16", "int8", "int16"]
values = st.floats(-1e6, 1e6, allow_nan=False, width=32)
dtypes = st.sampled_from(DTYPES)


@settings(max_examples=60)
@given(low=values, high=values, dtype=dtypes, share=st.floats(0, 1))
def test_values_in_the_range_come_back(
    low: float, high: float, dtype: IntegerType, share: float
) -> None:
    low, high = sorted((low, high))
    encoding = from_range(low, high, dtype)
    value = low + share * (high - low)
    back = float(encoding.dequantise(encoding.quantise(np.array([value])))[0])
    # Half a step of rounding, half a step because zero is moved onto a code.
    assert abs(back - value) <= encoding.scale * 1.01 + 1e-6 * abs(value)
    assert encoding.dequantise(encoding.quantise(np.zeros(1)))[0] == 0


@settings(max_examples=60)
@given(limit=st.floats(1e-3, 1e6), dtype=dtypes)
def test_symmetric_has_its_zero_in_the_middle(limit: float, dtype: IntegerType) -> None:
    encoding = symmetric(limit, dtype)
    codes = encoding.quantise(np.array([-limit, 0.0, limit]))
    assert codes[1] == encoding.zero_point == (0 if dtype.startswith("i") else 2 ** (
        np.iinfo(dtype).bits - 1))  # fmt: skip
    np.testing.assert_allclose(encoding.dequantise(codes), [-limit, 0, limit], rtol=1e-5)


def test_quantising_is_that_of_onnxruntime() -> None:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    encoding = from_range(-1.3, 2.9, "uint8")
    x = np.random.default_rng(0).normal(0, 2, 500).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
            helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["back"]),
        ],
        "qdq",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [500])],
        [
            helper.make_tensor_value_info("codes", TensorProto.UINT8, [500]),
            helper.make_tensor_value_info("back", TensorProto.FLOAT, [500]),
        ],
        [
            helper.make_tensor("scale", TensorProto.FLOAT, [], [encoding.scale]),
            helper.make_tensor("zero", TensorProto.UINT8, [], [encoding.zero_point]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    codes, back = session.run(None, {"x": x})
    np.testing.assert_array_equal(encoding.quantise(x), codes)
    np.testing.assert_allclose(encoding.dequantise(codes), back, rtol=1e-6)
    assert encoding.minimum == pytest.approx(back.min(), abs=1e-6)
    assert encoding.maximum == pytest.approx(back.max(), abs=1e-6)


def test_an_empty_range_has_a_scale() -> None:
    assert from_range(0, 0, "uint8").scale > 0
    assert symmetric(0, "int8").scale > 0


def test_a_file_comes_back_sorted(tmp_path: Path) -> None:
    path = tmp_path / "encodings.json"
    encodings = {"b": Encoding(0.5, 3, "uint16"), "a": from_range(-1, 1, "int8")}
    save(encodings, path)
    assert load(path) == encodings and list(load(path)) == ["a", "b"]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"scale": 1}}', '{"a": {"x": 1}}'])
def test_a_damaged_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "encodings.json"
    path.write_text(text)
    with pytest.raises(Damaged, match="encodings"):
        load(path)

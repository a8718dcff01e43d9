"""What a file says of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_sources import write_graph

from modelc.errors import BadInput
from modelc.frontends.onnx.dims import OpenSize
from modelc.frontends.onnx.summary import Port, summarise


def test_summary(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "w"], ["a"]),
            helper.make_node("Add", ["a", "w"], ["b"]),
            helper.make_node("Mine", ["b"], ["y"], domain="com.me"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, None])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
        [onnx.numpy_helper.from_array(np.ones((3, 5), np.float32), "w")],
    )
    path = write_graph(
        tmp_path / "m.onnx", graph, 8, imports=[helper.make_opsetid("com.me", 2)],
        producer_name="pytorch", producer_version="2.1",
    )  # fmt: skip
    summary = summarise(path)
    assert (summary.opset, summary.domains) == (8, {"com.me": 2})
    assert summary.producer == "pytorch 2.1"
    assert summary.inputs == (Port("x", "float32", ("batch", 3, "?")),)
    assert summary.outputs == (Port("y", "int64", None),)
    assert summary.open_sizes == (OpenSize("batch", ("x.0",)), OpenSize("x.2", ("x.2",)))
    assert summary.operators == {"Add": 2, "com.me.Mine": 1}
    assert (summary.parameters, summary.functions, summary.files) == (15, 0, (path,))


def test_what_is_no_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(BadInput, match="not an ONNX file"):
        summarise(tmp_path / "m.onnx")

"""Encodings of weights: whoever quantises the float weights by the file gets the verified graph's.

The file is read here as JSON, and weights are quantised as AIMET's specification says; ONNX Runtime
says what the weights of the quantised graph are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import htp_graphs

from modelc.ir.write import write_model
from modelc.quant.aimet.encodings import AimetEncodings
from modelc.quant.aimet.parameters import parameter_encodings
from modelc.quant.aimet.write import write_encodings

WIDE = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 16, "heads": 4}


def quantised(folder: Path, kind: str, **changes: Any) -> tuple[ir.Model, Path]:
    """The float graph, and the file of the quantised one."""
    source = htp_graphs.make_source(
        folder, **{**WIDE, "rope": htp_graphs.Rope(dim=16), "attention_scale": 0.25, **changes}
    )
    weights = {"": kind, "model.embed_tokens": "w16"}
    encodings = htp_graphs.encodings(source)
    model = htp_graphs.lower(source, "Quantise", encodings=encodings, weights=weights)
    write_model(model, folder / "quantised.onnx")
    return htp_graphs.lower(source, "ScaleQueries"), folder / "quantised.onnx"


def on_runtime(path: Path) -> dict[str, np.ndarray]:
    """What ONNX Runtime makes of the codes of every weight, by the weight's name."""
    model = onnx.load(path)
    given = {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if given.issuperset(node.input)]
    scales = {output for node in nodes for output in node.output}
    nodes += [
        node
        for node in model.graph.node
        if len(node.input) > 1 and node.input[1] in scales and node.op_type == "DequantizeLinear"
    ]
    names = {node.output[0]: node.input[0].removesuffix(".codes") for node in nodes}
    del model.graph.node[:], model.graph.input[:], model.graph.output[:]
    model.graph.node.extend(nodes)
    outputs = [onnx.helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in names]
    model.graph.output.extend(outputs)
    read = {name for node in nodes for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in read]:
        model.graph.initializer.remove(tensor)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names.values(), session.run(list(names), {}), strict=True))


def by_the_file(row: dict[str, Any], values: np.ndarray) -> np.ndarray:
    """What an AIMET 1.0.0 entry makes of float weights [inputs, outputs]."""
    scales, offsets = np.array(row["scale"]), np.array(row["offset"])
    bits = row.get("compressed_bw", row["bw"])
    if row["enc_type"] in ("PER_BLOCK", "LPBQ"):
        outputs = values.shape[1]
        if row["enc_type"] == "LPBQ":
            scales = scales[:, None] * np.array(row["per_block_int_scale"]).reshape(outputs, -1)
        blocks = scales.reshape(outputs, -1).T
        assert blocks.shape[0] * row["block_size"] == values.shape[0]
        scales = np.repeat(blocks, row["block_size"], axis=0)
        offsets = np.array(-(1 << bits - 1))
    codes = np.clip(np.rint(values / scales) - offsets, 0, (1 << bits) - 1)
    return (codes + offsets) * scales


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("w8", ("PER_CHANNEL", 8)),
        ("w16", ("PER_CHANNEL", 16)),
        ("w4", ("PER_CHANNEL", 4)),
        ("w4_b32", ("PER_BLOCK", 4)),
        ("w4_lpbq", ("LPBQ", 8)),
    ],
)
def test_float_weights_become_those_that_were_verified(
    kind: str, said: tuple[str, int], tmp_path: Path
) -> None:
    model, path = quantised(tmp_path, kind)
    found = parameter_encodings(ir.load(path))
    write_encodings(tmp_path / "file.encodings", AimetEncodings({}, found))
    rows = json.loads((tmp_path / "file.encodings").read_text())["param_encodings"]
    wanted = on_runtime(path)
    weights = {
        name: value.const_value.numpy()
        for name, value in model.graph.initializers.items()
        if value.dtype == ir.DataType.FLOAT
    }
    assert {row["name"] for row in rows} == set(weights)
    for row in rows:
        name = row["name"]
        made = by_the_file(row, weights[name])
        steps = np.abs(made - wanted[name]) / np.max(row["scale"])
        assert (steps < 0.02).mean() > 0.99, name
        assert steps.max() < 1.01, name  # what lies between two codes may fall to either side
        if name.endswith("_proj.weight"):
            assert (row["enc_type"], row["bw"]) == said and row["is_sym"]
        else:
            assert (row["enc_type"], row["bw"]) == ("PER_TENSOR", 16) or name == "lm_head.weight"


def test_biases_are_left_out(tmp_path: Path) -> None:
    model, path = quantised(tmp_path, "w8", architecture="qwen2", biases=True)
    biases = {name for name in model.graph.initializers if name.endswith(".bias")}
    found = parameter_encodings(ir.load(path))
    assert biases and found.keys().isdisjoint(biases)
    floats = {n for n, v in model.graph.initializers.items() if v.dtype == ir.DataType.FLOAT}
    assert set(found) == floats - biases


def test_no_codes_are_read(tmp_path: Path) -> None:
    """Scales and zero points are small; codes are the model."""
    _, path = quantised(tmp_path, "w8")
    model = ir.load(path)
    for name, value in model.graph.initializers.items():
        if name.endswith("_proj.weight.codes"):
            shape = value.const_value.shape
            value.const_value = ir.LazyTensor(
                lambda: pytest.fail("codes are read"), ir.DataType.INT8, shape, name=name
            )
    assert "model.layers.0.mlp.up_proj.weight" in parameter_encodings(model)

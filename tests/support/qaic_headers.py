"""ONNX files with the inputs and outputs of a captured case, and nothing that computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import helper


def write_header(path: Path, header: Mapping[str, Any]) -> Path:
    """Write an ONNX file with `header`'s inputs and outputs."""
    inputs, outputs = (
        [helper.make_tensor_value_info(v["name"], v["elem_type"], v["shape"]) for v in header[side]]
        for side in ("inputs", "outputs")
    )
    node = helper.make_node("Identity", [inputs[0].name], [outputs[0].name], name="node")
    graph = helper.make_graph([node], "graph", inputs, outputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(onnx.ModelProto.SerializeToString(helper.make_model(graph)))
    return path


def decoder_header(layers: int, extra: Sequence[tuple[str, list[Any]]] = ()) -> dict[str, Any]:
    """Return the header of a decoder with these further inputs."""
    states = [f"past_{kind}.{i}" for i in range(layers) for kind in ("key", "value")]
    shape = ["batch_size", 2, "ctx_len", 16]
    tokens = [
        {"name": name, "elem_type": 7, "shape": ["batch_size", "seq_len"]}
        for name in ("input_ids", "position_ids")
    ]
    more = [{"name": name, "elem_type": 7, "shape": sizes} for name, sizes in extra]
    kept: list[dict[str, Any]] = [{"name": name, "elem_type": 1, "shape": shape} for name in states]
    logits = {"name": "logits", "elem_type": 1, "shape": ["batch_size", 1, 256]}
    retained = [{**state, "name": state["name"] + "_RetainedState"} for state in kept]
    return {"inputs": [*tokens, *kept, *more], "outputs": [logits, *retained]}


EMBEDDING = {
    "inputs": [
        {"name": name, "elem_type": 7, "shape": ["batch_size", "seq_len"]}
        for name in ("input_ids", "attention_mask")
    ],
    "outputs": [{"name": "output", "elem_type": 1, "shape": ["batch_size", 32]}],
}

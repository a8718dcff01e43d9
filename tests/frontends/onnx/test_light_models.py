"""Whole networks of the onnx package, of opset 9, agree with ONNX Runtime on the original."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from support.onnx_sources import assert_canonical, assert_close, feeds_of, run_file, run_graph

from modelc.frontends.onnx.network import read_network, unresolved

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
MODELS = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet",
    "squeezenet", "vgg19", "zfnet512",
)  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_agrees(name: str, tmp_path: Path) -> None:
    path = LIGHT / f"light_{name}.onnx"
    model = read_network(path)
    assert_canonical(model)
    assert not unresolved(model)
    original = onnx.load(path).graph
    stored = {tensor.name for tensor in original.initializer}
    assert [v.name for v in model.graph.inputs] == [
        v.name for v in original.input if v.name not in stored
    ]
    assert [v.name for v in model.graph.outputs] == [v.name for v in original.output]
    feeds = feeds_of(model)
    assert_close(run_graph(model, feeds, tmp_path), run_file(path, feeds))

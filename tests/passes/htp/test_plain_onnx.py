"""Float graphs in an older ONNX: the same numbers, and nothing that came later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.golden import check_golden
from support.htp_graphs import VARIANTS, generate, lower, make_source, reference, session
from support.tiny_source import tiny_config, tiny_source

from modelc.decoder.config import DecoderSource, Rope
from modelc.ir.text import to_text
from modelc.ir.write import write_model
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline

GOLDEN = Path(__file__).parent / "golden"


def plain(source: DecoderSource, ar: int = 4) -> ir.Model:
    passes = build_pipeline("htp-plain", {})
    return run_passes(lower(source, "ScaleQueries", ar), passes, graph=f"ar{ar}")[0]


def test_golden_text_after() -> None:
    """The text before is ScaleQueries'."""
    source = tiny_source(tiny_config(layers=1, rope=Rope(dim=4)))
    check_golden(GOLDEN / "PlainOnnx.txt", to_text(plain(source)))


@pytest.mark.parametrize("variant", ["llama", "qwen2", "qwen3", "gemma2", "partial rope"])
def test_the_numbers_are_the_references(variant: str, tmp_path: Path) -> None:
    source = make_source(tmp_path, **VARIANTS[variant])
    graphs = {ar: session(plain(source, ar), tmp_path / f"ar{ar}.onnx") for ar in (4, 1)}
    expected = reference(source)
    assert np.abs(generate(source, graphs) - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(("variant", "opset"), [("qwen3", 17), ("gemma2", 20)])
def test_every_operator_is_of_the_older_opset(variant: str, opset: int, tmp_path: Path) -> None:
    path = tmp_path / "plain.onnx"
    write_model(plain(make_source(tmp_path, **VARIANTS[variant])), path)
    model = onnx.load(path)
    assert [(row.domain, row.version) for row in model.opset_import] == [("", opset)]
    assert model.ir_version == 8
    onnx.checker.check_model(str(path), full_check=True)


def test_tensors_keep_their_names(tmp_path: Path) -> None:
    """By which their encodings are found."""
    source = make_source(tmp_path)
    before = {v.name for node in lower(source, "ScaleQueries").graph for v in node.outputs}
    after = {v.name for node in plain(source).graph for v in node.outputs}
    assert before <= after
    assert all("norm." in str(name) for name in after - before)

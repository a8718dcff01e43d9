"""Opsets, inputs, outputs and the card's operators are those that Qualcomm's exporter writes.

cases/contracts.json: what its graphs of a llama of two layers look like, by release and options.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
from support.card import write_card_graph
from support.golden import check_golden
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.config import Rope
from modelc.errors import BadInput
from modelc.ir.text import to_text
from modelc.passes.qaic.build import build_card_graph
from modelc.passes.qaic.clip import HALF_MAX
from modelc.passes.qaic.options import QaicGraphOptions

HERE = Path(__file__).parent
CASES: dict[str, Any] = json.loads((HERE / "cases" / "contracts.json").read_text())


def options_of(case: str) -> dict[str, Any]:
    given = CASES[case]["from_pretrained"]
    settings = given.get("qaic_config", {})
    return {
        "continuous_batching": given.get("continuous_batching", False),
        "num_logits_to_keep": settings.get("speculative_model_type") == "target",
        "comp_ctx_lengths": settings.get("ccl_enabled", False),
        "opset": 13 if case.startswith("v1.20") else 17,
    }


def signature(values: Any) -> list[dict[str, Any]]:
    rows = []
    for value in values:
        kind = value.type.tensor_type
        shape = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
        rows.append({"name": value.name, "elem_type": kind.elem_type, "shape": shape})
    return rows


@pytest.mark.parametrize("case", CASES)
def test_as_captured(case: str, tmp_path: Path) -> None:
    sizes = {"vocab_size": 256, "hidden_size": 64, "head_dim": 16, "rope": Rope(dim=16)}
    source = tiny_source(tiny_config(**sizes), tmp_path / "weights.bin")
    write_weights(source)
    model = onnx.load(write_card_graph(source, tmp_path, **options_of(case)))
    onnx.checker.check_model(model, full_check=True)
    expected = CASES[case]["onnx"]
    assert sorted([row.domain, row.version] for row in model.opset_import) == expected["opset"]
    assert signature(model.graph.input) == expected["inputs"]
    assert signature(model.graph.output) == expected["outputs"]
    used = Counter(f"{n.domain}::{n.op_type}" for n in model.graph.node if n.domain)
    assert used == expected["custom_ops"]
    assert {f"{body.domain}::{body.name}" for body in model.functions} == used.keys()


@pytest.mark.parametrize("batched", [False, True])
def test_golden(batched: bool) -> None:
    config = tiny_config(layers=1, windows=(5,), attention_softcap=30.0, activation="gelu_tanh")
    options = QaicGraphOptions(continuous_batching=batched)
    model = build_card_graph(tiny_source(config), 16, options)
    check_golden(HERE / "golden" / f"{'batched' if batched else 'plain'}.txt", to_text(model))


def test_constants_fit_float16(tmp_path: Path) -> None:
    source = tiny_source(tiny_config(), tmp_path / "weights.bin")
    write_weights(source)
    first = bytearray(source.weights["model.embed_tokens.weight"].path.read_bytes())
    first[:8] = b"\x00\x00\x80\x7f\x00\x50\xc3\xc7"  # infinity, -99 999
    (tmp_path / "weights.bin").write_bytes(first)
    model = onnx.load(write_card_graph(source, tmp_path))
    arrays = {row.name: onnx.numpy_helper.to_array(row) for row in model.graph.initializer}
    table = arrays["model.embed_tokens.weight"]
    assert [*table.reshape(-1)[:2]] == [HALF_MAX, -HALF_MAX]
    floats = [array for array in arrays.values() if array.dtype.kind == "f"]
    assert max(abs(array).max() for array in floats) == HALF_MAX


def test_other_opsets_are_refused() -> None:
    with pytest.raises(BadInput, match="opset 17"):
        build_card_graph(tiny_source(tiny_config()), 16, QaicGraphOptions(opset=18))


def test_heads_that_dont_divide_are_refused() -> None:
    with pytest.raises(BadInput, match="4 query heads can't share 2"):
        build_card_graph(tiny_source(tiny_config()), 16, QaicGraphOptions(repeat_kv_heads=3))

"""What becomes of a quantised source's codes on HTP."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.quantised_folders import CASES, write
from support.random_models import make

from modelc.decoder.builder import build_decoder
from modelc.frontends import read_model
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.kinds import MATRIX_KINDS
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.ir.serial import save_graph
from modelc.pipeline.step import SOURCE, StepContext
from modelc.pipeline.steps import GRAPH
from modelc.pipeline.steps_codes import compare_codes

DOWN = "model.layers.1.mlp.down_proj"


def said(tmp_path: Path, case: str, weights: dict[str, str]) -> dict[str, dict[str, object]]:
    folder = tmp_path / "source"
    write(make("llama", tmp_path / "plain"), folder, CASES[case])
    places = {name: tmp_path / name for name in ("canonical", "out", "scratch", "partial")}
    for place in places.values():
        place.mkdir()
    save_graph(build_decoder(read_model(folder), 16), places["canonical"] / GRAPH, folder)
    inputs = {"canonical": places.pop("canonical")}
    context = StepContext(inputs, {"weights": weights}, {SOURCE: folder}, **places)
    compare_codes(context)
    rows: dict[str, dict[str, object]] = json.loads((context.out / "requantised.json").read_text())
    return rows


def test_codes_that_fit_are_kept(tmp_path: Path) -> None:
    assert said(tmp_path, "gptq", {"": "w4_b32", "lm_head": "w8"}) == {}


def test_codes_that_do_not_fit_are_told_with_their_error(tmp_path: Path) -> None:
    rows = said(tmp_path, "gptq", {"": "w4_b32", "lm_head": "w8", DOWN: "w8"})
    row = rows.pop(f"{DOWN}.weight")
    assert not rows
    assert (row["from"], row["to"]) == ("int4 in blocks of 32", "int8 per channel")
    values = read_model(tmp_path / "source").weights[f"{DOWN}.weight"].decode()
    made = dequantise_rows(quantise_rows(values, MATRIX_KINDS["w8"]))
    error = np.linalg.norm(made - values) / np.linalg.norm(values)
    assert row["relative_error"] == pytest.approx(error, rel=1e-3)


def test_a_table_of_numbers_never_fits(tmp_path: Path) -> None:
    rows = said(tmp_path, "nf4", {"": "w8"})
    assert len(rows) == 14
    assert {row["from"] for row in rows.values()} == {"codes of a table"}

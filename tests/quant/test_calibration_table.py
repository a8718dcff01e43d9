"""The table of what calibration saw."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.builder import build_decoder
from modelc.passes.expand import ExpandComposites
from modelc.quant.calibrate import activation_encodings, choose_ranges, gather_statistics
from modelc.quant.calibration_table import bars, render_table
from modelc.quant.histogram import Histogram
from modelc.quant.observers import make_observer
from modelc.reference.stream import StreamedReference

BATCHES = [[1, 5, 9, 12, 3, 39], [7, 7, 2]]


def test_rows_are_what_was_seen_and_chosen(tmp_path: Path) -> None:
    source = tiny_source(tiny_config(layers=11, intermediate_size=16), tmp_path / "weights.bin")
    write_weights(source)
    model = ExpandComposites().apply(build_decoder(source, context_length=16))
    statistics = gather_statistics(model, BATCHES)
    ranges = choose_ranges(statistics, make_observer("percentile", kept=80.0))
    encodings = activation_encodings(ranges)
    rows = list(csv.DictReader(io.StringIO(render_table(model, statistics, encodings))))
    assert {row["tensor"] for row in rows} == set(statistics)
    modules = list(dict.fromkeys(row["module"] for row in rows))
    layers = [name for name in modules if name.endswith("mlp.up_proj")]
    assert layers == [f"model.layers.{layer}.mlp.up_proj" for layer in range(11)]

    name, seen = "model.layers.10.mlp.up_proj", list[np.ndarray]()
    StreamedReference(model).observe(
        BATCHES, lambda n, v: seen.append(v.ravel()) if n == name else 0
    )
    values = np.concatenate(seen).astype(np.float64)
    (row,) = (row for row in rows if row["tensor"] == name)
    found = [float(row[column]) for column in ("min", "max", "mean", "std")]
    np.testing.assert_allclose(
        found, [values.min(), values.max(), values.mean(), values.std()], rtol=1e-5
    )
    assert float(row["low"]) > values.min()
    assert row["type"] == "uint16"
    outside = np.mean((values < float(row["low"])) | (values > float(row["high"])))
    assert abs(float(row["clipped"]) - outside) < 0.02
    assert 0.1 < outside <= 0.2


def test_what_a_mask_hides_is_not_in_it(tmp_path: Path) -> None:
    source = tiny_source(tiny_config(), tmp_path / "weights.bin")
    write_weights(source)
    model = ExpandComposites().apply(build_decoder(source, context_length=16))
    statistics = gather_statistics(model, BATCHES)
    encodings = activation_encodings(choose_ranges(statistics))
    table = csv.DictReader(io.StringIO(render_table(model, statistics, encodings)))
    rows = {row["tensor"]: row for row in table}
    assert rows["mask.full"]["min"] == "0"
    masked = rows["model.layers.0.self_attn.masked"]
    assert -100 < float(masked["min"]) < float(masked["max"])
    assert {row["clipped"] for row in rows.values()} == {"0"}


def test_bars() -> None:
    counts = np.array([1, 0, 10, 100, 1000000])
    assert bars(Histogram(0, 0, counts)) == "▁ ▂▃█"
    assert len(bars(Histogram(0, 0, np.ones(2000, np.int64)), width=30)) == 30
    assert bars(Histogram(0, 0, np.array([3]))) == "█"

"""What calibration saw of every tensor and what was made of it, as a table for people."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.ir.encodings import Encoding
from modelc.ir.provenance import module_of
from modelc.quant.histogram import Histogram
from modelc.quant.statistics import TensorStatistics

COLUMNS: Final = (
    *("module", "tensor", "min", "max", "mean", "std"),
    *("low", "high", "type", "clipped", "histogram"),
)
"""`low` and `high` are the values of the outermost codes of `type`; `clipped` is the share of the
values seen that lie beyond by more than a step; the histogram goes from min to max, its heights are
logarithms. What a mask hides is not in it."""

BARS: Final = " ▁▂▃▄▅▆▇█"
WIDTH: Final = 24  # of the histogram, in characters


def render_table(
    model: ir.Model,
    statistics: Mapping[str, TensorStatistics],
    encodings: Mapping[str, Encoding],
) -> str:
    """Return CSV (RFC 4180, UTF-8) with a row for every tensor that has statistics and an encoding,
    sorted by module.

    Args:
        model: the graph they were seen in, which knows the tensors' modules.
    """
    modules = {str(value.name): "" for value in model.graph.inputs}
    modules |= {str(v.name): module_of(node) for node in model.graph for v in node.outputs}
    names = sorted(statistics.keys() & encodings.keys(), key=lambda n: _natural(modules[n], n))
    rows = [(modules[name], name, *_columns(statistics[name], encodings[name])) for name in names]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue()


def bars(histogram: Histogram, width: int = WIDTH) -> str:
    """Return a histogram as a line of bars of at most `width` characters; a bar's height goes with
    the logarithm of its count, and only an empty one is blank."""
    groups = np.array_split(histogram.counts, min(width, histogram.counts.size))
    heights = np.log1p([group.sum() for group in groups])
    levels = np.ceil(heights / max(heights.max(), 1e-9) * (len(BARS) - 1)).astype(int)
    return "".join(BARS[level] for level in levels)


def _columns(seen: TensorStatistics, encoding: Encoding) -> Iterator[str]:
    low, high = encoding.minimum, encoding.maximum
    for value in (seen.low, seen.high, seen.mean, seen.deviation, low, high):
        yield f"{value:.6g}"
    yield encoding.dtype
    step = encoding.scale  # so near, no more is lost than rounding loses
    yield f"{seen.share_outside(low - step, high + step):.3g}"
    yield bars(seen.histogram)


def _natural(*names: str) -> list[list[tuple[int, str]]]:
    """Sort layers.2 before layers.10."""
    return [
        [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
        for name in names
    ]

"""Encodings: how a tensor's float values become integers, kept beside the graph by tensor name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from modelc.errors import Damaged, Where

IntegerType = Literal["uint8", "uint16", "int8", "int16", "int32"]


@dataclass(frozen=True)
class Encoding:
    """value = (code - zero_point) * scale, with codes of `dtype`."""

    scale: float
    zero_point: int
    dtype: IntegerType

    @property
    def minimum(self) -> float:
        return (int(np.iinfo(self.dtype).min) - self.zero_point) * self.scale

    @property
    def maximum(self) -> float:
        return (int(np.iinfo(self.dtype).max) - self.zero_point) * self.scale

    def quantise(self, values: np.ndarray) -> np.ndarray:
        limits = np.iinfo(self.dtype)
        codes = np.rint(np.asarray(values, np.float64) / self.scale) + self.zero_point
        clipped: np.ndarray = np.clip(codes, limits.min, limits.max).astype(self.dtype)
        return clipped

    def dequantise(self, codes: np.ndarray) -> np.ndarray:
        return ((codes.astype(np.float64) - self.zero_point) * self.scale).astype(np.float32)


def from_range(low: float, high: float, dtype: IntegerType) -> Encoding:
    """Return the asymmetric encoding that covers [low, high] and represents 0 exactly."""
    limits = np.iinfo(dtype)
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / (limits.max - limits.min), float(np.finfo(np.float32).tiny))
    zero_point = int(np.clip(np.rint(limits.min - low / scale), limits.min, limits.max))
    return Encoding(float(np.float32(scale)), zero_point, dtype)


def symmetric(limit: float, dtype: IntegerType) -> Encoding:
    """Return the encoding of [-limit, limit] whose zero is the middle code."""
    limits = np.iinfo(dtype)
    middle = (int(limits.max) + int(limits.min) + 1) // 2
    scale = max(limit / (limits.max - middle), float(np.finfo(np.float32).tiny))
    return Encoding(float(np.float32(scale)), middle, dtype)


def save(encodings: Mapping[str, Encoding], path: Path) -> None:
    document = {name: asdict(encodings[name]) for name in sorted(encodings)}
    path.write_text(json.dumps(document, indent=1) + "\n")


def load(path: Path) -> dict[str, Encoding]:
    """Raises Damaged if the file is not what `save` writes."""
    try:
        document = json.loads(path.read_text())
        if not isinstance(document, dict):
            raise ValueError("no JSON object")
        return {name: from_row(name, row) for name, row in document.items()}
    except (ValueError, RecursionError) as error:
        raise Damaged(f"not an encodings file: {error}", where=Where(path=str(path))) from error


def from_row(name: str, row: object) -> Encoding:
    """Return the encoding of a row of such a file; raises ValueError for what is none."""
    if isinstance(row, dict) and row.keys() == {"scale", "zero_point", "dtype"}:
        scale, zero_point, dtype = row["scale"], row["zero_point"], row["dtype"]
        if (
            dtype in get_args(IntegerType)
            and type(scale) is float
            and 0 < scale < float("inf")
            and type(zero_point) is int
            and np.iinfo(dtype).min <= zero_point <= np.iinfo(dtype).max
        ):
            return Encoding(scale, zero_point, dtype)
    raise ValueError(f"{name[:80]} has no scale, zero_point and dtype that go together")

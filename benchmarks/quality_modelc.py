"""modelc's own rows of `quality.py`: schemes and compositions of algorithms, simulated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
from quality_text import Text

from modelc.api.evaluation import simulated
from modelc.pipeline.simulation import Simulated, weight_bits
from modelc.pipeline.store import Store
from modelc.quant.overrides import EMBEDDING
from modelc.quant.schemes import SCHEMES

HEAD: Final = "lm_head"
SOURCE_BITS: Final = 16.0  # of what a scheme leaves as it is


@dataclass(frozen=True)
class Recipe:
    """A scheme, the algorithms that quantise its weights, and the table's kind if not its own."""

    quant: str
    algorithms: tuple[str, ...] = ()
    table: str = ""

    @property
    def label(self) -> str:
        table = [f"table {self.table}"] if self.table else []
        return " ".join([self.quant, *self.algorithms, *table])

    @property
    def overrides(self) -> dict[str, str]:
        return {EMBEDDING: self.table} if self.table else {}

    @property
    def is_calibrated(self) -> bool:
        """Whether anything of it reads a text."""
        return SCHEMES[self.quant].is_calibrated or bool(self.algorithms)


RECIPES: Final = (
    Recipe("w8a16"),
    Recipe("e4m3_b128"),
    Recipe("e4m3_channel"),
    Recipe("w4a16", ("nearest",)),
    Recipe("w4a16"),
    Recipe("w4a16", ("gptq",)),
    Recipe("w4a16", ("rotate", "gptq")),
    Recipe("w4a16", ("awq",)),
    Recipe("w4a16", ("awq", "gptq")),
    Recipe("w4a16", ("rotate", "awq", "gptq")),
    Recipe("w4a16_b32"),
    Recipe("w4a16_b32", ("gptq",)),
    Recipe("w4a16_lpbq"),
    Recipe("w4a16_lpbq", ("gptq",)),
    Recipe("w4a16_lpbq", ("rotate", "gptq")),
    Recipe("w4a16_lpbq", ("rotate", "gptq"), table="w8"),
)


@dataclass(frozen=True)
class Measured:
    """Logits of the scored tokens, and bits of a weight of the layers, the head and the table."""

    logits: np.ndarray
    bits: tuple[float, float, float]
    seconds: float


class Runner:
    """Runs recipes on one model; calibration and float logits are made once."""

    def __init__(self, model: Path, text: Text, calibration: Path, store: Path) -> None:
        self._model, self._text, self._store = model, text, Store(store)
        samples, length = text.calibration.shape
        self._calibration = {"text": calibration, "samples": samples, "sequence_length": length}

    def float_logits(self) -> np.ndarray:
        with simulated(self._model, store=self._store, quant="fp32", target="cpu") as opened:
            return self._scored(opened.float_logits(self._sequences))

    def run(self, recipe: Recipe) -> Measured:
        began = time.perf_counter()
        with simulated(
            self._model,
            store=self._store,
            quant=recipe.quant,
            algorithms=recipe.algorithms,
            overrides=recipe.overrides,
            calibration=self._calibration if recipe.is_calibrated else None,
        ) as opened:
            seconds = time.perf_counter() - began
            logits = self._scored(opened.logits(self._sequences))
            return Measured(logits, _bits(opened), seconds)

    @property
    def _sequences(self) -> list[list[int]]:
        return [row.tolist() for row in self._text.windows]

    def _scored(self, rows: Iterator[np.ndarray]) -> np.ndarray:
        return self._text.logits(lambda _: next(rows))


def numbers(model: Path) -> tuple[int, int, int]:
    """Return how many weights a model has in the matrices of its layers, its head and its table."""
    with simulated(model, quant="fp32", target="cpu") as opened:
        sizes = {module: prod(shape) for module, shape in opened.shapes.items()}
    table = sizes.pop(EMBEDDING)
    head = sizes.pop(HEAD)
    return sum(sizes.values()), head, table


def _bits(opened: Simulated) -> tuple[float, float, float]:
    def bits(module: str) -> float:
        kind = opened.kinds.get(module, "")
        return weight_bits(module, kind) if kind else SOURCE_BITS

    sizes = {module: prod(shape) for module, shape in opened.shapes.items()}
    layers = {module: size for module, size in sizes.items() if module not in (EMBEDDING, HEAD)}
    total = sum(size * bits(module) for module, size in layers.items())
    return total / sum(layers.values()), bits(HEAD), bits(EMBEDDING)

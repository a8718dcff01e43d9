"""What calibration costs: seconds and memory of gathering statistics, and of choosing ranges.

    python benchmarks/calibration_cost.py [--size 1b] [--layers N] [--samples 32] [--length 512]

Gathers the statistics of every activation of a Llama of random parameters in the shape of a real
one, on random tokens, in this process: seconds on the clock, and of both cores' time, which other
work on the machine changes little. Then every observer's choice from them. With --layers only so
many of the layers are run; the time of the others follows from theirs. Needs modelc only.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from random_folder import make
from random_models import SHAPES, default_folder
from tables import machine, show

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderModel
from modelc.frontends import read_model
from modelc.passes.expand import ExpandComposites
from modelc.pipeline.memory import PeakMemory
from modelc.quant.calibrate import activation_encodings, choose_ranges, gather_statistics
from modelc.quant.observers import OBSERVERS, make_observer

AIM_S = 600.0
"""For 1B parameters, 32 sequences of 512, on two cores."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=SHAPES, default="1b")
    parser.add_argument("--layers", type=int, help="run so many; default: all")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()

    source = read_model(make(options.folder, options.size))
    layers = source.config.layers
    part = first_layers(source, options.layers or layers)
    kept = part.config.layers
    model = ExpandComposites().apply(build_decoder(part, options.length))
    sequences = random_tokens(part, options.samples, options.length)

    marks = [(time.perf_counter(), sum(os.times()[:2]))]
    reached = 0

    def progress(fraction: float, name: str) -> None:
        nonlocal reached
        if int(10 * fraction) > reached:
            reached = int(10 * fraction)
            seconds = time.perf_counter() - marks[0][0]
            print(f"{reached}0 %: {seconds:.1f} s, {name}", flush=True)

    with PeakMemory() as memory:
        statistics = gather_statistics(model, sequences, progress)
    marks.append((time.perf_counter(), sum(os.times()[:2])))
    seconds, cores = (after - before for before, after in zip(*marks, strict=True))
    rows = [
        ("gather", f"{seconds:.1f} s", f"{cores:.1f} s", f"{memory.mb:.0f} MB"),
        *(_choice(name, statistics) for name in OBSERVERS),
    ]
    print(machine())
    work = f"{options.samples} sequences of {options.length}"
    title = f"{options.size}, {kept} of {layers} layers, {work}; aim for all of 1b: {AIM_S:.0f} s"
    show(title, ("work", "clock", "cores", "peak"), rows)


def first_layers(source: DecoderModel, count: int) -> DecoderModel:
    """Return a decoder of the first layers alone, with the same head."""
    kept = min(count, source.config.layers)
    config = replace(source.config, layers=kept, windows=source.config.windows[:kept])
    weights = {name: w for name, w in source.weights.items() if _layer(name) < kept}
    return replace(source, config=config, weights=weights)


def random_tokens(source: DecoderModel, samples: int, length: int) -> list[list[int]]:
    random = np.random.default_rng(0)
    drawn: list[list[int]] = random.integers(
        0, source.config.vocab_size, (samples, length)
    ).tolist()
    return drawn


def _layer(name: str) -> int:
    """Return the layer that a weight is of, -1 for the others."""
    return int(name.split(".")[2]) if name.startswith("model.layers.") else -1


def _choice(name: str, statistics: object) -> tuple[str, str, str, str]:
    start, cores = time.perf_counter(), sum(os.times()[:2])
    activation_encodings(choose_ranges(statistics, make_observer(name)))
    seconds = time.perf_counter() - start
    return name, f"{seconds:.1f} s", f"{sum(os.times()[:2]) - cores:.1f} s", ""


if __name__ == "__main__":
    main()

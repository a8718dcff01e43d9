"""What quantising weights by an algorithm costs: seconds and memory.

    python benchmarks/gptq_cost.py [--size 1b] [--layers N] [--algorithms gptq] [--samples 32]

Lets algorithms make 4-bit weights of a Llama of random parameters in the shape of a real one, on
random tokens, layer by layer in this process, as the step `weights` does. With --layers only so
many of the layers are done; the time of the others follows from theirs. Needs modelc only.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from calibration_cost import first_layers, random_tokens
from random_folder import make
from random_models import SHAPES, default_folder
from tables import machine, show

from modelc.decoder.builder import build_decoder
from modelc.frontends import read_model
from modelc.ir.packing.kinds import KINDS
from modelc.pipeline.memory import PeakMemory
from modelc.pipeline.steps_weights import matrix_forms
from modelc.quant.algorithms.choose import choose_algorithms
from modelc.quant.algorithms.walk import walk

AIM = "30 min and 8 GB on two cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=SHAPES, default="1b")
    parser.add_argument("--layers", type=int, help="do so many; default: all")
    parser.add_argument("--algorithms", default="gptq")
    parser.add_argument("--kind", choices=KINDS, default="w4")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()

    source = read_model(make(options.folder, options.size))
    layers = source.config.layers
    part = first_layers(source, options.layers or layers)
    kept = part.config.layers
    model = build_decoder(part, options.length)
    samples = random_tokens(part, options.samples, options.length)
    forms = matrix_forms(model, {"": options.kind, "lm_head": "w8"})
    rows: list[tuple[str, str, str]] = []
    marks = [(time.perf_counter(), sum(os.times()[:2]))]

    def finish(layer: object, *_: object) -> None:
        marks.append((time.perf_counter(), sum(os.times()[:2])))
        clock, cores = (marks[-1][i] - marks[-2][i] for i in (0, 1))
        rows.append((layer.name, f"{clock:.1f} s", f"{cores:.1f} s"))
        print(*rows[-1], flush=True)

    with PeakMemory() as memory:
        algorithms = choose_algorithms(options.algorithms.split(","), {})
        walk(model, part.config, algorithms, forms, samples, finish)
    clock, cores = (marks[-1][i] - marks[0][i] for i in (0, 1))
    rows.append(("all", f"{clock:.1f} s", f"{cores:.1f} s"))
    print(machine())
    work = f"{options.samples} sequences of {options.length}"
    title = f"{options.algorithms} of {options.size}, {kept} of {layers} layers, {work}"
    show(f"{title}; peak {memory.mb:.0f} MB; aim: {AIM}", ("part", "clock", "cores"), rows)


if __name__ == "__main__":
    main()

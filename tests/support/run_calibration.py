"""A calibration in a process of its own, which kills itself after so many tensors:
python run_calibration.py PARTIAL WEIGHTS TENSORS"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from modelc.decoder.builder import build_decoder
from modelc.passes.expand import ExpandComposites
from modelc.quant.calibrate import gather_statistics
from support.tiny_source import tiny_config, tiny_source

BATCHES = [[1, 5, 9, 12, 3, 39], [7, 7, 2]]


def main() -> None:
    partial, weights, tensors = sys.argv[1:4]
    source = tiny_source(tiny_config(layers=3), Path(weights))
    model = ExpandComposites().apply(build_decoder(source, context_length=16))
    count = 0

    def progress(fraction: float, name: str) -> None:
        nonlocal count
        count += 1
        if count == int(tensors):
            os.kill(os.getpid(), signal.SIGKILL)

    gather_statistics(model, BATCHES, progress, Path(partial))


if __name__ == "__main__":
    main()

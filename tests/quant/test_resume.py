"""Calibration that is killed goes on from the last part, and comes to the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.run_calibration import BATCHES
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.builder import build_decoder
from modelc.passes.expand import ExpandComposites
from modelc.quant.calibrate import gather_statistics
from modelc.quant.statistics import TensorStatistics, to_arrays

TESTS = Path(__file__).parents[1]


class Interrupted(Exception):
    pass


@pytest.fixture
def model(tmp_path: Path) -> ir.Model:
    source = tiny_source(tiny_config(layers=3), tmp_path / "weights.bin")
    write_weights(source)
    return ExpandComposites().apply(build_decoder(source, context_length=16))


def gather(
    model: ir.Model, partial: Path, until: int = 1 << 30
) -> tuple[list[str], dict[str, TensorStatistics]]:
    """Return the tensors that were seen now, and the statistics; none if it is interrupted."""
    seen: list[str] = []

    def progress(fraction: float, name: str) -> None:
        seen.append(name)
        if len(seen) == until:
            raise Interrupted

    partial.mkdir(exist_ok=True)
    try:
        return seen, gather_statistics(model, BATCHES, progress, partial)
    except Interrupted:
        return seen, {}


def assert_equal(one: dict[str, TensorStatistics], other: dict[str, TensorStatistics]) -> None:
    found, wanted = to_arrays(one), to_arrays(other)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.65, 0.97, 0.995])
def test_it_goes_on_where_it_was_interrupted(model: ir.Model, tmp_path: Path, share: float) -> None:
    whole = gather_statistics(model, BATCHES)
    total = len(whole) * len(BATCHES)
    before, _ = gather(model, tmp_path / "partial", until=int(share * total))
    after, statistics = gather(model, tmp_path / "partial")
    assert_equal(statistics, whole)
    assert len(after) <= total
    if share > 0.2:
        assert len(after) < total
        first = before[0]
        assert first not in after  # the embedding's part was done


def test_again_and_again(model: ir.Model, tmp_path: Path) -> None:
    """However often it stops, as long as one part is done between."""
    runs = 0
    while not (found := gather(model, tmp_path / "partial", until=130))[1]:
        runs += 1
    assert runs >= 2
    assert_equal(found[1], gather_statistics(model, BATCHES))


def test_after_a_kill(model: ir.Model, tmp_path: Path) -> None:
    whole = gather_statistics(model, BATCHES)
    total = len(whole) * len(BATCHES)
    partial = tmp_path / "partial"
    partial.mkdir()
    script = TESTS / "support" / "run_calibration.py"
    arguments = [str(partial), str(tmp_path / "weights.bin"), str(total // 2)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run([sys.executable, str(script), *arguments], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    after, statistics = gather(model, partial)
    assert total // 4 < len(after) < total
    assert_equal(statistics, whole)


@pytest.mark.parametrize("victim", ["observed.npz", "states.*.npz"])
def test_what_a_loss_of_power_tore_is_made_again(
    model: ir.Model, tmp_path: Path, victim: str
) -> None:
    partial = tmp_path / "partial"
    gather(model, partial, until=150)
    (file,) = partial.glob(victim)
    file.write_bytes(file.read_bytes()[:-500])
    after, statistics = gather(model, partial)
    whole = gather_statistics(model, BATCHES)
    assert len(after) == len(whole) * len(BATCHES)
    assert_equal(statistics, whole)


def test_progress_goes_on_as_well(model: ir.Model, tmp_path: Path) -> None:
    gather(model, tmp_path / "partial", until=200)
    fractions: list[float] = []
    gather_statistics(model, BATCHES, lambda f, name: fractions.append(f), tmp_path / "partial")
    assert fractions[0] > 0.2
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1

"""Feeds are checked before a child gets them, and never held all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.qnn_networks import TIMEOUT, feed_of

from modelc.errors import BadInput, Damaged
from modelc.targets.snapdragon.network import run
from modelc.targets.snapdragon.network.compile import CompiledNetwork
from modelc.targets.snapdragon.network.run import run_network, stream_network

pytest.importorskip("onnxruntime_qnn", reason="HTP's compiler is not here")
pytestmark = pytest.mark.simulator

FEED = {"ids": np.zeros((1, 8), np.int64), "mask": np.ones((1, 1, 8), bool)}


def test_batches(
    compiled: Callable[[str], CompiledNetwork],
    networks: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No batch is larger than asked, and none is made before the one before it was run."""
    read: list[int] = []
    batches: list[int] = []

    def feeds() -> Iterator[dict[str, np.ndarray]]:
        for index in range(5):
            read.append(index)
            yield feed_of(networks("cnn"), index)

    def simulate(_: Path, batch: list[object], **__: object) -> tuple[list[object], object]:
        batches.append(len(batch))
        return batch, {}

    monkeypatch.setattr(run, "simulate", simulate)
    one = 3 * 16 * 16 * 4
    stream = stream_network(
        compiled("cnn").wrapper, feeds(), workdir=tmp_path, timeout_s=1, batch_bytes=2 * one
    )
    next(stream)
    assert (batches, len(read)) == ([2], 3)
    assert len(list(stream)) == 4
    assert batches == [2, 2, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": np.zeros((1, 8), np.int32)}, r"input ids is int32 \[1, 8\], not int64 \[1, 8\]"),
        ({"ids": np.zeros((1, 9), np.int64)}, r"input ids is int64 \[1, 9\]"),
        ({"more": np.zeros(1)}, "input more is float64 .* not absent"),
    ],
)
def test_feeds_that_do_not_fit(
    change: dict[str, np.ndarray],
    message: str,
    compiled: Callable[[str], CompiledNetwork],
    tmp_path: Path,
) -> None:
    wrapper = compiled("encoder").wrapper
    with pytest.raises(BadInput, match=message):
        run_network(wrapper, [FEED | change], workdir=tmp_path, timeout_s=TIMEOUT)
    with pytest.raises(BadInput, match="input mask is absent"):
        run_network(wrapper, [{"ids": FEED["ids"]}], workdir=tmp_path, timeout_s=TIMEOUT)


def test_a_binary_of_another_network(
    compiled: Callable[[str], CompiledNetwork], tmp_path: Path
) -> None:
    wrapper, other = compiled("encoder").wrapper, compiled("cnn").binary
    (tmp_path / wrapper.name).write_bytes(wrapper.read_bytes())
    (tmp_path / "encoder.bin").write_bytes(other.read_bytes())
    with pytest.raises(Damaged, match=r"encoder\.bin has no graph encoder_"):
        run_network(tmp_path / wrapper.name, [FEED], workdir=tmp_path, timeout_s=TIMEOUT)

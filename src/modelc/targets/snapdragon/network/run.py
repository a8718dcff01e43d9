"""Runs a compiled network in the HTP simulator. It says nothing about speed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.errors import BadInput, Where
from modelc.ir.arrays import Arrays, load_sequence, save_sequence
from modelc.process import run_worker
from modelc.targets.snapdragon.network.ep_context import (
    NetworkWrapper,
    Port,
    read_network_wrapper,
)
from modelc.targets.snapdragon.network.op_packages import OpPackage, package_options

STEP: Final = "simulate"
BATCH_BYTES: Final = 256 << 20
"""As much as is handed to one child at once, inputs alone; a feed that is larger goes alone."""

_WORKER: Final = "modelc.targets.snapdragon.network.run_worker"


def run_network(
    wrapper: Path,
    feeds: Sequence[Arrays],
    *,
    workdir: Path,
    timeout_s: float,
    op_packages: Sequence[OpPackage] = (),
) -> list[dict[str, np.ndarray]]:
    """Run a compiled network on each feed, and return the outputs of each.

    Inputs and outputs are the model's own: names, types and sizes. What runs on the CPU by the
    wrapper does so here too.

    Args:
        timeout_s: for each batch of feeds.
        op_packages: as it was compiled.

    Raises:
        BadInput: a feed that doesn't fit.
        Damaged: the wrapper or the binary can't be read.
        ToolFailed: the simulator crashed or ran out of time.
    """
    stream = stream_network(
        wrapper, feeds, workdir=workdir, timeout_s=timeout_s, op_packages=op_packages
    )
    return list(stream)


def stream_network(
    wrapper: Path,
    feeds: Iterable[Arrays],
    *,
    workdir: Path,
    timeout_s: float,
    op_packages: Sequence[OpPackage] = (),
    batch_bytes: int = BATCH_BYTES,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield what `run_network` returns, while no more than a batch of feeds is held in memory."""
    read = read_network_wrapper(wrapper)
    if not read.inputs:
        raise BadInput("the network has no inputs", where=Where(step=STEP, graph=wrapper.stem))
    for batch in _batches(_checked(feeds, read, wrapper), batch_bytes):
        yield from simulate(
            wrapper, batch, workdir=workdir, timeout_s=timeout_s, op_packages=op_packages
        )[0]


def simulate(
    wrapper: Path,
    feeds: Sequence[Arrays],
    *,
    workdir: Path,
    timeout_s: float,
    op_packages: Sequence[OpPackage] = (),
    profile: Path | None = None,
    step: str = STEP,
) -> tuple[list[dict[str, np.ndarray]], dict[str, Any]]:
    """Run one batch in a child; return the outputs and the child's reply.

    Args:
        profile: a file for the provider's profile.
    """
    workdir = workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="feeds-", dir=workdir) as scratch:
        inputs, outputs = Path(scratch, "inputs.npz"), Path(scratch, "outputs.npz")
        save_sequence(inputs, feeds)
        job = {
            "wrapper": str(wrapper.resolve()),
            "inputs": str(inputs),
            "outputs": str(outputs),
            "settings": package_options(op_packages),
            "profile": str(profile.resolve()) if profile else "",
        }
        reply = run_worker(
            _WORKER,
            job,
            workdir=workdir,
            timeout_s=timeout_s,
            where=Where(step=step, graph=wrapper.stem),
            hint="if it crashed, the binary is damaged or of another QAIRT: compile it again",
        )
        return load_sequence(outputs), reply


def check_feed(feed: Arrays, inputs: Sequence[Port], where: Where) -> None:
    """Check that a feed has all inputs and nothing else, of their types and sizes.

    Raises:
        BadInput: it hasn't.
    """
    wanted = {port.name: (port.dtype, port.shape) for port in inputs}
    found = {name: (str(array.dtype), array.shape) for name, array in feed.items()}
    if found == wanted:
        return
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise BadInput(
                f"input {name} is {_told(found, name)}, not {_told(wanted, name)}",
                where=where,
                hint=f"the network takes {', '.join(wanted)}",
            )


def _checked(feeds: Iterable[Arrays], read: NetworkWrapper, wrapper: Path) -> Iterator[Arrays]:
    where = Where(step=STEP, graph=wrapper.stem)
    for feed in feeds:
        check_feed(feed, read.inputs, where)
        yield feed


def _batches(feeds: Iterable[Arrays], batch_bytes: int) -> Iterator[list[Arrays]]:
    batch, size = list[Arrays](), 0
    for feed in feeds:
        added = sum(array.nbytes for array in feed.values())
        if batch and size + added > batch_bytes:
            yield batch
            batch, size = [], 0
        batch.append(feed)
        size += added
    if batch:
        yield batch


def _told(tensors: Mapping[str, tuple[str, tuple[int, ...]]], name: str) -> str:
    if name not in tensors:
        return "absent"
    dtype, shape = tensors[name]
    return f"{dtype} {list(shape)}"

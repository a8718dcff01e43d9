"""Runs a compiled network: in the HTP simulator, or on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import tee
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from modelc.errors import Damaged, Missing, Where
from modelc.pipeline.network.edge_codes import CodedEdges
from modelc.targets.snapdragon.network.op_packages import OpPackage

Arrays = Mapping[str, np.ndarray]

TIMEOUT_S: Final = 4 * 3600.0


class NetworkRuntime(Protocol):
    """A network that runs here."""

    name: str
    """Whose numbers these are: "htp-simulator", "onnxruntime"."""

    def run(self, feeds: Iterable[Arrays]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the outputs of each feed, by name."""


class SimulatedNetwork:
    """A context binary in the HTP simulator, through its EPContext model."""

    name = "htp-simulator"

    def __init__(self, wrapper: Path, op_packages: Sequence[OpPackage] = ()) -> None:
        self._wrapper = wrapper
        self._op_packages = op_packages

    def run(self, feeds: Iterable[Arrays]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the outputs of each feed.

        Raises:
            BadInput, Damaged, ToolFailed: as `stream_network`.
        """
        from modelc.targets.snapdragon.network.run import stream_network

        with tempfile.TemporaryDirectory(prefix="modelc-") as scratch:
            yield from stream_network(
                self._wrapper,
                feeds,
                workdir=Path(scratch),
                timeout_s=TIMEOUT_S,
                op_packages=self._op_packages,
            )


class CpuNetwork:
    """An ONNX file on ONNX Runtime's CPU."""

    name = "onnxruntime"

    def __init__(self, model: Path, threads: int = 0) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            where = Where(path=str(model))
            raise Damaged(f"ONNX Runtime can't load it: {error}", where=where) from error
        self.inputs = tuple(argument.name for argument in self._session.get_inputs())
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Iterable[Arrays]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the outputs of each feed."""
        for feed in feeds:
            made = self._session.run(self._outputs, dict(feed))
            yield dict(zip(self._outputs, made, strict=True))


class WithTail:
    """A network whose tail runs on the CPU behind the head.

    Args:
        outputs: what to give, of all that the head and the tail give, in order.
    """

    def __init__(self, head: NetworkRuntime, tail: CpuNetwork, outputs: Sequence[str]) -> None:
        self.name = f"{head.name}+{tail.name}"
        self._head, self._tail, self._outputs = head, tail, tuple(outputs)

    def run(self, feeds: Iterable[Arrays]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the outputs of each feed."""
        given, fed = tee(feeds)
        for feed, made in zip(given, self._head.run(fed), strict=True):
            known = {**feed, **made}
            taken = {name: known[name] for name in self._tail.inputs}
            known |= next(self._tail.run([taken]))
            yield {name: known[name] for name in self._outputs}


def open_network(
    folder: Path,
    settings: Mapping[str, Any],
    chipset: str | None = None,
    threads: int = 0,
    *,
    inner: bool = False,
) -> NetworkRuntime:
    """Return the runtime of a bundle's network, which takes and gives the source's own types.

    Args:
        settings: of its manifest.
        chipset: which of those it was compiled for; None for the first.
        inner: give what a tail reads of the head as well.

    Raises:
        Missing: it holds nothing that runs here.
        Damaged: the encodings of its inputs and outputs are none.
    """
    if settings["cpu"]:
        return CpuNetwork(folder / settings["cpu"], threads)
    wrappers: Mapping[str, str] = settings["wrappers"]
    name = chipset or next(iter(wrappers), "")
    if name not in wrappers:
        raise Missing(
            f"the bundle holds no context binary{f' for {name}' if name else ''}",
            where=Where(path=str(folder)),
            hint="compile it with --format context-binary, and for that chipset",
        )
    network: NetworkRuntime = SimulatedNetwork(folder / wrappers[name], bundled_packages(settings))
    if "tail" in settings:
        tail = CpuNetwork(folder / settings["tail"]["file"], threads)
        shown = [*_names(settings), *(crossing(settings) if inner else ())]
        network = WithTail(network, tail, shown)
    return CodedEdges(network, settings["codes"]) if "codes" in settings else network


def crossing(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a network's tail reads of its head and isn't an output; nothing if it has none.

    Args:
        facts: of the canonical graph, as the manifest's settings have them too.
    """
    outputs = set(_names(facts))
    made = (row["name"] for row in facts["head"]["outputs"]) if "tail" in facts else ()
    return tuple(name for name in made if name not in outputs)


def _names(facts: Mapping[str, Any]) -> list[str]:
    return [row["name"] for row in facts["outputs"]]


def bundled_packages(settings: Mapping[str, Any]) -> list[OpPackage]:
    """Return the op packages that a bundle was compiled with, where they were then."""
    return [
        OpPackage(row["op"], Path(row["library"]), row["interface"], row["target"])
        for row in settings["op_packages"]
    ]

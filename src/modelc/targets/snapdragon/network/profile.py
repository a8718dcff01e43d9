"""What each operator of a compiled network costs: the simulator's cycles, and the static costs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelc.errors import BadInput, Where
from modelc.ir.arrays import Arrays
from modelc.targets.snapdragon import binary
from modelc.targets.snapdragon.network.ep_context import read_network_wrapper
from modelc.targets.snapdragon.network.op_packages import OpPackage
from modelc.targets.snapdragon.network.op_trace import Operators, read_operators
from modelc.targets.snapdragon.network.profile_events import Event, read_events
from modelc.targets.snapdragon.network.run import check_feed, simulate

STEP: Final = "profile"
SIMULATOR: Final = "htp-simulator"
TENSORS: Final = {"Input": "reads the inputs", "Output": "writes the outputs"}


@dataclass(frozen=True)
class OperatorProfile:
    """What an operator of a QNN graph took.

    Attributes:
        operator: its name in the QNN graph, "" for all that the compiler put in.
        kind: QNN's name of what it does, "" where it isn't known.
        nodes, modules: the model's nodes that it does, and their module paths.
        cycles: of a run, on average.
    """

    operator: str
    kind: str
    nodes: tuple[str, ...]
    modules: tuple[str, ...]
    cycles: float


@dataclass(frozen=True)
class GraphFigures:
    """What a QNN graph of the binary needs, as the binary says; a device has the same."""

    name: str
    spill_fill_bytes: int
    vtcm_mb: int


@dataclass(frozen=True)
class NetworkProfile:
    """A profile.

    Attributes:
        source: what measured the cycles: SIMULATOR. Its cycles compare operators of one network
            roughly, and tell nothing of a device's time.
        runs: how many runs the cycles are averages of.
        operators: as they run.
        cycles: of a run as a whole.
        on_cpu: nodes that the CPU runs, which no cycles are known of.
    """

    source: str
    runs: int
    operators: tuple[OperatorProfile, ...]
    cycles: float
    graphs: tuple[GraphFigures, ...]
    on_cpu: tuple[str, ...]


def profile_network(
    wrapper: Path,
    operators: Path,
    feeds: Sequence[Arrays],
    *,
    workdir: Path,
    timeout_s: float,
    op_packages: Sequence[OpPackage] = (),
) -> NetworkProfile:
    """Run a compiled network in the simulator, and return what each of its operators took.

    Args:
        operators: the file that was written beside the binary.
        feeds: one for each run; at least one.

    Raises:
        BadInput: no feed, one that doesn't fit, or a network in several parts, of which the
            simulator can't tell the operators apart.
        Damaged: a file can't be read.
        ToolFailed: the simulator crashed, ran out of time or left no profile.
    """
    where = Where(step=STEP, graph=wrapper.stem)
    read, known = read_network_wrapper(wrapper), read_operators(operators)
    if not feeds:
        raise BadInput("nothing to profile the network on", where=where, hint="give it a feed")
    if len(read.graphs) != 1:
        raise BadInput(
            f"the simulator profiles networks in one part; this one is in {len(read.graphs)}",
            where=where,
            hint="compile it without --allow-cpu-fallback, or profile its parts as networks",
        )
    for feed in feeds:
        check_feed(feed, read.inputs, where)
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="profile-", dir=workdir) as fresh:
        events = Path(fresh, "events.csv")
        _, reply = simulate(
            wrapper,
            feeds,
            workdir=workdir,
            timeout_s=timeout_s,
            op_packages=op_packages,
            profile=events,
            step=STEP,
        )
        found = read_events(events)
    runs = len(feeds)
    return NetworkProfile(
        source=SIMULATOR,
        runs=runs,
        operators=_rows(found, known, runs),
        cycles=sum(event.cycles for event in found if event.operator is None) / runs,
        graphs=tuple(
            GraphFigures(graph.name, graph.spill_fill_bytes, graph.vtcm_mb)
            for graph in binary.from_json(reply["info"]).graphs
        ),
        on_cpu=read.on_cpu,
    )


def cycles_by_node(profile: NetworkProfile) -> dict[str, float]:
    """Return the cycles of a run by the model's nodes; those of an operator that does several
    nodes are the first one's, so that the sum is right."""
    cycles: dict[str, float] = {}
    for row in profile.operators:
        if row.nodes:
            cycles[row.nodes[0]] = cycles.get(row.nodes[0], 0.0) + row.cycles
    return cycles


def _rows(events: Iterable[Event], known: Operators, runs: int) -> tuple[OperatorProfile, ...]:
    cycles: dict[str, int] = {}
    for event in events:
        if event.operator is not None:
            cycles[event.operator] = cycles.get(event.operator, 0) + event.cycles
    return tuple(_row(name, total / runs, known) for name, total in cycles.items())


def _row(name: str, cycles: float, known: Operators) -> OperatorProfile:
    operator = known.get(name)
    if operator is None:
        return OperatorProfile(name, TENSORS.get(name, ""), (), (), cycles)
    return OperatorProfile(name, operator.kind, operator.nodes, operator.modules, cycles)

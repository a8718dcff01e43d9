"""What each operator of a compiled network costs: the simulator's cycles, and the static costs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelc.errors import BadInput, ToolFailed, Where
from modelc.ir.arrays import Arrays
from modelc.targets.snapdragon import binary
from modelc.targets.snapdragon.network.ep_context import read_network_wrapper
from modelc.targets.snapdragon.network.op_packages import OpPackage
from modelc.targets.snapdragon.network.op_trace import Operator, Operators, read_operators
from modelc.targets.snapdragon.network.profile_events import Event, read_events
from modelc.targets.snapdragon.network.run import check_feed, simulate

STEP: Final = "profile"
SIMULATOR: Final = "htp-simulator"
TENSORS: Final = {"Input": "reads the inputs", "Output": "writes the outputs"}


@dataclass(frozen=True)
class OperatorProfile:
    """What an operator of a QNN graph took.

    Attributes:
        graph: the QNN graph's name.
        operator: its name in the QNN graph, "" for all that the compiler put in.
        kind: QNN's name of what it does, "" where it isn't known.
        nodes, modules: the model's nodes that it does, and their module paths.
        cycles: of a run, on average.
    """

    graph: str
    operator: str
    kind: str
    nodes: tuple[str, ...]
    modules: tuple[str, ...]
    cycles: float


@dataclass(frozen=True)
class GraphFigures:
    """What a QNN graph of the binary needs, as the binary says; a device has the same. And the
    cycles of a run of it, on average."""

    name: str
    spill_fill_bytes: int
    vtcm_mb: int
    cycles: float


@dataclass(frozen=True)
class NetworkProfile:
    """A profile.

    Attributes:
        source: what measured the cycles: SIMULATOR. Its cycles compare operators of one network
            roughly, and tell nothing of a device's time.
        runs: how many runs the cycles are averages of.
        operators: as they run, graph after graph.
        cycles: of a run of all graphs.
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
        BadInput: no feed, or one that doesn't fit.
        Damaged: a file can't be read.
        ToolFailed: the simulator crashed, ran out of time or left no profile.
    """
    where = Where(step=STEP, graph=wrapper.stem)
    read, known = read_network_wrapper(wrapper), read_operators(operators)
    if not feeds:
        raise BadInput("nothing to profile the network on", where=where, hint="give it a feed")
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
        found = events_by_graph(read_events(events), read.graphs, known, len(feeds))
    runs = len(feeds)
    info = {graph.name: graph for graph in binary.from_json(reply["info"]).graphs}
    figures = tuple(
        GraphFigures(
            name,
            info[name].spill_fill_bytes,
            info[name].vtcm_mb,
            sum(event.cycles for event in rows if event.operator is None) / runs,
        )
        for name, rows in found.items()
    )
    return NetworkProfile(
        source=SIMULATOR,
        runs=runs,
        operators=tuple(
            row
            for name, rows in found.items()
            for row in _rows(name, rows, known.get(name, {}), runs)
        ),
        cycles=sum(figure.cycles for figure in figures),
        graphs=figures,
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


def events_by_graph(
    events: Iterable[Event], graphs: Sequence[str], known: Operators, runs: int
) -> dict[str, list[Event]]:
    """Return the events of each graph, in the order in which graphs run.

    A profile doesn't name graphs: it has a block for each time that one runs, which the graph's
    cycles begin. In every run they run in the same order, and their operators tell which is which.

    Raises:
        ToolFailed: there are more or fewer blocks.
    """
    blocks: list[list[Event]] = []
    for event in events:
        if event.operator is None:
            blocks.append([])
        if blocks:
            blocks[-1].append(event)
    if len(blocks) != runs * len(graphs):
        raise ToolFailed(
            f"the profile tells of {len(blocks)} runs of graphs, not of {runs * len(graphs)}",
            where=Where(step=STEP),
        )
    order, left = list[str](), list(graphs)
    for block in blocks[: len(graphs)]:
        names = {event.operator for event in block}
        best = max(left, key=lambda graph: len(names & known.get(graph, {}).keys()))
        order.append(best)
        left.remove(best)
    found: dict[str, list[Event]] = {name: [] for name in order}
    for index, block in enumerate(blocks):
        found[order[index % len(order)]] += block
    return found


def _rows(
    graph: str, events: Iterable[Event], known: Mapping[str, Operator], runs: int
) -> tuple[OperatorProfile, ...]:
    cycles: dict[str, int] = {}
    for event in events:
        if event.operator is not None:
            cycles[event.operator] = cycles.get(event.operator, 0) + event.cycles
    return tuple(_row(graph, name, total / runs, known) for name, total in cycles.items())


def _row(graph: str, name: str, cycles: float, known: Mapping[str, Operator]) -> OperatorProfile:
    operator = known.get(name)
    if operator is None:
        return OperatorProfile(graph, name, TENSORS.get(name, ""), (), (), cycles)
    return OperatorProfile(graph, name, operator.kind, operator.nodes, operator.modules, cycles)

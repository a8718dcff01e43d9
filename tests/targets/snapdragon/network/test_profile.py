"""The profile names the model's nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.qnn_networks import TIMEOUT, feed_of

from modelc.errors import BadInput, Damaged, ToolFailed
from modelc.targets.snapdragon.network.compile import CompiledNetwork
from modelc.targets.snapdragon.network.op_trace import Operator, read_operators, write_operators
from modelc.targets.snapdragon.network.profile import (
    SIMULATOR,
    NetworkProfile,
    cycles_by_node,
    events_by_graph,
    profile_network,
)
from modelc.targets.snapdragon.network.profile_events import Event, read_events


def profile(made: CompiledNetwork, model: Path, folder: Path, runs: int) -> NetworkProfile:
    feeds = [feed_of(model, index) for index in range(runs)]
    return profile_network(made.wrapper, made.operators, feeds, workdir=folder, timeout_s=TIMEOUT)


@pytest.mark.simulator
def test_profile(
    networks: Callable[[str], Path], compiled: Callable[[str], CompiledNetwork], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime_qnn", reason="HTP's simulator is not here")
    found = profile(compiled("cnn"), networks("cnn"), tmp_path, runs=2)
    assert (found.source, found.runs, found.on_cpu) == (SIMULATOR, 2, ())
    [graph] = found.graphs
    assert (graph.name, graph.vtcm_mb) == (compiled("cnn").info.graphs[0].name, 8)
    rows = {row.operator: row for row in found.operators}
    conv = rows["conv_token_1"]
    assert (conv.kind, conv.nodes, conv.modules) == ("Conv2d", ("conv",), ("net.conv",))
    assert (rows["head"].kind, rows["Input"].kind) == ("FullyConnected", "reads the inputs")
    # What the operators took is what the run took, as the vendor counts both.
    assert sum(row.cycles for row in found.operators) == pytest.approx(found.cycles, rel=0.01)
    assert set(cycles_by_node(found)) == {"conv", "relu", "pool", "flatten", "head"}


@pytest.mark.simulator
def test_a_profile_of_parts(
    networks: Callable[[str], Path], compiled: Callable[[str], CompiledNetwork], tmp_path: Path
) -> None:
    """HTP runs what is before and behind the Erf, each as a graph of its own."""
    pytest.importorskip("onnxruntime_qnn", reason="HTP's simulator is not here")
    made = compiled("erf")
    found = profile(made, networks("erf"), tmp_path, runs=2)
    assert found.on_cpu == ("activation",)
    assert [graph.name for graph in found.graphs] == [graph.name for graph in made.info.graphs]
    before, behind = found.graphs
    parts = {row.nodes[0]: row.graph for row in found.operators if row.nodes}
    assert parts["softmax"] == before.name and parts["norm"] == behind.name
    for index, nodes in enumerate(made.partition.htp):
        assert {parts[name] for name in nodes if name in parts} == {found.graphs[index].name}
    for graph in found.graphs:
        rows = [row for row in found.operators if row.graph == graph.name]
        assert {"Input", "Output"} <= {row.operator for row in rows}
        assert sum(row.cycles for row in rows) == pytest.approx(graph.cycles, rel=0.05)
    assert found.cycles == pytest.approx(before.cycles + behind.cycles)


@pytest.mark.simulator
def test_nothing_to_profile(
    networks: Callable[[str], Path], compiled: Callable[[str], CompiledNetwork], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime_qnn", reason="HTP's simulator is not here")
    with pytest.raises(BadInput, match="nothing to profile"):
        profile(compiled("cnn"), networks("cnn"), tmp_path, runs=0)


KNOWN = {"g1": {"a": Operator("Conv2d", ("a",), ())}, "g2": {"b": Operator("Add", ("b",), ())}}


def test_blocks_are_told_apart_by_their_operators() -> None:
    """Of two runs, in which g2 runs first."""
    one = [Event(None, 5), Event("Input", 1), Event("b", 4), Event(None, 7), Event("a", 7)]
    found = events_by_graph([*one, *one], ["g1", "g2"], KNOWN, runs=2)
    assert list(found) == ["g2", "g1"]
    assert found["g1"] == [Event(None, 7), Event("a", 7)] * 2
    with pytest.raises(ToolFailed, match="2 runs of graphs, not of 4"):
        events_by_graph(one, ["g1", "g2"], KNOWN, runs=2)


HEADER = (
    "Msg Timestamp,Message,Time,Unit of Measurement,Timing Source,Event Level,Event Identifier\n"
)


def test_events(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(
        HEADER
        + "0,BACKEND,40,US,BACKEND,ROOT,Accelerator (execute) time\n"
        + "0,BACKEND,900,CYCLES,BACKEND,ROOT,Accelerator (execute) time (cycles)\n"
        + "0,NODE,3,CYCLES,BACKEND,SUB-EVENT,Input OpId_2 (cycles)\n"
        + "0,NODE,5,CYCLES,BACKEND,SUB-EVENT,a/b:c:OpId_17 (cycles)\n"
        + "0,NODE,7,CYCLES,BACKEND,SUB-EVENT,OpId_45 (cycles)\n"
    )
    assert read_events(path) == [
        Event(None, 900),
        Event("Input", 3),
        Event("a/b:c", 5),
        Event("", 7),
    ]


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", HEADER + "0,NODE,many,CYCLES,B,S,OpId_1 (cycles)\n"]
)
def test_no_profile(text: str, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(text)
    with pytest.raises(ToolFailed, match="left no profile"):
        read_events(path)


def test_operators_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "net.operators.json"
    operators = {"graph": {"conv_1": Operator("Conv2d", ("conv", "q"), ("net.conv",))}}
    write_operators(path, operators)
    assert read_operators(path) == operators


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "[]",
        "{}",
        '{"format": "modelc.operators/2", "graphs": {"g": {"a": {"kind": "x", "nodes": "ab"}}}}',
        '{"format": "modelc.operators/2", "graphs": {"g": {"a": {"kind": 1, "nodes": [], '
        '"modules": []}}}}',
        '{"format": "modelc.operators/2", "graphs": {"g": []}}',
        '{"format": "modelc.operators/1", "graphs": {}}',
    ],
)
def test_damaged_operators(text: str, tmp_path: Path) -> None:
    path = tmp_path / "net.operators.json"
    path.write_text(text)
    with pytest.raises(Damaged, match="not the record"):
        read_operators(path)

"""Loops whose number of rounds is known before the network runs, written out round by round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.frontends.onnx.draft import OPSET, Draft, Rewrite, sizes_of
from modelc.frontends.onnx.modules import CALL, path_of

MOST_ROUNDS: Final = 64
"""A loop of more stays what it is."""
MOST_NODES: Final = 4096
"""Operators that a loop may become, those in graphs inside of it counted once."""


def unroll(node: ir.Node, graph: ir.Graph | ir.Function, draft: Draft) -> bool:
    """Put the rounds of a Loop or Scan in its place; tell whether their number is known and within
    the bounds.

    A Loop's is known if its trip count is a constant and nothing can end it before.
    """
    rounds = _rounds_of_loop(node, draft) if node.op_type == "Loop" else _rounds_of_scan(node)
    body = node.attributes["body"].as_graph()
    size = sum(1 for _ in body.all_nodes())
    if rounds is None or not 0 < rounds <= MOST_ROUNDS or rounds * size > MOST_NODES:
        return False
    _give_own_outputs(body)
    writer = Rewrite(draft, node)
    run = _run_loop if node.op_type == "Loop" else _run_scan
    results = run(node, body, rounds, writer)
    call = path_of(node)
    for new in writer.nodes:
        new.metadata_props.setdefault(CALL, call)
    for index, (old, new_value) in enumerate(zip(node.outputs, results, strict=True)):
        if new_value.producer() not in writer.nodes or new_value in results[:index]:
            new_value = writer.emit("Identity", [new_value])
            writer.nodes[-1].metadata_props[CALL] = call
            results[index] = new_value
        new_value.name = old.name
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], writer.nodes, node.outputs, results
    )
    return True


def _rounds_of_loop(node: ir.Node, draft: Draft) -> int | None:
    """Return a Loop's trip count if it is known that so many rounds are run."""
    count = draft.known(node.inputs[0])
    first = draft.known(node.inputs[1])
    if count is None or count.size != 1 or (node.inputs[1] is not None and first is None):
        return None
    if first is not None and not first.reshape(-1).all():
        return None
    body = node.attributes["body"].as_graph()
    goes_on: ir.Value | None = body.outputs[0]
    while goes_on is not None and (producer := goes_on.producer()) is not None:
        if producer.op_type not in ("Identity", "Cast"):
            break
        goes_on = producer.inputs[0]
    if goes_on is not None and goes_on is not body.inputs[1]:
        constant = ir.convenience.get_const_tensor(goes_on)
        if constant is None or constant.size != 1 or not bool(constant.numpy().reshape(())[()]):
            return None
    return int(count.reshape(())[()])


def _rounds_of_scan(node: ir.Node) -> int | None:
    """Return how many slices a Scan goes through, if its axis has a known size."""
    scanned = _scanned(node)
    if not scanned:
        return None
    value, axis = scanned[0][:2]
    sizes = sizes_of(value)
    return sizes[axis] if sizes is not None and -len(sizes) <= axis < len(sizes) else None


def _run_loop(node: ir.Node, body: ir.Graph, rounds: int, writer: Rewrite) -> list[ir.Value]:
    """Write a Loop's rounds; return what takes the place of its outputs."""
    states = list(node.inputs[2:])
    rows: list[list[ir.Value]] = [[] for _ in node.outputs[len(states) :]]
    goes_on = writer.array(np.array(True), "goes_on")
    for number in range(rounds):
        count = writer.array(np.array(number, np.int64), "round")
        made = _round(body, [count, goes_on, *states], number, writer)[1:]
        for row, value in zip(rows, made[len(states) :], strict=True):
            row.append(value)
        states = list(made[: len(states)])
    return [*_present(states), *(_stacked(row, 0, writer) for row in rows)]


def _run_scan(node: ir.Node, body: ir.Graph, rounds: int, writer: Rewrite) -> list[ir.Value]:
    """Write a Scan's rounds; return what takes the place of its outputs."""
    scanned = _scanned(node)
    states = list(node.inputs[: len(node.inputs) - len(scanned)])
    slices = [_slices(*row, rounds, writer) for row in scanned]
    given = node.outputs[len(states) :]
    rows: list[list[ir.Value]] = [[] for _ in given]
    for number in range(rounds):
        made = _round(body, [*states, *(row[number] for row in slices)], number, writer)
        for row, value in zip(rows, made[len(states) :], strict=True):
            row.append(value)
        states = list(made[: len(states)])
    axes = _integers(node, "scan_output_axes", len(given))
    backward = _integers(node, "scan_output_directions", len(given))
    stacked = (
        _stacked(row[::-1] if back else row, axis, writer)
        for row, axis, back in zip(rows, axes, backward, strict=True)
    )
    return [*_present(states), *stacked]


def _round(
    body: ir.Graph, inputs: Sequence[ir.Value | None], number: int, writer: Rewrite
) -> list[ir.Value]:
    """Write one round; return what the body gives in it."""
    copy = body.clone(allow_outer_scope_values=True)
    for inner, outer in zip(list(copy.inputs), inputs, strict=True):
        if outer is not None:
            inner.replace_all_uses_with(outer)
    for name, value in list(copy.initializers.items()):
        assert value.const_value is not None  # it was read from a file
        value.replace_all_uses_with(writer.draft.store(value.const_value, f"{name}.{number}"))
    results = list(copy.outputs)
    copy.outputs.clear()
    nodes = list(copy)
    copy.remove(nodes)
    for new in nodes:
        new.name = f"{new.name}.{number}" if new.name else None
        for value in new.outputs:
            if value.name:
                value.name = writer.draft.unique(f"{value.name}.{number}")
    writer.nodes += nodes
    return results


def _give_own_outputs(body: ir.Graph) -> None:
    """Let nodes of the body make all that it gives: not its inputs, nor what is around it."""
    nodes, seen = set(body), set[ir.Value]()
    for index, value in enumerate(list(body.outputs)):
        if value.producer() not in nodes or value in seen:
            copy = ir.Node("", "Identity", [value], num_outputs=1, version=OPSET)
            copy.outputs[0].name = f"{value.name}.given_{index}"
            body.append(copy)
            body.outputs[index] = copy.outputs[0]
        seen.add(value)


def _scanned(node: ir.Node) -> list[tuple[ir.Value, int, int]]:
    """Return value, axis and direction (1: backward) of each input that a Scan goes through."""
    count = node.attributes["num_scan_inputs"].as_int()
    values = [value for value in node.inputs[len(node.inputs) - count :] if value is not None]
    axes = _integers(node, "scan_input_axes", count)
    backward = _integers(node, "scan_input_directions", count)
    return list(zip(values, axes, backward, strict=True)) if 0 < count == len(values) else []


def _slices(
    value: ir.Value, axis: int, backward: int, rounds: int, writer: Rewrite
) -> list[ir.Value]:
    pieces: Sequence[ir.Value] = [value]
    if rounds > 1:
        sizes = writer.integers([1] * rounds, "sizes")
        pieces = writer.emit_many("Split", [value, sizes], rounds, axis=axis)
    axes = writer.integers([axis], "axis")
    slices = [writer.emit("Squeeze", [piece, axes]) for piece in pieces]
    return slices[::-1] if backward else slices


def _stacked(row: Sequence[ir.Value], axis: int, writer: Rewrite) -> ir.Value:
    axes = writer.integers([axis], "axis")
    pieces = [writer.emit("Unsqueeze", [value, axes]) for value in row]
    return pieces[0] if len(pieces) == 1 else writer.emit("Concat", pieces, axis=axis)


def _integers(node: ir.Node, name: str, count: int) -> list[int]:
    """Return an attribute of as many integers as there are tensors, 0 where it says nothing."""
    found = list(node.attributes[name].as_ints()) if name in node.attributes else []
    return found if len(found) == count else [0] * count


def _present(states: Sequence[ir.Value | None]) -> list[ir.Value]:
    return [state for state in states if state is not None]

"""What a pass is, and the runner that holds every pass to its contract."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from modelc.errors import ModelcError, Where
from modelc.ir.legality import Stage, check_legal
from modelc.ir.provenance import module_of
from modelc.ir.text import same_constants, to_text


@dataclass(frozen=True)
class Pass(ABC):
    """Graph in, graph out. Subclasses are frozen dataclasses whose fields are their options.

    `apply` may change the model in place and returns it. `before` and `after` are the stages
    whose operators may occur in the input and in the output.
    """

    name: ClassVar[str]
    before: ClassVar[Stage]
    after: ClassVar[Stage]

    @abstractmethod
    def apply(self, model: ir.Model) -> ir.Model:
        """Return the graph that this pass makes of `model`."""


@dataclass(frozen=True)
class PassRecord:
    """What one pass did: whether it changed the graph, nodes after it, seconds."""

    name: str
    changed: bool
    nodes: int
    seconds: float


def run_passes(
    model: ir.Model,
    passes: Sequence[Pass],
    *,
    graph: str,
    dump_dir: Path | None = None,
    progress: Callable[[PassRecord], None] = lambda record: None,
) -> tuple[ir.Model, list[PassRecord]]:
    """Run passes in order, checking each one's contract: legal operators before and after, a
    sorted graph, unique names, and a module path on every node.

    `dump_dir` receives the text form after each pass (`00_input.txt`, `01_<pass>.txt`, ...).

    Raises:
        ModelcError: a pass failed or broke its contract; names it and the passes before it.
    """
    records: list[PassRecord] = []
    before = _Snapshot.of(model, dump_dir, 0, "input")
    for index, step in enumerate(passes, 1):
        done = [record.name for record in records]
        where = Where(f"{step.name} (after {', '.join(done)})" if done else step.name, graph)
        start = time.perf_counter()
        check_legal(model, step.before, where)
        model = step.apply(model)
        _check_contract(model, step, where)
        after = _Snapshot.of(model, dump_dir, index, step.name)
        record = PassRecord(
            step.name,
            not after.is_same(before),
            model.graph.num_nodes(),
            time.perf_counter() - start,
        )
        records.append(record)
        before = after
        progress(record)
    return model, records


def _check_contract(model: ir.Model, step: Pass, where: Where) -> None:
    check_legal(model, step.after, where)
    known = {value.name for value in model.graph.inputs} | set(model.graph.initializers)
    for node in model.graph:
        if not module_of(node):
            raise ModelcError(f"node {node.name} ({node.op_type}) has lost its module", where=where)
        for value in node.inputs:
            if value is not None and value.name not in known:
                raise ModelcError(
                    f"{node.name} ({node.op_type}) reads {value.name} before it is made",
                    where=where,
                )
        for value in node.outputs:
            if value.name and value.name in known:
                raise ModelcError(f"two tensors are named {value.name}", where=where)
            known.add(value.name)


@dataclass(frozen=True)
class _Snapshot:
    """A graph as it was between two passes."""

    text: str
    constants: Mapping[str, ir.TensorProtocol]

    @classmethod
    def of(cls, model: ir.Model, directory: Path | None, index: int, name: str) -> _Snapshot:
        """Take it; write the text form if a directory is given."""
        text = to_text(model)
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{index:02d}_{name}.txt").write_text(text)
        initializers = model.graph.initializers.items()
        return cls(text, {n: v.const_value for n, v in initializers if v.const_value is not None})

    def is_same(self, other: _Snapshot) -> bool:
        return self.text == other.text and same_constants(self.constants, other.constants)

"""Walks a decoder part by part, lets algorithms work on each, and carries the calibration samples
through what they made of it: so a layer sees the inputs that it will see when all is quantised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.decoder.config import DecoderConfig
from modelc.errors import BadInput, Where
from modelc.ir.emit import dims_of
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.kinds import Form
from modelc.ir.provenance import module_of
from modelc.ir.stored import release
from modelc.ir.weights import StoredWeight
from modelc.quant.algorithms.layer import UNREACHED, Algorithm, Floats, Layer
from modelc.reference.narrow import keep_rows
from modelc.reference.parts import cut_at_layers
from modelc.reference.session import Session, empty_caches

State = dict[str, np.ndarray]
_TABLE: Final = "model.embed_tokens.weight"


@dataclass(frozen=True)
class Checkpoint:
    """Where a walk stands: how many parts are done, and what the next one reads of each sample."""

    done: int
    states: list[State]


def walk(
    model: ir.Model,
    config: DecoderConfig,
    algorithms: Sequence[Algorithm],
    forms: Mapping[str, Form],
    samples: Sequence[Sequence[int]],
    finish: Callable[[Layer, Mapping[str, Floats], Checkpoint], None],
    start: Checkpoint | None = None,
) -> None:
    """Let algorithms work on every part of a canonical graph, in order.

    Args:
        forms: module -> form of its matrix.
        samples: sequences of tokens; read only if an algorithm needs inputs.
        finish: told of each part when it is done, of those of its weights that changed without
            becoming codes, and where to go on from.
        start: where an earlier walk stood.

    Raises:
        BadInput: a weight is NaN or infinite; names it.
    """
    observed = any(algorithm.needs_inputs for algorithm in algorithms)
    whole = any(algorithm.whole_model for algorithm in algorithms)
    parts = cut_at_layers(model)
    states = start.states if start else (_first(model, samples) if observed else [])
    used = np.unique(np.concatenate(list(samples))) if observed else None
    for index, part in enumerate(parts):
        if start and index < start.done:
            continue
        layer = _layer(part, config, forms, whole)
        given = dict(layer.weights)
        later = _reads(parts[index + 1 :])
        for algorithm in algorithms:
            if algorithm.needs_inputs and not layer.inputs and layer.reads:
                run = _with_weights(part, layer.weights, None)
                lengths = [len(sample) for sample in samples]
                layer.inputs = _observe(run, states, lengths, set(layer.reads.values()))
                for module in layer.forms:
                    if not len(layer.inputs_of(module)):
                        layer.notes.setdefault(module, {})[UNREACHED] = 0
            algorithm.apply(layer)
        layer.inputs = {}
        if observed and later:
            tokens = used if any(v.name == "input_ids" for v in part.graph.inputs) else None
            _advance(_with_weights(part, _finished(layer), tokens), states, later)
        changed = {
            name: array
            for name, array in layer.weights.items()
            if array is not given[name] and name.removesuffix(".weight") not in layer.coded
        }
        finish(layer, changed, Checkpoint(index + 1, states))


def count_parts(model: ir.Model) -> int:
    """Return how many parts a walk through a graph has."""
    return len(cut_at_layers(model))


def _first(model: ir.Model, samples: Sequence[Sequence[int]]) -> list[State]:
    """Return what the first part reads; tokens as places among those that the samples use."""
    used = np.unique(np.concatenate([np.asarray(sample) for sample in samples]))
    return [
        {
            "input_ids": np.searchsorted(used, np.asarray(sample, np.int64))[None],
            "position_ids": np.arange(len(sample), dtype=np.int64)[None],
            **empty_caches(model, 1),
        }
        for sample in samples
    ]


def _layer(part: ir.Model, config: DecoderConfig, forms: Mapping[str, Form], whole: bool) -> Layer:
    head = forms.get("lm_head")
    left = set() if whole else {_TABLE}
    if not whole and (head is None or head.bits > 4):
        left.add("lm_head.weight")  # as large as the table, and well off with its default
    weights, reads = {}, {}
    for name, value in part.graph.initializers.items():
        tensor = value.const_value
        if not isinstance(tensor, StoredWeight) or name in left:
            continue
        weights[name] = _decoded(name, tensor)
        for use in value.uses():
            if use.node.op_type == "MatMul":
                source = use.node.inputs[0]
                assert source is not None
                reads[module_of(use.node)] = str(source.name)
    name = _name(part)
    here = {module: form for module, form in forms.items() if f"{module}.weight" in weights}
    return Layer(name, config, weights, here, reads)


def _name(part: ir.Model) -> str:
    first = min((m for m in map(module_of, part.graph) if m.startswith(("model.", "lm_"))), key=len)
    pieces = first.split(".")
    return ".".join(pieces[:3]) if pieces[:2] == ["model", "layers"] else _end(first)


def _end(module: str) -> str:
    return "model.embed_tokens" if module.startswith("model.embed") else "lm_head"


def _decoded(name: str, tensor: StoredWeight) -> Floats:
    values = replace(tensor.source, transposed=False).decode()
    release(tensor.source)
    if not np.isfinite(values.sum(dtype=np.float64)):
        raise BadInput(
            "a weight is NaN or infinite",
            where=Where(module=name.removesuffix(".weight")),
            hint="the source's weights are damaged",
        )
    return values


def _finished(layer: Layer) -> dict[str, Floats]:
    """Return the weights of a layer as they come out: codes as what they stand for."""
    coded = {f"{module}.weight": dequantise_rows(rows) for module, rows in layer.coded.items()}
    return {**layer.weights, **coded}


def _with_weights(
    part: ir.Model, weights: Mapping[str, Floats], used: np.ndarray | None
) -> ir.Model:
    """Return a copy of a part with other weights; of the table only the used rows."""
    if used is not None:
        part = keep_rows(part, used)  # before others are in: it decodes what is stored
        weights = {**weights, **({_TABLE: weights[_TABLE][used]} if _TABLE in weights else {})}
    copy = part.clone()
    for name, array in weights.items():
        value = copy.graph.initializers[name]
        turned = any(use.node.op_type == "MatMul" for use in value.uses())
        value.const_value = ir.Tensor(np.ascontiguousarray(array.T if turned else array), name=name)
        value.shape = ir.Shape(value.const_value.shape.numpy())
    return copy


def _observe(
    part: ir.Model, states: Sequence[State], lengths: Sequence[int], names: set[str]
) -> dict[str, Floats]:
    """Run a part on all samples; return the named tensors, float32 [all tokens, width]; those that
    experts read have the tokens that went to them."""
    made = {value.name: value for node in part.graph for value in node.outputs}
    given = {name for name in names if name not in made}
    part.graph.outputs[:] = [made[name] for name in sorted(names - given)]
    session = Session(part)
    routed = {name for name in names - given if len(dims_of(made[name])) == 2}
    seen: dict[str, Floats] = {}
    apart: dict[str, list[Floats]] = {name: [] for name in sorted(routed)}
    first = 0
    for state, count in zip(states, lengths, strict=True):
        results = session.run(state)
        for name in sorted(names):
            array = state[name] if name in given else results[name]
            if name in routed:
                apart[name].append(array)
                continue
            rows = seen.setdefault(name, np.empty((sum(lengths), array.shape[-1]), np.float32))
            rows[first : first + count] = array.reshape(count, -1)
        first += count
    return seen | {name: np.concatenate(parts) for name, parts in apart.items()}


def _advance(part: ir.Model, states: Sequence[State], needed: set[str]) -> None:
    """Run a part on all samples, which then hold what the parts behind read."""
    session = Session(part)
    for state in states:
        state |= session.run(state)
        for name in state.keys() - needed:
            del state[name]


def _reads(parts: Sequence[ir.Model]) -> set[str]:
    return {str(value.name) for part in parts for value in part.graph.inputs}

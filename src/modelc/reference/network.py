"""The float network on ONNX Runtime CPU: its outputs, and every tensor in between.

The graph is run in segments, one after the other, each in a session of its own that reads the
weights where they lie. What a segment makes goes where the one before had its tensors, and only
what is still to be read is kept. So memory holds few tensors, and all of them can be looked at for
the cost of one inference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from modelc.errors import ModelcError, Where
from modelc.ir.provenance import module_of
from modelc.ir.subgraph import subgraph
from modelc.reference.slab import Place, make_slab, places_of, run_into

Feed = Mapping[str, np.ndarray]
Observer = Callable[[str, np.ndarray], None]

SEGMENT_BYTES: Final = 256 << 20
"""Of all tensors that a segment makes; a single larger one is a segment of its own."""

_INLINE: Final = 1024
"""Elements; what has more is fed, which ONNX Runtime reads in place and never copies. Shapes,
scales and axes, which kernels want as constants, have fewer."""


@dataclass(frozen=True, eq=False)
class _Segment:
    session: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, np.ndarray]
    done: frozenset[str]
    """Tensors that nothing reads any more."""
    places: tuple[Place, ...] | None
    """Where its outputs lie in a slab; None if ONNX Runtime has to say how large they are."""

    def run(self, taken: Feed, slab: np.ndarray) -> dict[str, np.ndarray]:
        """Return all outputs; those that are read later in memory of their own."""
        if self.places is None:
            made = self.session.run(self.outputs, dict(taken))
            return dict(zip(self.outputs, made, strict=True))
        found = run_into(self.session, taken, self.places, slab)
        return {
            name: values if name in self.done else values.copy() for name, values in found.items()
        }


class NetworkReference:
    """A canonical graph of a network, ready to run, from several threads at once if need be.

    Args:
        model: static; stays as it is.
        threads: of ONNX Runtime; 0 is its choice.
        segment_bytes: most that the tensors of one segment take, for each thread that runs it.

    Raises:
        ModelcError: ONNX Runtime doesn't take the graph; names the modules of that segment.
    """

    def __init__(
        self, model: ir.Model, threads: int = 0, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._outputs = tuple(str(value.name) for value in model.graph.outputs)
        self._inputs = tuple(str(value.name) for value in model.graph.inputs)
        self._given = {
            str(value.name): value.const_value.numpy()
            for value in model.graph.outputs
            if value.const_value is not None
        }
        self._modules = {
            str(value.name): module_of(node) for node in model.graph for value in node.outputs
        }
        parts = list(_parts(model, segment_bytes))
        last: dict[str, int] = {}
        for index, nodes in enumerate(parts):
            read = (value for node in nodes for value in (*node.inputs, *node.outputs))
            last.update((str(value.name), index) for value in read if value is not None)
        kept = frozenset(self._outputs)
        self._segments = [
            _open(
                model,
                nodes,
                frozenset(name for name, at in last.items() if at == index) - kept,
                threads,
            )
            for index, nodes in enumerate(parts)
        ]
        ends = (place.end for segment in self._segments for place in segment.places or ())
        self._slab_bytes = max(ends, default=0)
        self._slabs: list[np.ndarray] = []  # those that no thread is using

    def run(self, feed: Feed) -> dict[str, np.ndarray]:
        """Return the outputs of one inference, by name in the graph's order."""
        return self.observe(feed, lambda name, values: None)

    def observe(self, feed: Feed, observer: Observer) -> dict[str, np.ndarray]:
        """Run one inference, show every tensor that it reads or makes, and return the outputs.

        Args:
            observer: called with each graph input's and node output's name and numbers, which it
                must not keep: others will be written there.

        Raises:
            ModelcError: ONNX Runtime fails on this feed.
        """
        tensors = {name: feed[name] for name in self._inputs} | self._given
        for name in self._inputs:
            observer(name, tensors[name])
        slab = self._slabs.pop() if self._slabs else make_slab(self._slab_bytes)
        for segment in self._segments:
            taken = {
                name: segment.weights[name] if name in segment.weights else tensors[name]
                for name in segment.inputs
            }
            try:
                made = segment.run(taken, slab)
            except Exception as error:  # ONNX Runtime's own types, which are many
                raise ModelcError(
                    f"the float model fails: {error}",
                    where=Where(step="reference", module=self._modules[segment.outputs[0]]),
                    hint="try the model in ONNX Runtime with the same inputs",
                ) from error
            for name, values in made.items():
                observer(name, values)
            tensors |= made
            for name in segment.done:
                tensors.pop(name, None)
        self._slabs.append(slab)
        return {name: tensors[name] for name in self._outputs}


def _parts(model: ir.Model, limit: int) -> Iterator[list[ir.Node]]:
    """Yield consecutive nodes whose tensors are within the limit; all at once where a node has a
    graph inside, which may read any tensor."""
    nodes = list(model.graph)
    if any(a.type in _GRAPHS for node in nodes for a in node.attributes.values()):
        yield nodes
        return
    part: list[ir.Node] = []
    size = 0
    for node in nodes:
        made = sum(_nbytes(value) for value in node.outputs)
        if part and size + made > limit:
            yield part
            part, size = [], 0
        part.append(node)
        size += made
    if part:
        yield part


def _nbytes(value: ir.Value) -> int:
    """Return a tensor's bytes, 0 if its sizes are not known."""
    if value.shape is None or value.dtype is None or not value.shape.is_static():
        return 0
    return int(np.prod(value.shape.numpy(), dtype=np.int64) * max(value.dtype.itemsize, 1))


def _open(model: ir.Model, nodes: list[ir.Node], done: frozenset[str], threads: int) -> _Segment:
    import onnxruntime

    part = subgraph(model, nodes, f"{model.graph.name or 'network'}.{nodes[0].name}")
    whole = any(a.type in _GRAPHS for node in nodes for a in node.attributes.values())
    part = model.clone() if whole else part
    part.functions.update(model.functions)
    part.opset_imports.update(model.opset_imports)
    weights = {} if whole else _weights_as_inputs(part)
    for value in part.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):  # bytes in memory have no folder
            value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
    shown = {str(value.name): value for node in part.graph for value in node.outputs if value.name}
    part.graph.outputs[:] = list(shown.values())
    options = onnxruntime.SessionOptions()
    # Nothing is fused, so that every tensor is what the graph says.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    try:
        session = onnxruntime.InferenceSession(
            ir.serde.serialize_model(part).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
        )
    except Exception as error:  # ONNX Runtime's own types, which are many
        raise ModelcError(
            f"ONNX Runtime does not take the float model: {error}",
            where=Where(step="reference", module=module_of(nodes[0])),
            hint="the graph must run on ONNX Runtime CPU, which is the reference",
        ) from error
    names = tuple(argument.name for argument in session.get_inputs())
    places = places_of(session.get_outputs())
    return _Segment(session, names, tuple(shown), weights, done, places)


def _weights_as_inputs(model: ir.Model) -> dict[str, np.ndarray]:
    """Turn large float initialisers into inputs, and return their arrays."""
    large = {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
        and value.const_value.size > _INLINE
        and value.const_value.dtype.is_floating_point()
    }
    for name in large:
        value = model.graph.initializers.pop(name)
        value.const_value = None
        model.graph.inputs.append(value)
    return {name: tensor.numpy() for name, tensor in large.items()}


_GRAPHS: Final = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})

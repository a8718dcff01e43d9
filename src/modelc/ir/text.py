"""The stable text form of a graph: one line per node, sorted attributes, no weights' bytes.

It is for people (`--dump-ir`), for golden tests and for fingerprints; it is not read back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import onnx_ir as ir

from modelc.hashing import digest
from modelc.ir.provenance import module_of
from modelc.ir.rounded import RoundedMatrix
from modelc.ir.stored import StoredMatrix
from modelc.ir.weights import DerivedWeight, StoredWeight

SMALL = 8  # constants up to this many elements are written out


def to_text(model: ir.Model) -> str:
    """Return the text form of a model; equal graphs give equal text."""
    graph = model.graph
    opsets = ", ".join(f"{d or 'ai.onnx'}={v}" for d, v in sorted(model.opset_imports.items()))
    lines = [f"model opsets({opsets})"]
    lines += [f"input  {_typed(value)}" for value in graph.inputs]
    lines += [
        f"weight {_typed(value)} = {_constant(value.const_value)}"
        for _, value in sorted(graph.initializers.items())
    ]
    lines += [_node(node) for node in graph]
    lines += [f"output {_typed(value)}" for value in graph.outputs]
    return "\n".join(lines) + "\n"


def fingerprint(model: ir.Model, text: str | None = None) -> str:
    """Return a SHA-256 (hex) of everything that a graph computes: its text form (`text`, if it is
    at hand) and its constants.

    Weights that lie in a source file, and tensors made of such, count by place and format, not by
    their bytes.
    """
    sha = hashlib.sha256((to_text(model) if text is None else text).encode())
    for name, value in sorted(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or isinstance(tensor, (StoredWeight, DerivedWeight)):
            continue  # its line in the text names its place
        sha.update(name.encode() + b"=" + _digest(tensor))
    return sha.hexdigest()


def same_constants(
    one: Mapping[str, ir.TensorProtocol], other: Mapping[str, ir.TensorProtocol]
) -> bool:
    """Whether constants of the same text form, by name, are the same. Tensors don't change, so
    numbers are read only of those that are other objects."""
    return one.keys() == other.keys() and all(
        tensor is other[name]
        or isinstance(tensor, (StoredWeight, DerivedWeight))  # its line in the text says it all
        or _digest(tensor) == _digest(other[name])
        for name, tensor in one.items()
    )


_DIGESTS: WeakKeyDictionary[ir.TensorProtocol, bytes] = WeakKeyDictionary()


def _digest(tensor: ir.TensorProtocol) -> bytes:
    """The SHA-256 of a tensor's bytes, remembered as long as it lives: tensors don't change."""
    known = _DIGESTS.get(tensor)
    if known is None:
        known = _DIGESTS[tensor] = hashlib.sha256(tensor.tobytes()).digest()
    return known


def _node(node: ir.Node) -> str:
    outputs = ", ".join(_typed(value) for value in node.outputs)
    inputs = ", ".join("_" if value is None else f"%{value.name}" for value in node.inputs)
    attributes = ", ".join(_attributes(node))
    domain = f"{node.domain}." if node.domain else ""
    line = f"{outputs} = {domain}{node.op_type}"
    line += f"<{attributes}>({inputs})" if attributes else f"({inputs})"
    return f"{line}  # {module_of(node)}" if module_of(node) else line


def _attributes(node: ir.Node) -> Iterable[str]:
    for name, attribute in sorted(node.attributes.items()):
        value = attribute.value
        if attribute.type == ir.AttributeType.TENSOR:
            yield f"{name}={_constant(value)}"
        elif isinstance(value, float):
            yield f"{name}={np.float32(value)}"  # as a file holds it
        else:
            yield f"{name}={value!r}" if isinstance(value, str) else f"{name}={value}"


def _typed(value: ir.Value) -> str:
    kind = value.dtype.name.lower() if value.dtype is not None else "?"
    if value.shape is None:
        return f"%{value.name}: {kind}"
    dims = ", ".join(str(d) if isinstance(d, int) else str(d.value or "?") for d in value.shape)
    return f"%{value.name}: {kind}[{dims}]"


def _constant(tensor: ir.TensorProtocol | None) -> str:
    if tensor is None:
        return "?"
    if isinstance(tensor, StoredWeight):
        return f"stored<{_place(tensor.source)}>"
    if isinstance(tensor, DerivedWeight):
        return f"{tensor.how} of <{'; '.join(_place(source) for source in tensor.sources)}>"
    if tensor.size <= SMALL:
        return str(tensor.numpy().tolist())
    return f"<{tensor.size} elements>"


@lru_cache(maxsize=1 << 16)  # the text is written after every pass
def _place(source: StoredMatrix) -> str:
    edits = digest([source.rows, source.unpermute_heads, source.transposed, source.add])[:8]
    how = "" if type(source) is StoredMatrix else f", {type(source).__name__}"
    if isinstance(source, RoundedMatrix):
        how = f", {source}"
    return f"{source.path.name}@{source.offset}, {source.format}, {edits}{how}"

"""Operators that took by attribute what opset 23 takes as an input, or lost an attribute."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import onnx_ir as ir

from modelc.frontends.onnx.draft import Attribute, Rewrite, rank_of

Outputs = Sequence[ir.Value]

_TRAINING: Final = "export the model for inference: in PyTorch, model.eval()"


def axes_as_input(node: ir.Node, rewrite: Rewrite) -> Outputs | None:
    """Reduce*, Squeeze, Unsqueeze."""
    axes = _ints(node, "axes")
    if axes is None or not axes:
        return None
    return rewrite.again([*node.inputs, rewrite.integers(axes, "axes")], **kept(node, "axes"))


def split(node: ir.Node, rewrite: Rewrite) -> Outputs | None:
    """Equal parts were meant where no sizes are given; opset 18 wants to hear so."""
    sizes = _ints(node, "split")
    rest = kept(node, "split")
    if sizes:
        return rewrite.again([node.inputs[0], rewrite.integers(sizes, "split")], **rest)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        return None
    return rewrite.again([node.inputs[0]], num_outputs=len(node.outputs), **rest)


def slice_(node: ir.Node, rewrite: Rewrite) -> Outputs | None:
    starts, ends = _ints(node, "starts"), _ints(node, "ends")
    if starts is None or ends is None:
        return None
    axes = _ints(node, "axes") or list(range(len(starts)))
    parts = {"starts": starts, "ends": ends, "axes": axes}
    return rewrite.again([node.inputs[0], *(rewrite.integers(n, k) for k, n in parts.items())])


def top_k(node: ir.Node, rewrite: Rewrite) -> Outputs | None:
    if "k" not in node.attributes:
        return None
    k = rewrite.integers([node.attributes["k"].as_int()], "k")
    return rewrite.again([node.inputs[0], k], **kept(node, "k"))


def pad(node: ir.Node, rewrite: Rewrite) -> Outputs | None:
    pads = _ints(node, "pads")
    if pads is None:
        return None
    data = _first(node)
    inputs = [data, rewrite.integers(pads, "pads")]
    if value := _float(node, "value", 0.0):
        inputs.append(rewrite.number_like(data, value, "value"))
    return rewrite.again(inputs, **kept(node, "pads", "value"))


def clip(node: ir.Node, rewrite: Rewrite) -> Outputs | None:
    data = _first(node)
    bounds: list[ir.Value | None] = [
        rewrite.number_like(data, _float(node, name, 0.0), name)
        if name in node.attributes
        else None
        for name in ("min", "max")
    ]
    while bounds and bounds[-1] is None:
        bounds.pop()
    return rewrite.again([data, *bounds])


def dropout(node: ir.Node, rewrite: Rewrite) -> Outputs:
    """As inference has it: nothing is dropped."""
    if is_read(node.outputs[1:]):
        raise rewrite.refuse("is asked for its mask", _TRAINING)
    return [rewrite.emit("Dropout", [node.inputs[0]])]


def dft(node: ir.Node, rewrite: Rewrite) -> Outputs:
    length = node.inputs[1] if len(node.inputs) > 1 else None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    axis_input = rewrite.draft.store(ir.tensor(axis, dtype=ir.DataType.INT64), f"{node.name}.axis")
    return rewrite.again([node.inputs[0], length, axis_input], **kept(node, "axis"))


def batch_normalization(node: ir.Node, rewrite: Rewrite) -> Outputs:
    """Opsets before 9 could normalise every place apart (`spatial` 0), those before 14 told
    training from inference by the number of outputs."""
    if is_read(node.outputs[1:]):
        raise rewrite.refuse("is asked for statistics of training", _TRAINING)
    if "spatial" in node.attributes and node.attributes["spatial"].as_int() == 0:
        data, scale, bias, mean, variance = node.inputs
        epsilon = rewrite.number_like(_first(node), _float(node, "epsilon", 1e-5), "epsilon")
        root = rewrite.emit("Sqrt", [rewrite.emit("Add", [variance, epsilon])])
        normal = rewrite.emit("Div", [rewrite.emit("Sub", [data, mean]), root])
        return [rewrite.emit("Add", [rewrite.emit("Mul", [normal, scale]), bias])]
    rest = kept(node, "spatial")
    return [rewrite.emit("BatchNormalization", node.inputs, **rest)]


def group_normalization(node: ir.Node, rewrite: Rewrite) -> Outputs:
    """Scale and bias were one number a group; now they are one a channel."""
    data, scale, bias = node.inputs
    groups = node.attributes["num_groups"].as_int()
    channels = data.shape[1] if data is not None and (rank_of(data) or 0) > 1 else None  # type: ignore[index]
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise rewrite.refuse("has a number of channels that isn't known", "export with opset 21")
    spread = [_spread(rewrite, value, groups, channels) for value in (scale, bias)]
    return rewrite.again([data, *spread], **kept(node))


def _spread(rewrite: Rewrite, value: ir.Value | None, groups: int, channels: int) -> ir.Value:
    column = rewrite.emit("Reshape", [value, rewrite.integers([groups, 1], "column")])
    sizes = rewrite.integers([groups, channels // groups], "spread")
    return rewrite.emit(
        "Reshape",
        [rewrite.emit("Expand", [column, sizes]), rewrite.integers([channels], "channels")],
    )


def global_lp_pool(node: ir.Node, rewrite: Rewrite) -> Outputs:
    """The root of the sum of powers, for every channel; ONNX Runtime has no GlobalLpPool-22."""
    data = _first(node)
    rank = rank_of(data)
    if rank is None:
        raise rewrite.refuse("reads a tensor of unknown rank", "export it with shapes of tensors")
    power = float(node.attributes["p"].as_int()) if "p" in node.attributes else 2.0
    magnitudes = rewrite.emit("Abs", [data])
    powers = rewrite.emit("Pow", [magnitudes, rewrite.number_like(data, power, "power")])
    total = rewrite.emit("ReduceSum", [powers, rewrite.integers(range(2, rank), "axes")])
    return [rewrite.emit("Pow", [total, rewrite.number_like(data, 1 / power, "root")])]


def is_read(values: Iterable[ir.Value]) -> bool:
    return any(value.uses() or value.is_graph_output() for value in values)


def kept(node: ir.Node, *gone: str) -> dict[str, Attribute]:
    """Return a node's attributes but those that are `gone`."""
    return {name: a.value for name, a in node.attributes.items() if name not in gone}


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None  # checked against the operator's definition
    return value


def _ints(node: ir.Node, name: str) -> list[int] | None:
    return list(node.attributes[name].as_ints()) if name in node.attributes else None


def _float(node: ir.Node, name: str, default: float) -> float:
    return node.attributes[name].as_float() if name in node.attributes else default

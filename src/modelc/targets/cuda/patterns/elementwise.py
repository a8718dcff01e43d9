"""Looking up, norms, sums, gates, rows."""

from __future__ import annotations

from typing import Any, Final

import onnx_ir as ir

from modelc.ir.emit import dims_of
from modelc.targets.cuda.emitter import Emitter, Rule
from modelc.targets.cuda.kernel import Constants
from modelc.targets.cuda.patterns.codes import codes_wanted, make_codes
from modelc.targets.cuda.patterns.values import (
    Tensors,
    real,
    size_of,
    text,
    values_of,
    width_of,
)


def _embed(node: ir.Node, emitter: Emitter) -> None:
    ids, table = values_of(node, 2)
    vocabulary, width = dims_of(table)
    emitter.launch(
        node,
        "embed",
        {
            "token_ids": emitter.read(ids),
            "table": emitter.read(table),
            "out": emitter.make(node.outputs[0]),
        },
        {"vocab": size_of(vocabulary), "width": size_of(width), "scale": real(node, "scale", 1.0)},
    )


def _rms_norm(node: ir.Node, emitter: Emitter) -> None:
    x, weight = values_of(node, 2)
    tensors: Tensors = {"x": emitter.read(x), "weight": emitter.read(weight)}
    _launch_norm(node, emitter, "rms_norm", tensors)


def _add_rms_norm(node: ir.Node, emitter: Emitter) -> None:
    x, residual, weight = values_of(node, 3)
    tensors: Tensors = {
        "x": emitter.read(x),
        "residual": emitter.read(residual),
        "weight": emitter.read(weight),
        "total": emitter.make(node.outputs[0]),
    }
    _launch_norm(node, emitter, "add_rms_norm", tensors)


def _launch_norm(node: ir.Node, emitter: Emitter, kernel: str, tensors: Tensors) -> None:
    """Where layers read the norm as codes, it is written as codes, and as numbers only if others
    read it too."""
    out = node.outputs[-1]
    constants: dict[str, Any] = {"width": width_of(out), "epsilon": real(node, "epsilon")}
    group, is_read = codes_wanted(out, emitter)
    if not group:
        emitter.launch(node, kernel, {**tensors, "out": emitter.make(out)}, constants)
        return
    codes, scales = make_codes(out, emitter, group)
    tensors |= {"codes": codes, "scales": scales, "out": emitter.make(out) if is_read else None}
    emitter.launch(node, f"{kernel}_fp8", tensors, {**constants, "group": group})


def _add(node: ir.Node, emitter: Emitter) -> None:
    x, y = values_of(node, 2)
    if dims_of(x) != dims_of(y) or y.const_value is not None or x.const_value is not None:
        emitter.operator(node, "Add", {})
        return
    names = {"x": emitter.read(x), "y": emitter.read(y), "out": emitter.make(node.outputs[0])}
    emitter.launch(node, "add", names, {"width": width_of(x)})


def _gated(node: ir.Node, emitter: Emitter) -> None:
    (x,) = values_of(node, 1)
    names = {"x": emitter.read(x), "out": emitter.make(node.outputs[0])}
    constants: Constants = {
        "width": width_of(node.outputs[0]),
        "activation": text(node, "activation"),
    }
    emitter.launch(node, "gated", names, constants)


def _add_gated(node: ir.Node, emitter: Emitter) -> None:
    names = dict(zip(("x", "y", "gate"), values_of(node, 3), strict=True))
    tensors: Tensors = {name: emitter.read(value) for name, value in names.items()}
    tensors["out"] = emitter.make(node.outputs[0])
    emitter.launch(node, "add_gated", tensors, {"width": width_of(names["x"])})


def _select_rows(node: ir.Node, emitter: Emitter) -> None:
    x, wanted = values_of(node, 2)
    if emitter.numbers.kind == "decode":  # each token's logits are wanted
        emitter.alias(node.outputs[0], emitter.read(x))
        return
    names = {
        "x": emitter.read(x),
        "wanted": emitter.read(wanted),
        "out": emitter.make(node.outputs[0]),
    }
    emitter.launch(node, "select_rows", names, {"width": width_of(x)})


def _softcap(node: ir.Node, emitter: Emitter) -> None:
    (x,) = values_of(node, 1)
    name = emitter.read(x)
    emitter.launch(
        node, "softcap", {"logits": name}, {"width": width_of(x), "cap": real(node, "cap")}
    )
    emitter.alias(node.outputs[0], name)


def _collective(node: ir.Node, emitter: Emitter) -> None:
    """Not a kernel: the library that talks to the other devices does it."""
    (x,) = values_of(node, 1)
    name = emitter.read(x)
    emitter.make(node.outputs[0], emitter.type_of(name))
    emitter.collective(node, name)


ELEMENTWISE: Final[dict[str, Rule]] = {
    "Add": _add,
    "AddGated": _add_gated,
    "AddRmsNorm": _add_rms_norm,
    "AllGather": _collective,
    "AllReduce": _collective,
    "Embed": _embed,
    "Gated": _gated,
    "RmsNorm": _rms_norm,
    "SelectRows": _select_rows,
    "Softcap": _softcap,
}

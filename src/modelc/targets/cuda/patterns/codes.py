"""Activations as E4M3 codes, made once for all layers that read them."""

from __future__ import annotations

import math

import onnx_ir as ir

from modelc.errors import BadInput, Where
from modelc.ir.emit import dims_of
from modelc.ir.provenance import module_of
from modelc.targets.cuda.emitter import Emitter
from modelc.targets.cuda.kernel import Extent
from modelc.targets.cuda.patterns.values import Tensors, number, size_of, width_of

_READERS = ("Fp8Linear", "ExpertFp8Linear")


def quantised(
    node: ir.Node, emitter: Emitter, x: ir.Value, block: int, static: ir.Value | None = None
) -> tuple[str, str]:
    """Return the codes and the scales of activations. What experts give, [tokens, used, width], has
    scales for each of its rows.

    Args:
        block: inputs that share a scale; 0: a row's.
        static: the scale of all, if it is known.

    Raises:
        BadInput: a row of an expert is no whole number of blocks.
    """
    name, width, rows = emitter.read(x), width_of(x), _rows(x)
    group = block or width
    if rows > 1 and width % group:
        raise BadInput(
            f"experts {width} wide are no whole number of blocks of {group}",
            where=Where(module=module_of(node)),
            hint="use --quant fp8",
        )
    codes, scales = _names(name, group)
    if codes not in emitter.buffers:
        make_codes(x, emitter, group)
        names: Tensors = {"x": name, "out": codes, "scales": scales}
        names["static_scale"] = emitter.read_optional(static)
        # The rows of a token lie side by side, as one row to the kernel.
        emitter.launch(node, "quantise_fp8", names, {"width": rows * width, "group": group})
    return codes, scales


def make_codes(x: ir.Value, emitter: Emitter, group: int) -> tuple[str, str]:
    """Return new buffers for codes, and for a scale of each `group` of a row."""
    width, first = width_of(x), Extent(_rows(x), str(dims_of(x)[0]))
    codes, scales = _names(emitter.read(x), group)
    emitter.buffer(codes, "e4m3", (first, Extent(width)))
    each = (Extent(-(-width // group)),) if group < width or _is_block(x) else ()
    emitter.buffer(scales, "fp32", (first, *each))
    return codes, scales


def codes_wanted(x: ir.Value, emitter: Emitter) -> tuple[int, bool]:
    """Return how many inputs share a scale where a norm is to be written as codes at once, 0 where
    it is not; and whether anybody reads it as numbers."""
    numbers, readers = emitter.numbers, list(x.consumers())
    layers = [node for node in readers if node.op_type in _READERS]
    if not numbers.fuse_codes or numbers.is_few or not layers:
        return 0, True
    groups = {number(node, "block") or width_of(x) for node in layers}
    has_static = any(node.op_type == "Fp8Linear" and _input(node, 4) for node in layers)
    group = groups.pop()
    if groups or has_static or width_of(x) % group:
        return 0, True
    return group, len(layers) < len(readers) or x.is_graph_output()


def _is_block(x: ir.Value) -> bool:
    """Whether the layers that read it have scales of blocks, be it one block."""
    return any(n.op_type in _READERS and number(n, "block") for n in x.consumers())


def _input(node: ir.Node, place: int) -> ir.Value | None:
    return node.inputs[place] if place < len(node.inputs) else None


def _rows(x: ir.Value) -> int:
    """How many rows each token has."""
    return math.prod(size_of(side) for side in dims_of(x)[1:-1])


def _names(name: str, group: int) -> tuple[str, str]:
    return f"{name}.codes.{group}", f"{name}.scales.{group}"

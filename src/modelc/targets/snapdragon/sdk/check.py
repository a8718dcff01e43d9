"""Whether a binary that the SDK made is what was asked for, as far as it can be read back.

It can't be run here. Quantised graphs of the same encodings can; what they show is true of the
binary only if it takes and gives the same tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from modelc.errors import ToolFailed, Where
from modelc.targets.snapdragon.binary import BinaryInfo, Graph, Tensor
from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.compile import check_binary
from modelc.targets.snapdragon.graph_names import parse
from modelc.targets.snapdragon.graph_tensors import GraphTensors, tensors_of
from modelc.targets.snapdragon.sdk.toolsets import GENERATOR

SHOWN: Final = 5
_FLOATS: Final = ("float16", "float32")


def check_made(info: BinaryInfo, chipset: Chipset, graphs: Mapping[str, Path], binary: str) -> None:
    """Check chipset, graphs and their tensors.

    Args:
        graphs: the lowered graph of each of the binary's graphs by name.
        binary: its name, for messages.

    Raises:
        ToolFailed: says what is not as it should be.
    """
    import onnx_ir as ir

    where = Where(path=binary)
    hint = f"{GENERATOR} of this release took the settings in silence; try a newer one"
    check_binary(info, chipset, graphs, where, hint)
    found = {parse(graph.name).name: graph for graph in info.graphs}
    problems = [
        problem
        for name, path in graphs.items()
        for problem in differences(found[name], tensors_of(ir.load(path)))
    ]
    if problems:
        more = f", and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ToolFailed(
            f"the SDK made other graphs than those that are verified: "
            f"{'; '.join(problems[:SHOWN])}{more}",
            where=where,
            hint="compile without --toolchain sdk, or with another release of the SDK",
        )


def differences(made: Graph, wanted: GraphTensors) -> Iterator[str]:
    """Yield what is not the same in a binary's graph and in the lowered graph."""
    sides: Sequence[tuple[str, Sequence[Tensor], Sequence[Tensor]]] = (
        ("takes", made.inputs, wanted.inputs),
        ("gives", made.outputs, wanted.outputs),
    )
    for verb, found, asked in sides:
        by_name = {tensor.name: tensor for tensor in found}
        for tensor in asked:
            other = by_name.pop(tensor.name, None)
            if other is None:
                yield f"{made.name} {verb} no {tensor.name}"
            elif not _same(other, tensor):
                yield f"{made.name} {verb} {_told(other)}, not {_told(tensor)}"
        yield from (f"{made.name} {verb} {name} besides" for name in by_name)


def _same(one: Tensor, other: Tensor) -> bool:
    floats = one.dtype in _FLOATS and other.dtype in _FLOATS  # a runtime converts these
    return (
        one.shape == other.shape
        and (floats or one.dtype == other.dtype)
        and one.zero_point == other.zero_point
        and math.isclose(one.scale, other.scale, rel_tol=1e-5)
    )


def _told(tensor: Tensor) -> str:
    sizes = "x".join(map(str, tensor.shape))
    code = f" ({tensor.scale:.6g} from {tensor.zero_point})" if tensor.scale else ""
    return f"{tensor.name} as {tensor.dtype} {sizes}{code}"

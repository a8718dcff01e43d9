"""Graphs that a user hands to a named step: by which step they were made, told by the files."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelc.errors import BadInput, Damaged, Where
from modelc.frontends import read_model
from modelc.targets.snapdragon.graph_names import GraphKey, parse

if TYPE_CHECKING:
    import onnx

ORDER: Final = (
    "prepare_exports",
    "split_model",
    "mha_to_sha",
    "quantize",
    "generate_context_binary",
)
"""What a graph goes through; `convert` and `float_graphs` stand beside the way."""

_AFTER: Final[Mapping[str, str]] = {
    "split_model": "prepare_exports",
    "mha_to_sha": "split_model",
    "quantize": "mha_to_sha",
    "float_graphs": "mha_to_sha",
    "convert": "quantize",
    "generate_context_binary": "quantize",
}
_Place = tuple[str, str, str]
"""File, offset and format of a weight in the source."""

_WHOLE: Final = re.compile(r"ar\d{1,9}_cl\d{1,9}", re.ASCII)
_NAMES: Final = "give .onnx files as the step before named them, such as prompt_ar128_cl4096_1_of_3"
_ATTENTION: Final = ".self_attn.context.merged"
_HEADS: Final = ".self_attn.context.heads"


@dataclass(frozen=True)
class GivenGraph:
    """A graph as it was found.

    Attributes:
        key: what its name says; None for one that is not cut into parts.
        made_by: the last step of `ORDER` that it went through.
        attention: whether it has layers.
        quantised: whether it has conversions to codes.
    """

    path: Path
    key: GraphKey | None
    made_by: str
    attention: bool
    quantised: bool

    @property
    def name(self) -> str:
        return self.path.stem


def find_graphs(
    step: str, files: Sequence[Path], source: Path, *, grouped: bool
) -> list[GivenGraph]:
    """Open what a step is given, without its weights.

    Args:
        source: the model that they are to be made of.
        grouped: heads need not be apart.

    Raises:
        BadInput: a file is not a graph, not by its own name, damaged, made of another source, or
            not what the step takes: says which step was forgotten, or done already.
    """
    graphs: dict[str, GivenGraph] = {}
    known = _places_of(source)
    for file in files:
        graph = _open(file, known)
        if graph.name in graphs:
            raise BadInput(f"two files are named {graph.name}", where=Where(path=str(file)))
        _check_order(step, graph, grouped)
        graphs[graph.name] = graph
    if not graphs:
        raise BadInput(f"{step} takes graphs", hint=f"those that {_AFTER[step]} made: {_NAMES}")
    return list(graphs.values())


def place_of(graphs: Sequence[GivenGraph]) -> str:
    """Return the one part that graphs are of, "1_of_3".

    Raises:
        BadInput: they are of several.
    """
    places = {graph.key.place for graph in graphs if graph.key}
    if len(places) != 1:
        raise BadInput(
            "the graphs are of several parts",
            hint="give those of one part at a time, of every AR and context length",
        )
    return places.pop()


def _open(file: Path, known: Container[_Place]) -> GivenGraph:
    from modelc.ir.onnx_file import check_data, check_wiring, read_proto

    if not file.is_file():
        raise BadInput("there is no such file", where=Where(path=str(file)))
    key = _key(file)
    proto = read_proto(file)
    check_wiring(proto, file)
    outputs = [name for node in proto.graph.node for name in node.output]
    operators = {node.op_type for node in proto.graph.node}
    heads = any(name.endswith(_HEADS) for name in outputs)
    places = _places_in_source(proto)
    if "EPContext" in operators:
        made_by = "generate_context_binary"
    elif not places:
        made_by = "quantize"
        check_data(proto, file)
    elif key is None:
        made_by = "prepare_exports"
    else:
        made_by = "mha_to_sha" if heads else "split_model"
    if strange := [name for place, name in places.items() if place not in known]:
        raise BadInput(
            f"it was made of another model: {strange[0]} does not lie where it says",
            where=Where(path=str(file)),
            hint="give the model that prepare_exports was given",
        )
    attention = heads or any(name.endswith(_ATTENTION) for name in outputs)
    return GivenGraph(file, key, made_by, attention, "DequantizeLinear" in operators)


def _key(file: Path) -> GraphKey | None:
    if file.suffix == ".onnx" and _WHOLE.fullmatch(file.stem):
        return None
    try:
        key = parse(file.stem)
    except Damaged as error:
        raise BadInput(error.message, where=Where(path=str(file)), hint=_NAMES) from error
    if file.name != f"{key.name}.onnx" or not 1 <= key.part <= key.parts:
        raise BadInput(f"not {key.name}.onnx", where=Where(path=str(file)), hint=_NAMES)
    return key


def _places_in_source(proto: onnx.ModelProto) -> dict[_Place, str]:
    """Return what `ir.serial.save_graph` left in the source's files, and a weight made of it."""
    found = {}
    for tensor in proto.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if "format" in entries:
            place = entries.get("location", ""), entries.get("offset", ""), entries["format"]
            found[place] = tensor.name
    return found


def _places_of(source: Path) -> set[_Place]:
    """Return where the weights of a model lie, as saved graphs say it."""
    root = source if source.is_dir() else source.parent
    return {
        (matrix.path.relative_to(root).as_posix(), str(matrix.offset), matrix.format)
        for matrix in read_model(source).weights.values()
    }


def _check_order(step: str, graph: GivenGraph, grouped: bool) -> None:
    wanted = _AFTER[step]
    free = wanted == "mha_to_sha" and (grouped or not graph.attention)
    if graph.made_by == wanted or (free and graph.made_by == "split_model"):
        return
    found, needed = ORDER.index(graph.made_by), ORDER.index(wanted)
    if found > needed:
        done = step if step in ORDER[: found + 1] else graph.made_by
        raise BadInput(
            f"{graph.name} has been through {done} already",
            where=Where(path=str(graph.path)),
            hint=f"give {step} what {wanted} made",
        )
    missing = [name for name in ORDER[found + 1 : needed + 1] if name != "mha_to_sha" or not free]
    raise BadInput(
        f"{graph.name} has not been through {' and '.join(missing)}",
        where=Where(path=str(graph.path)),
        hint=f"run `modelc step {missing[0]}` on it first"
        + (", or give --attention grouped" if missing == ["mha_to_sha"] else ""),
    )

"""What the C++ source of a network says about itself.

The vendor's Saver writes a program that builds the graph by calls of QNN's interface, and beside it
the constants that the program reads, in the order in which it does. Compiled with a QAIRT SDK's
headers and linked to a backend's library, it builds the graph there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelc.errors import Damaged, Where

SOURCE: Final = "saver_output.c"
PARAMS: Final = "params.bin"
MAX_LINE_BYTES: Final = 1 << 24

_TEXT: Final = rb'"((?:[^"\\]|\\.)*)"'
_GRAPH: Final = re.compile(rb"interface\.graphCreate\(\w+, " + _TEXT)
_OPERATOR: Final = re.compile(rb"Qnn_OpConfigV1_t .*? = \{" + rb", ".join([_TEXT] * 3))
_NODE: Final = b"interface.graphAddNode("
_TENSOR: Final = b"interface.tensorCreateGraphTensor("
_READ: Final = re.compile(rb"fread\(.*?, (\d+), (\d+), fp\);")
_FINALIZE: Final = b"interface.graphFinalize("


@dataclass(frozen=True)
class SaverInfo:
    """The description of a network's source.

    Attributes:
        graphs: names of the QNN graphs that the program builds.
        operators: how many of each of QNN's operators there are.
        tensors: how many tensors the program creates.
        source_bytes, params_bytes: sizes of the two files.
    """

    graphs: tuple[str, ...]
    operators: Mapping[str, int]
    tensors: int
    source_bytes: int
    params_bytes: int


def read_saver(folder: Path) -> SaverInfo:
    """Return what a network's source builds.

    Raises:
        Damaged: a file is missing, the program isn't one of Saver's, or isn't whole, or the
            constants are not what it reads.
    """
    source, params = folder / SOURCE, folder / PARAMS
    for path in (source, params):
        if not path.is_file():
            raise Damaged(f"there is no {path.name}", where=Where(path=str(folder)), hint=_AGAIN)
    graphs, operators = list[str](), Counter[str]()
    nodes, tensors, constants, finalized = 0, 0, 0, 0
    for line in _lines(source):
        nodes += _NODE in line
        tensors += _TENSOR in line
        finalized += _FINALIZE in line
        if graph := _GRAPH.search(line):
            graphs.append(graph.group(1).decode(errors="replace"))
        elif operator := _OPERATOR.search(line):
            operators[operator.group(3).decode(errors="replace")] += 1
        elif read := _READ.search(line):
            constants += int(read.group(1)) * int(read.group(2))
    info = SaverInfo(
        graphs=tuple(graphs),
        operators=dict(sorted(operators.items())),
        tensors=tensors,
        source_bytes=source.stat().st_size,
        params_bytes=params.stat().st_size,
    )
    if not graphs or len(graphs) != finalized or nodes != operators.total():
        raise Damaged("not a whole source of a network", where=Where(path=str(source)), hint=_AGAIN)
    if constants != info.params_bytes:
        raise Damaged(
            f"the program reads {constants} bytes of constants; there are {info.params_bytes}",
            where=Where(path=str(params)),
            hint=_AGAIN,
        )
    return info


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES):
            yield line


_AGAIN: Final = "write it again"

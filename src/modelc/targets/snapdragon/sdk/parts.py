"""The parts of a model as files of a work folder, and where each result of the tools lies in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modelc.errors import BadInput
from modelc.targets.snapdragon.graph_names import GraphKey
from modelc.targets.snapdragon.sdk.options import safe_path

NETWORKS: Final = "onnx"
CONVERTED: Final = "converted_model"
QUANTIZED: Final = "quantized_model"
BINARIES: Final = "serialized_binaries"
CONFIGS: Final = "configs"


@dataclass(frozen=True)
class GraphFiles:
    """A float graph: its ONNX file and the encodings of its tensors (AIMET's JSON), relative to the
    work folder; without encodings it runs in half precision."""

    key: GraphKey
    network: str
    overrides: str | None = None


@dataclass(frozen=True)
class SplitFiles:
    """The graphs that go into one binary.

    Attributes:
        binary: its name, without ".bin".
        graphs: one per AR length and context length.
    """

    binary: str
    graphs: tuple[GraphFiles, ...]


def converted(graph: GraphFiles) -> str:
    """Return where a converted graph is. The graph in a DLC is named as its file is."""
    return f"{CONVERTED}/{graph.key.name}.dlc"


def quantized(graph: GraphFiles) -> str:
    """Return where the DLC is that is compiled: a float graph is not quantised."""
    if graph.overrides is None:
        return converted(graph)
    return f"{QUANTIZED}/{graph.key.name}.dlc"


def binary_file(part: SplitFiles) -> str:
    """Return where a part's binary will be: the tool adds ".bin" to the name that it is given."""
    return f"{BINARIES}/{part.binary}.bin"


def config_files(part: SplitFiles) -> tuple[str, str]:
    """Return where a part's two configuration files are: the generator's, and HTP's."""
    return f"{CONFIGS}/{part.binary}.json", f"{CONFIGS}/{part.binary}.htp.json"


def check_parts(parts: Sequence[SplitFiles]) -> None:
    """Raise BadInput for parts that can't be of one model, saying all that is wrong."""
    problems = []
    names = [graph.key.name for part in parts for graph in part.graphs]
    binaries = [part.binary for part in parts]
    for kind, found in (("graph", names), ("binary", binaries)):
        twice = sorted({name for name in found if found.count(name) > 1})
        problems += [f"{kind} {name} is there twice" for name in twice]
    for part in parts:
        if "/" in safe_path(part.binary):
            problems.append(f"{part.binary} is no name of a file")
        if not part.graphs:
            problems.append(f"{part.binary} has no graphs")
        if len({(graph.key.part, graph.key.parts) for graph in part.graphs}) > 1:
            problems.append(f"{part.binary} has graphs of different parts")
        if len({graph.overrides is None for graph in part.graphs}) > 1:
            problems.append(f"{part.binary} has graphs with and without encodings")
    if problems:
        raise BadInput("; ".join(problems))

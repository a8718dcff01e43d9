"""How a network is compiled, and the provider's settings that follow from it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from modelc.errors import BadInput, Where
from modelc.ir.onnx_file import check_data, read_proto
from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.compile import CompileOptions, provider_options
from modelc.targets.snapdragon.network.op_packages import (
    OpPackage,
    check_packages,
    custom_domains,
    package_options,
)

_GRAPH_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class NetworkOptions:
    """How a network is compiled.

    Attributes:
        compile: precision and effort.
        boundary: who converts between the float inputs and outputs of a quantised network and its
            codes. "htp": the binary takes and gives the source's own types. "cpu": it takes and
            gives codes, and the QuantizeLinear and DequantizeLinear at the edge stay ONNX nodes
            beside it, for an application that has codes already.
        op_packages: the user's own operators.
    """

    compile: CompileOptions = field(default_factory=CompileOptions)
    boundary: Literal["htp", "cpu"] = "htp"
    op_packages: tuple[OpPackage, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """What a worker is told of a network.

    Attributes:
        settings: the provider's options.
        environment: variables to set before the provider is loaded.
    """

    settings: dict[str, str]
    environment: dict[str, str]

    def job(self, model: Path, name: str) -> dict[str, Any]:
        return {
            "model": str(model.resolve()),
            "name": name,
            "settings": self.settings,
            "environment": self.environment,
        }


def prepare(
    model: Path, name: str, chipset: Chipset, options: NetworkOptions, where: Where
) -> Prepared:
    """Check what is asked for, before any tool runs.

    Raises:
        BadInput: a damaged model, a name that a graph can't have, what the chipset can't do, or op
            packages that don't fit the model.
    """
    check_graph_name(name, where)
    if options.compile.fp16 and not chipset.fp16:
        raise BadInput(
            f"{chipset.marketing_name} has no fp16",
            where=where,
            hint="choose a quantised scheme, such as w8a16",
        )
    proto = read_proto(model)
    check_data(proto, model)
    nodes = proto.graph.node
    _check_node_names([node.name for node in nodes], where)
    check_packages(nodes, options.op_packages, where)
    environment = custom_domains(nodes, options.op_packages)
    settings = provider_options(chipset, options.compile) | package_options(options.op_packages)
    settings["offload_graph_io_quantization"] = str(int(options.boundary == "cpu"))
    return Prepared(settings, environment)


def _check_node_names(names: Sequence[str], where: Where) -> None:
    """Raises BadInput unless every node has a name of its own: the provider tells of it by that."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1 or not name)
    if twice:
        raise BadInput(
            f"several nodes are called {twice[0]!r}" if twice[0] else "a node has no name",
            where=where,
            hint="import the model with modelc, which names its nodes",
        )


def check_graph_name(name: str, where: Where) -> None:
    """Raises BadInput for a name that a QNN graph, a session's provider or a file can't have."""
    if not _GRAPH_NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} can't be the name of a graph",
            where=where,
            hint="letters, digits, dots, underscores and dashes; no more than 128",
        )

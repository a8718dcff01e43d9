"""Which tools a release of the QAIRT SDK compiles a decoder with: one row per generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelc.errors import Missing

Version = tuple[int, ...]

CONVERTER: Final = "qairt-converter"
QUANTIZER: Final = "qairt-quantizer"
GENERATOR: Final = "qnn-context-binary-generator"


@dataclass(frozen=True)
class Toolset:
    """A generation of the SDK's tools.

    Attributes:
        since: the first release that has them.
        tools: programs in the SDK's folder of programs.
        lacks: why they are not driven here, "" for those that are.
    """

    since: Version
    tools: tuple[str, ...]
    lacks: str = ""


_DLC_TOOLS: Final = (CONVERTER, QUANTIZER, GENERATOR)

TOOLSETS: Final = (
    Toolset(
        (0,),
        ("qnn-onnx-converter", "qnn-model-lib-generator", GENERATOR),
        "which writes C++ and no DLC",
    ),
    # "The 2.21 release introduces": https://docs.qualcomm.com/doc/80-63442-10/topic/qairt_converter.html
    Toolset((2, 21), _DLC_TOOLS, "which can't be told to leave a graph as its encodings name it"),
    # As far as `options` knows its options.
    Toolset((2, 29), _DLC_TOOLS),
)
"""From the oldest to the newest."""


def find_toolset(version: Version) -> Toolset:
    """Return the tools of a release.

    Raises:
        Missing: it is too old to have tools that can be driven.
    """
    toolset = max((row for row in TOOLSETS if row.since <= version), key=lambda row: row.since)
    if toolset.lacks:
        first = min(row.since for row in TOOLSETS if not row.lacks)
        raise Missing(
            f"QAIRT {shown(version)} has {toolset.tools[0]}, {toolset.lacks}",
            hint=f"install QAIRT {shown(first)} or later",
        )
    return toolset


def shown(version: Version) -> str:
    return ".".join(map(str, version))

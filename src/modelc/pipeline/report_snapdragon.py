"""What a Snapdragon bundle's report says of its parts and of the form of attention."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from modelc.bundle.manifest import Manifest
from modelc.bundle.markdown import table
from modelc.bundle.write import FromFile
from modelc.pipeline.steps_binaries import ATTENTION, INFO

_FORMS: Final = {
    "sha": "a branch for each head",
    "grouped": "query heads grouped by key head",
}


def snapdragon_sections(manifest: Manifest, files: Mapping[str, FromFile | bytes]) -> list[str]:
    """Return the sections of a Snapdragon bundle's report; none for other targets."""
    info, attention = files.get(INFO), files.get(ATTENTION)
    if not (isinstance(info, FromFile) and isinstance(attention, FromFile)):
        return []
    return [
        *_toolchain(manifest.settings),
        *_parts(manifest.settings),
        *_binaries(json.loads(info.path.read_text())),
        *_attention(json.loads(attention.path.read_text()), manifest.recipe["attention"]),
    ]


def _toolchain(settings: Mapping[str, Any]) -> list[str]:
    if "toolchain" not in settings:
        return []
    return [
        "",
        "## Toolchain",
        "",
        f"The tools of {settings['toolchain']} made the binaries, as `sdk/commands.sh` repeats it. "
        "What they make can't be run here: verified are quantised graphs with the same encodings, "
        "and that the binaries take and give the same tensors as these.",
    ]


def _parts(settings: Mapping[str, Any]) -> list[str]:
    rows = settings["parts"].items()
    return ["", "## Parts", "", *table(("part", "holds"), rows)]


def _binaries(infos: Mapping[str, Any]) -> list[str]:
    rows = [
        (graph["name"], name, f"{graph['vtcm_mb']} MB", f"{graph['spill_fill_bytes']:,} B")
        for name, info in infos.items()
        for graph in info["graphs"]
    ]
    columns = ("graph", "binary", "VTCM", "spill-fill")
    return ["", "## Read back from the binaries", "", *table(columns, rows)]


def _attention(found: Mapping[str, Any], used: str) -> list[str]:
    rows = [
        (f"{_FORMS[form]}{' (used)' if form == used else ''}", f"{count:,} B")
        for form, count in found["spill_fill_bytes"].items()
    ]
    return [
        "",
        "## Attention",
        "",
        f"One layer of {found['graph']} compiled in both forms:",
        "",
        *table(("form", "spill-fill"), rows),
    ]

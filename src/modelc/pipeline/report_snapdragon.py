"""What a Snapdragon bundle's report says of its parts and of the form of attention."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from typing import Any, Final

from modelc.bundle.manifest import Manifest
from modelc.bundle.markdown import table
from modelc.bundle.write import FromFile
from modelc.pipeline.steps_binaries import ATTENTION
from modelc.pipeline.steps_calibrate import IMPORTED, TABLE

_SHOWN: Final = 10  # of the tensors that clip
_FORMS: Final = {
    "sha": "a branch for each head",
    "grouped": "query heads grouped by key head",
}


def snapdragon_sections(manifest: Manifest, files: Mapping[str, FromFile | bytes]) -> list[str]:
    """Return the sections of a Snapdragon bundle's report; none for other targets."""
    attention = files.get(ATTENTION)
    if not isinstance(attention, FromFile):
        return []
    return [
        *_toolchain(manifest.settings),
        *_parts(manifest.settings),
        *_binaries(manifest.settings["binaries"]),
        *_imported(files.get(IMPORTED)),
        *calibration_section(files.get(TABLE), manifest.recipe["calibration"]),
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
    if not infos:
        return []
    rows = [
        (name, binary, f"{graph['vtcm_mb']} MB", f"{graph['spill_fill_bytes']:,} B")
        for binary, info in infos.items()
        for name, graph in info["graphs"].items()
    ]
    columns = ("graph", "binary", "VTCM", "spill-fill")
    return ["", "## Read back from the binaries", "", *table(columns, rows)]


def _imported(file: FromFile | bytes | None) -> list[str]:
    """What of an imported encodings file could not be used."""
    if not isinstance(file, FromFile):
        return []
    lists = json.loads(file.path.read_text())
    rows = [
        ("fit no tensor of the model", len(lists["unmatched"])),
        ("weights in a form that is not taken", len(lists["other_weights"])),
        ("left in floating point by the file", len(lists["floats"])),
        ("not in the file, derived from others", len(lists["derived"])),
    ]
    listed = f"Their names are in `{IMPORTED}`."
    return ["", "## Imported encodings", "", *table(("names that", "how many"), rows), "", listed]


def calibration_section(file: FromFile | bytes | None, recipe: Mapping[str, Any]) -> list[str]:
    """Return where to read what calibration saw, if it was done, and the tensors that clip most."""
    if not isinstance(file, FromFile):
        return []
    with file.path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    clipping = sorted((row for row in rows if float(row["clipped"])), key=_clipped)[:_SHOWN]
    said = [
        f"Ranges of {len(rows)} tensors by the observer {recipe['observer']}: `{TABLE}` has what "
        "was seen of each and the encoding that it got."
    ]
    if clipping:
        columns = ("tensor", "seen", "encoded", "values beyond")
        said += ["", *table(columns, [_clipping_row(row) for row in clipping])]
    return ["", "## Calibration", "", *said]


def _clipped(row: Mapping[str, str]) -> tuple[float, str]:
    return -float(row["clipped"]), row["tensor"]


def _clipping_row(row: Mapping[str, str]) -> tuple[str, ...]:
    return (
        row["tensor"],
        f"{row['min']} to {row['max']}",
        f"{row['low']} to {row['high']}",
        f"{float(row['clipped']):.3%}",
    )


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

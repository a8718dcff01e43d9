"""report.md of a network's bundle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from modelc.bundle.manifest import Manifest
from modelc.bundle.markdown import table
from modelc.pipeline.network.steps_htp import OPERATORS
from modelc.pipeline.network.steps_quantise import PRECISIONS
from modelc.pipeline.store import Entry

_SHOWN: Final = 40


def render_network_report(
    manifest: Manifest, verification: Mapping[str, Any], entries: Mapping[str, Entry]
) -> bytes:
    """Return the report of a bundle about to be written, as Markdown; it doesn't depend on time."""
    settings = manifest.settings
    lines = [
        f"# {manifest.source.name} for {manifest.target}",
        "",
        f"Scheme {manifest.recipe['quant']}, {settings['nodes']} nodes, "
        f"{settings['parameters']:,} parameters.",
        "",
        f"{'Verified' if verification['passed'] else 'NOT verified'} on "
        f"{verification['runtime']} against the float model in ONNX Runtime, over "
        f"{verification['samples']} {'made-up ' * verification['made_up']}samples.",
        "",
        "## Checks",
        "",
        *table(
            ("check", "passed", "found"),
            ((c["name"], "yes" if c["passed"] else "NO", c["detail"])
             for c in verification["checks"]),
        ),
        "",
        "## Inputs and outputs",
        "",
        *table(
            ("tensor", "type", "sizes"),
            ((row["name"], row["dtype"], " x ".join(map(str, row["shape"])))
             for side in ("inputs", "outputs") for row in settings[side]),
        ),
        *_chipsets(settings),
        *_precisions(entries),
        *_operators(entries),
        "",
        "## Made with",
        "",
        *table(("tool", "version"), sorted(manifest.tools.items())),
    ]  # fmt: skip
    return ("\n".join(lines) + "\n").encode()


def _chipsets(settings: Mapping[str, Any]) -> list[str]:
    rows = [
        (name, told["htp_arch"], graph["vtcm_mb"], graph["spill_fill_bytes"],
         len(told["partition"]["cpu"]))
        for name, told in settings["chipsets"].items()
        for graph in told["graphs"].values()
    ]  # fmt: skip
    if not rows:
        return []
    columns = ("chipset", "HTP", "VTCM MB", "spill-fill bytes", "nodes on the CPU")
    lines = ["", "## Binaries", "", *table(columns, rows)]
    for name, told in settings["chipsets"].items():
        placed = told["partition"]["cpu"]
        if placed:
            lines += ["", f"On the CPU of {name}:", ""]
            lines += table(
                ("operator", "module", "why"),
                ((row["op_type"], row["module"], row["why"]) for row in placed[:_SHOWN]),
            )
    return lines


def _precisions(entries: Mapping[str, Entry]) -> list[str]:
    if "quantize" not in entries:
        return []
    told = json.loads((entries["quantize"].path / PRECISIONS).read_text())
    if not told["others"]:
        return []
    why = f", {len(told['widened'])} of them because 8 bits would lose too much" * bool(
        told["widened"]
    )
    rows = list(told["others"].items())
    return [
        "",
        "## Other precisions",
        "",
        f"{len(rows)} nodes differ from the scheme{why}.",
        "",
        *table(("node", "precision"), rows[:_SHOWN]),
    ]


def _operators(entries: Mapping[str, Entry]) -> list[str]:
    binary = next((e for name, e in entries.items() if name.startswith("binary.")), None)
    if binary is None:
        return []
    verdicts = json.loads((binary.path / OPERATORS).read_text())
    counts = Counter((row["op_type"], row["verdict"]) for row in verdicts)
    rows = ((op, verdict, count) for (op, verdict), count in sorted(counts.items()))
    return ["", "## Operators", "", *table(("operator", "verdict", "nodes"), rows)]

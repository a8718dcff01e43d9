"""What the report of a bundle for Cloud AI 100 says of the program that it holds, or lacks."""

from __future__ import annotations

import shlex

from modelc.bundle.manifest import Manifest
from modelc.bundle.markdown import table
from modelc.targets.qaic.prepared import BINARY_DIR, SCRIPT, SDK
from modelc.targets.qaic.record import BINARY


def card_sections(manifest: Manifest) -> list[str]:
    """Return the sections of a card's bundle; none for other targets."""
    card = manifest.settings.get("card")
    if card is None:
        return []
    rows = card["specializations"]
    names = [*dict.fromkeys(name for row in rows for name in row)]
    version = f"Apps SDK {card['sdk_version']}" if card["toolchain"] == "apps" else "the QNN tools"
    state = (
        f"`{BINARY_DIR}/{BINARY}` was compiled by {version}; `qpc.json` says how."
        if card["compiled"]
        else f"It is not compiled yet: `bash {SCRIPT}` does that on a machine with {version}."
    )
    return [
        "",
        "## Program",
        "",
        f"{state} What was verified is the ONNX that it is made of, in ONNX Runtime and float32.",
        "",
        *table(names, ([row.get(name, "") for name in names] for row in rows)),
        "",
        "```",
        *(shlex.join(command).replace(SDK, "$SDK") for command in card["commands"]),
        "```",
    ]

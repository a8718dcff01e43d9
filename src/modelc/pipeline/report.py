"""report.md: what a bundle is and how well it does, for people. The same bytes for the same
bundle: nothing in it depends on time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelc.bundle.manifest import Manifest
from modelc.bundle.markdown import table
from modelc.bundle.write import FromFile
from modelc.pipeline.recipe import AUTO
from modelc.pipeline.report_card import card_sections
from modelc.pipeline.report_cuda import cuda_sections
from modelc.pipeline.report_snapdragon import snapdragon_sections

REPORT: Final = "report.md"
REQUANTISED: Final = "requantised.json"
UNREACHED: Final = "unreached_experts"
"""In a manifest's settings: matrices of experts that no calibration token went to."""

_SHOWN: Final = 12


def render_report(
    manifest: Manifest, verification: Mapping[str, Any], files: Mapping[str, FromFile | bytes]
) -> bytes:
    """Return the report of a bundle about to be written, as Markdown.

    Args:
        verification: its JSON form.
        files: the bundle's files; those of the store with their digests.
    """
    settings, metrics = manifest.settings, verification["metrics"]
    sqnr = metrics["sqnr_db"]
    lines = [
        f"# {manifest.source.name} for {manifest.target}",
        "",
        f"Scheme {_scheme(manifest.recipe)}, context {settings['context_length']}, "
        f"{settings['layers']} layers, vocabulary {settings['vocab_size']}.",
        "",
        f"{'Verified' if verification['passed'] else 'NOT verified'} on "
        f"{verification['runtime']} against the float model over {metrics['tokens']} tokens: "
        f"SQNR {'exact' if sqnr is None else f'{sqnr:.1f} dB'}, "
        f"top-1 agreement {metrics['top1_agreement']:.1%}, "
        f"perplexity {metrics['perplexity']['bundle']:.3f} "
        f"(float {metrics['perplexity']['reference']:.3f}).",
        *(["", searched(settings[AUTO])] if AUTO in settings else []),
        *(["", _unreached(settings[UNREACHED])] if UNREACHED in settings else []),
        "",
        "## Checks",
        "",
        *table(
            ("check", "passed", "found"),
            (
                (c["name"], "yes" if c["passed"] else "NO", c["detail"])
                for c in _checks(verification)
            ),
        ),
        "",
        "## Graphs",
        "",
        *table(
            ("graph", "file", "inputs", "outputs"),
            ((g.name, g.file, len(g.inputs), len(g.outputs)) for g in manifest.graphs),
        ),
        *_requantised(files.get(REQUANTISED)),
        *snapdragon_sections(manifest, files),
        *card_sections(manifest),
        *cuda_sections(manifest),
        "",
        "## Made with",
        "",
        *table(("tool", "version"), sorted(manifest.tools.items())),
    ]
    return ("\n".join(lines) + "\n").encode()


def searched(search: Mapping[str, Any]) -> str:
    """Tell of a search for kinds of weights in a sentence."""
    found, trials = search["measured"], len(search["trials"])
    return (
        f"Kinds of weights were searched for within {search['budget']}: "
        f"{found['size'] / 1e6:.2f} MB ({found['bits']:.2f} bits per weight) after {trials} "
        f"trial{'s' * (trials > 1)}; simulated, perplexity is {found['perplexity_ratio']:.4f} of "
        f"the float model's, the KL divergence {found['kl_divergence']:.4f} and the SQNR "
        f"{found['sqnr_db']:.1f} dB."
    )


def _unreached(modules: Sequence[str]) -> str:
    shown = ", ".join(modules[:_SHOWN]) + (", ..." if len(modules) > _SHOWN else "")
    return (
        f"No calibration token went to {len(modules)} of the experts' matrices, which are rounded "
        f"to nearest: {shown}."
    )


def _scheme(recipe: Mapping[str, Any]) -> str:
    """Name the scheme and all that the recipe changes about it."""
    changes = [f"`{pattern}` = {kind}" for pattern, kind in recipe["overrides"].items()]
    if recipe["kv_bits"]:
        changes.append(f"KV cache of {recipe['kv_bits']} bits")
    if recipe["encodings"]:
        changes.append("imported encodings")
    return f"{recipe['quant']} ({', '.join(changes)})" if changes else str(recipe["quant"])


def _checks(verification: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    checks: Sequence[Mapping[str, Any]] = verification["checks"]
    return checks


def _requantised(file: FromFile | bytes | None) -> list[str]:
    """Weights whose blocks were not kept, the worst first."""
    if not isinstance(file, FromFile):
        return []
    rows = json.loads(file.path.read_text()).items()
    if not rows:
        return ["", "The codes that the source came with are kept bit for bit."]
    worst = sorted(rows, key=lambda row: (-row[1]["relative_error"], row[0]))
    return [
        "",
        "## Requantised weights",
        "",
        *table(
            ("weight", "from", "to", "relative error"),
            ((name, row["from"], _layout(row), row["relative_error"]) for name, row in worst),
        ),
    ]


def _layout(row: Mapping[str, Any]) -> str:
    return str(row.get("to") or f"{row['bits']} bits, block {row['block_size']}")

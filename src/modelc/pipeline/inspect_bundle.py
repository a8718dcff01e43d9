"""What a bundle is, and what of it people want to see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from modelc.bundle.manifest import Manifest
from modelc.bundle.read import BundleFiles, open_bundle
from modelc.errors import Damaged, Where
from modelc.pipeline.inspection import Inspection
from modelc.pipeline.network.partition import left_to_cpu
from modelc.pipeline.network.steps_verify import VERIFICATION
from modelc.pipeline.recipe_use import NETWORK, used_by

MAX_VERIFICATION_BYTES: Final = 16 << 20
_IN_TABLES: Final = frozenset({"inputs", "outputs", "head", "tail", "chipsets", "codes"})
"""Settings of a network that tables show."""


def inspect_bundle(path: Path) -> Inspection:
    """Tell what a bundle holds, a network's with what was verified, and what runs where.

    Raises:
        BadInput, Damaged: as `open_bundle`; or what a network's bundle says of itself has another
            form than modelc writes.
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    document = asdict(manifest)
    files = [{"name": name, **entry} for name, entry in sorted(document.pop("files").items())]
    graphs = [
        {
            "name": g["name"],
            "file": g["file"],
            "inputs": len(g["inputs"]),
            "outputs": len(g["outputs"]),
        }
        for g in document.pop("graphs")
    ]
    shown = {**document, "recipe": used_by(manifest.runtime, manifest.recipe)}
    tables: dict[str, list[dict[str, Any]]] = {}
    if manifest.runtime == NETWORK:
        settings = document["settings"]
        shown["settings"] = {k: v for k, v in settings.items() if k not in _IN_TABLES}
        try:
            tables = _network_tables(manifest, _checks(bundle))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise Damaged(
                f"the bundle says of its network what modelc doesn't write: {error!r}",
                where=Where(path=str(path)),
                hint="compile the model again",
            ) from error
    return Inspection("bundle", document, {**tables, "graphs": graphs, "files": files}, shown)


def _network_tables(
    manifest: Manifest, checks: list[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    chipsets: Mapping[str, Any] = manifest.settings["chipsets"]
    on_cpu = [
        {"chipset": chipset, **{column: row[column] for column in ("op_type", "module", "why")}}
        for chipset, told in chipsets.items()
        for row in told["partition"]["cpu"]
    ]
    codes = manifest.settings.get("codes", {})
    ports = {
        side: [
            {
                "name": row["name"], "type": row["dtype"], "shape": row["shape"],
                **({"codes": _codes(codes.get(row["name"]))} if codes else {}),
            }
            for row in manifest.settings[side]
        ]
        for side in ("inputs", "outputs")
    }  # fmt: skip
    return {
        **ports,
        "checks": checks,
        **({"binaries": [_binary(*row) for row in chipsets.items()]} if chipsets else {}),
        **({"on the CPU": on_cpu} if on_cpu else {}),
    }


def _binary(chipset: str, told: Mapping[str, Any]) -> dict[str, Any]:
    graphs, partition = told["graphs"].values(), told["partition"]
    return {
        "chipset": chipset,
        "HTP": told["htp_arch"],
        "VTCM MB": max((graph["vtcm_mb"] for graph in graphs), default=None),
        "spill-fill bytes": max((graph["spill_fill_bytes"] for graph in graphs), default=None),
        "parts on HTP": len(partition["htp"]),
        "nodes on HTP": sum(map(len, partition["htp"])),
        "left to the CPU": len(left_to_cpu(partition)),
    }


def _codes(row: Mapping[str, Any] | None) -> str | None:
    """Say how the binary has an input or output, if as codes."""
    return f"({row['dtype']} - {row['zero_point']}) * {row['scale']:.6g}" if row else None


def _checks(bundle: BundleFiles) -> list[dict[str, Any]]:
    """Return what the network was verified by."""
    path = bundle.file(VERIFICATION)
    if path.stat().st_size > MAX_VERIFICATION_BYTES:
        raise ValueError(f"{VERIFICATION} is too large")
    document = json.loads(path.read_text(encoding="utf-8"))
    return [
        {"check": str(row["name"]), "passed": bool(row["passed"]), "found": str(row["detail"])}
        for row in document["checks"]
    ]

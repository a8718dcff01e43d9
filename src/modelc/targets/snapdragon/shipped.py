"""What is found out about the binaries that ship."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelc.targets.runtime import Finding
from modelc.targets.snapdragon.binary import BinaryInfo
from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.graph_names import parse
from modelc.targets.snapdragon.proof import CACHE, LEAST_DB, LEAST_FLOAT_DB


def chipset_findings(shipped: Mapping[str, BinaryInfo], chip: Chipset) -> list[Finding]:
    """Say of each binary whether it is for the chipset, as read back from it."""
    wanted = f"SoC {chip.soc_model}, {chip.htp_arch}, VTCM {chip.compile_vtcm_mb} MB"
    found = []
    for name, info in shipped.items():
        vtcm = "/".join(str(size) for size in sorted({g.vtcm_mb for g in info.graphs}))
        read = f"SoC {info.soc_model}, {info.htp_arch}, VTCM {vtcm} MB"
        detail = f"{name}: {read}, {len(info.graphs)} graphs"
        found.append(Finding("chipset", read == wanted, detail))
    return found


def proof_findings(proofs: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Say of each graph that was tried whether the simulator computes what the CPU does, and
    whether that is nearer to the float model than nothing would be."""
    found = []
    for graph, proof in proofs.items():
        rows = proof["outputs"].items()
        good = all(_reaches(row["cpu_db"], LEAST_DB) for _, row in rows)
        good = good and not any(_useless(output, row) for output, row in rows)
        told = ", ".join(
            f"{output} {_db(row['cpu_db'])} against CPU, {_db(row['float_db'])} against float"
            f"{', worse than nothing' if _useless(output, row) else ''}"
            for output, row in rows
        )
        where = f"{proof['new']} tokens after {proof['past']}"
        found.append(Finding("part_in_simulator", good, f"{graph}, {where}: {told}"))
    return found


def _useless(output: str, row: Mapping[str, float | None]) -> bool:
    return output != CACHE and not _reaches(row["float_db"], LEAST_FLOAT_DB)


def _reaches(value: float | None, least: float) -> bool:
    return value is None or value >= least


def not_run_findings(
    shipped: Mapping[str, BinaryInfo], proofs: Mapping[str, Mapping[str, Any]]
) -> list[Finding]:
    """Say which binaries were not tried in the simulator, none of their graphs: those that an SDK
    made, and those for which it takes too long."""
    found = []
    for name, info in shipped.items():
        if not any(parse(graph.name).name in proofs for graph in info.graphs):
            made = f"{name}, made by QAIRT {info.build}"
            told = "read back, not run; what is measured here are graphs with the same encodings"
            found.append(Finding("not_run_here", True, f"{made}: {told}"))
    return found


def _db(value: float | None) -> str:
    return "equal" if value is None else f"{value:.1f} dB"

"""The chipsets that modelc compiles for: one row of `chipsets.csv` each."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from modelc.errors import BadInput, nearest

FIRST_HTP_ARCH: Final = 68  # earlier Hexagons have vector units only
VTCM_FLOOR_MB: Final = 2  # every HTP has this much; a graph scheduled for less than there is runs


@dataclass(frozen=True)
class Chipset:
    """What compiling for a chipset takes.

    Attributes:
        soc_model: the vendor's number of the SoC, which decides arch and instructions.
        htp_arch: "v79".
        vtcm_mb: on-chip memory of the HTP in MB; None where it is not known. The compiler can't be
            asked: it takes any number, and 4 if there is none.
        fp16: float graphs compile offline for it and run in half precision.
        weight_sharing: several graphs of one binary can share their weights on it.
        world: "mobile", "compute", "automotive", "iot" or "xr".
    """

    name: str
    aliases: tuple[str, ...]
    soc_model: int
    htp_arch: str
    vtcm_mb: int | None
    fp16: bool
    weight_sharing: bool
    marketing_name: str
    reference_device: str
    world: str

    @property
    def has_htp(self) -> bool:
        return int(self.htp_arch.removeprefix("v")) >= FIRST_HTP_ARCH

    @property
    def compile_vtcm_mb(self) -> int:
        """The VTCM to schedule for."""
        return self.vtcm_mb or VTCM_FLOOR_MB


@cache
def chipsets() -> Mapping[str, Chipset]:
    """Return all chipsets by name, in the table's order."""
    text = (files("modelc.targets.snapdragon") / "chipsets.csv").read_text(encoding="utf-8")
    rows = [_chipset(row) for row in csv.DictReader(text.splitlines())]
    return MappingProxyType({row.name: row for row in rows})


def find_chipset(name: str) -> Chipset:
    """Return the chipset of a name or alias, in any case.

    Raises:
        BadInput: nothing is called so, or it has no HTP.
    """
    known = {alias: row for row in chipsets().values() for alias in (row.name, *row.aliases)}
    chipset = known.get(name.lower())
    if chipset is None:
        raise BadInput(f"no chipset is called {name!r}", hint=nearest(name, known))
    if not chipset.has_htp:
        raise BadInput(
            f"{chipset.marketing_name} has no HTP: its Hexagon is {chipset.htp_arch}",
            hint=f"HTP begins with v{FIRST_HTP_ARCH}; `modelc targets` lists what can be compiled",
        )
    return chipset


def _chipset(row: Mapping[str, str]) -> Chipset:
    return Chipset(
        name=row["name"],
        aliases=tuple(filter(None, row["aliases"].split(";"))),
        soc_model=int(row["soc_model"]),
        htp_arch=row["htp_arch"],
        vtcm_mb=int(row["vtcm_mb"]) if row["vtcm_mb"] else None,
        fp16=row["fp16"] == "yes",
        weight_sharing=row["weight_sharing"] == "yes",
        marketing_name=row["marketing_name"],
        reference_device=row["reference_device"],
        world=row["world"],
    )

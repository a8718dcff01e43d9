"""Every target by name: the CPU, and each chipset with its facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from modelc.errors import BadInput
from modelc.targets.snapdragon.chipsets import Chipset, chipsets, find_chipset


@dataclass(frozen=True)
class Target:
    """Where a model will run, by the name or alias that was asked for; no chipset is the CPU."""

    name: str
    family: str
    chipset: Chipset | None = None

    @property
    def compiles(self) -> bool:
        """Whether there is something to compile for: an HTP, or the CPU."""
        return self.chipset is None or self.chipset.has_htp

    def check_scheme(self, scheme: str) -> None:
        """Refuse a scheme that the target's hardware can't run.

        Raises:
            BadInput: fp16 on a chipset without it.
        """
        if scheme == "fp16" and self.chipset and not self.chipset.fp16:
            raise BadInput(
                f"{self.name} (HTP {self.chipset.htp_arch}) does not run fp16 graphs",
                hint="use --quant w8a16",
            )

    def document(self) -> dict[str, Any]:
        """Return the JSON form that scripts rely on; facts that don't apply are null."""
        chip = self.chipset
        return {
            "name": self.name,
            "family": self.family,
            "soc_model": chip.soc_model if chip else None,
            "htp_arch": chip.htp_arch if chip else None,
            "vtcm_mb": chip.vtcm_mb if chip else None,
            "fp16": chip.fp16 if chip else False,
            "weight_sharing": chip.weight_sharing if chip else False,
            "aliases": list(chip.aliases) if chip else [],
            "marketing_name": chip.marketing_name if chip else "CPU (ONNX Runtime)",
        }


CPU: Final = Target("cpu", "cpu")


def all_targets() -> tuple[Target, ...]:
    """Return the CPU and every chipset, in the order of the table."""
    return (CPU, *(Target(row.name, "snapdragon", row) for row in chipsets().values()))


def find_target(name: str) -> Target:
    """Return the target of a name or an alias.

    Raises:
        BadInput: there is none, with the nearest names as hint, or it has nothing to compile for.
    """
    if name == CPU.name:
        return CPU
    return Target(name.lower(), "snapdragon", find_chipset(name))

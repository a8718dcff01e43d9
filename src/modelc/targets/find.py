"""Every target by name: the CPU, and each chipset, card and GPU with its facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from modelc.errors import BadInput, nearest
from modelc.targets.cuda.gpus import FP8_SINCE, GPUS, PREFIX, Gpu, find_gpus
from modelc.targets.qaic.cards import CARDS, Card
from modelc.targets.snapdragon.chipsets import Chipset, chipsets, find_chipset


@dataclass(frozen=True)
class Target:
    """Where a model will run, by the name or alias that was asked for; neither chipset nor card nor
    GPU is the CPU.

    Attributes:
        gpus: one of each architecture that kernels are compiled for.
    """

    name: str
    family: str
    chipset: Chipset | None = None
    card: Card | None = None
    gpus: tuple[Gpu, ...] = ()

    @property
    def compiles(self) -> bool:
        """Whether there is something to compile for: an HTP, a card, or the CPU."""
        return self.chipset is None or self.chipset.has_htp

    def check_scheme(self, scheme: str) -> None:
        """Refuse a scheme that the target's hardware can't run.

        Raises:
            BadInput: fp16 on a chipset without it, or FP8 on a GPU without it.
        """
        old = [gpu for gpu in self.gpus if gpu.arch < FP8_SINCE]
        if old and scheme.startswith("fp8"):
            raise BadInput(
                f"sm{old[0].arch} has no FP8",
                hint="use --quant w4f16_b32 or bf16, or leave the architecture out",
            )
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
            "fp16": chip.fp16 if chip else self.card is not None or bool(self.gpus),
            "weight_sharing": chip.weight_sharing if chip else False,
            "aliases": list(chip.aliases) if chip else [],
            "marketing_name": self.marketing_name,
        }

    @property
    def marketing_name(self) -> str:
        if self.gpus:
            return ", ".join(gpu.marketing_name for gpu in self.gpus)
        known = self.chipset or self.card
        return known.marketing_name if known else "CPU (ONNX Runtime)"


CPU: Final = Target("cpu", "cpu")
CARD_PREFIX: Final = "qaic:"


def all_targets() -> tuple[Target, ...]:
    """Return the CPU, every chipset, card and GPU, in the order of the tables."""
    return (
        CPU,
        *(Target(row.name, "snapdragon", row) for row in chipsets().values()),
        *(Target(f"{CARD_PREFIX}{row.name}", "qaic", card=row) for row in CARDS.values()),
        *(Target(f"{PREFIX}{row.name}", "cuda", gpus=(row,)) for row in GPUS.values()),
    )


def find_target(name: str) -> Target:
    """Return the target of a name or an alias.

    Raises:
        BadInput: there is none, with the nearest names as hint, or it has nothing to compile for.
    """
    if name == CPU.name:
        return CPU
    if name.lower().startswith(CARD_PREFIX):
        card = CARDS.get(name.lower().removeprefix(CARD_PREFIX))
        if card is None:
            names = [f"{CARD_PREFIX}{known}" for known in CARDS]
            raise BadInput(f"no card is called {name!r}", hint=nearest(name, names))
        return Target(name.lower(), "qaic", card=card)
    if name.lower().startswith(PREFIX):
        gpus = find_gpus(name.lower().removeprefix(PREFIX))
        return Target(name.lower(), "cuda", gpus=gpus)
    return Target(name.lower(), "snapdragon", find_chipset(name))

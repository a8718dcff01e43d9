"""The cards that modelc compiles for: what their devices have.

Source: https://quic.github.io/cloud-ai-sdk-pages/latest/Getting-Started/Architecture
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class Card:
    """A card; what a program runs on are its devices, each one SoC.

    Attributes:
        hw_version: what the compiler calls the SoC.
        devices: of one card; None where the name stands for several cards.
        device_bytes: memory of each of them.
        cores: of each of them.
    """

    name: str
    hw_version: str
    devices: int | None
    device_bytes: int
    cores: int
    marketing_name: str


CARDS: Final[Mapping[str, Card]] = MappingProxyType(
    {
        row.name: row
        for row in (
            # Without the card's name: what a device of most of them has.
            Card("ai100", "ai100", None, 32 << 30, 16, "Cloud AI 100"),
            Card("ai100-standard", "ai100", 1, 16 << 30, 14, "Cloud AI 100 Standard"),
            Card("ai100-pro", "ai100", 1, 32 << 30, 16, "Cloud AI 100 Pro"),
            Card("ai100-ultra", "ai100", 4, 32 << 30, 16, "Cloud AI 100 Ultra"),
        )
    }
)

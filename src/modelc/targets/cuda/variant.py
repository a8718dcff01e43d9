"""A kernel with everything that it is compiled for: one cubin for each architecture."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelc.targets.cuda.kernel import Constants, Kernel, Tile
from modelc.targets.cuda.kernel_table import KERNELS


@dataclass(frozen=True)
class Variant:
    """One kernel as a plan launches it.

    Attributes:
        types: element type of each tensor that it is given ("bf16", "u8", ...), by name; those
            that are missing it is compiled without.
        constants: of the graph, by name.
        tile: its tile's values, warps and stages.
    """

    kernel: str
    types: Mapping[str, str]
    constants: Constants
    tile: Tile = field(default_factory=Tile)

    @property
    def row(self) -> Kernel:
        return KERNELS[self.kernel]

    @property
    def key(self) -> str:
        """A name of its own: the kernel's, and a digest of the rest."""
        text = json.dumps(self.document(), sort_keys=True)
        return f"{self.kernel}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def document(self) -> dict[str, Any]:
        """Return the JSON form, from which `from_document` makes it again."""
        return {
            "kernel": self.kernel,
            "types": dict(self.types),
            "constants": dict(self.constants),
            "tile": dict(self.tile.values),
            "warps": self.tile.warps,
            "stages": self.tile.stages,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Variant:
        """Raises KeyError or TypeError if it is no such document."""
        tile = Tile(document["tile"], int(document["warps"]), int(document["stages"]))
        return cls(document["kernel"], document["types"], document["constants"], tile)

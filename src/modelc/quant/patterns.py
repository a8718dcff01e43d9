"""Kinds of weights, module by module, as few overrides that people can read and edit."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final

_LAYER: Final = re.compile(r"^model\.layers\.\d+\.")


def as_overrides(kinds: Mapping[str, str], plain: Mapping[str, str]) -> dict[str, str]:
    """Return overrides, pattern -> kind, that make kinds of what a scheme says.

    What most layers have in one place is one pattern, "layers.*.mlp.down_proj"; exceptions follow,
    as the last that matches counts.

    Args:
        kinds: module -> kind.
        plain: the same by the scheme alone.
    """
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for module, kind in kinds.items():
        places[_place(module)][module] = kind
    overrides: dict[str, str] = {}
    exceptions: dict[str, str] = {}
    for place, chosen in places.items():
        ((most, count),) = Counter(chosen.values()).most_common(1)
        usual = {plain[module] for module in chosen}
        if usual == {most} or (count == 1 < len(chosen) and len(usual) == 1):
            covering = usual.pop()
        else:
            covering = overrides[place] = most
        exceptions |= {m.removeprefix("model."): k for m, k in chosen.items() if k != covering}
    return overrides | exceptions


def _place(module: str) -> str:
    """Return a module's path for all layers, without the leading "model."."""
    return _LAYER.sub("model.layers.*.", module).removeprefix("model.")

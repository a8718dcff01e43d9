"""custom_io.yaml: the precision in which the card keeps each state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from modelc.targets.qaic.generations import Generation
from modelc.targets.qaic.source import RETAINED

FILE: Final = "custom_io.yaml"


def state_precision(is_mxint8: bool) -> str:
    """Return the name of the precision of the KV cache."""
    return "mxint8" if is_mxint8 else "float16"


def state_names(states: Sequence[str], generation: Generation) -> list[str]:
    """Return the inputs and outputs of the states in the order of the file."""
    if generation.state_order == "apart":
        return [*states, *(state + RETAINED for state in states)]
    return [name for state in states for name in (state, state + RETAINED)]


def custom_io_text(states: Sequence[str], precision: str, generation: Generation) -> str:
    """Return the file as the SDK's front end writes it."""
    names = state_names(states, generation)
    return "".join(f" - IOName: {name}\n   Precision: {precision}\n\n" for name in names)

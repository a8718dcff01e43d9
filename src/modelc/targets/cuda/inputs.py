"""What a call is given: the table of inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from modelc.targets.cuda.kernel import Extent


@dataclass(frozen=True)
class Input:
    """Elements of 4 bytes, and the sides by the sizes of the call."""

    type: Literal["i32", "fp32"]
    dims: tuple[Extent, ...]


_TOKENS: Final = (Extent(1, "tokens"),)
_SEQUENCES: Final = (Extent(1, "sequences"),)

INPUTS: Final[Mapping[str, Input]] = {
    "input_ids": Input("i32", _TOKENS),
    "position_ids": Input("i32", _TOKENS),
    "slots": Input("i32", _TOKENS),
    "wanted": Input("i32", (Extent(1, "rows"),)),
    "block_tables": Input("i32", (Extent(1, "sequences"), Extent(1, "max_pages"))),
    "starts": Input("i32", (Extent(1, "sequences", plus=1),)),
    "lengths": Input("i32", _SEQUENCES),
    "temperature": Input("fp32", _SEQUENCES),
    "top_k": Input("i32", _SEQUENCES),
    "top_p": Input("fp32", _SEQUENCES),
    "draw": Input("fp32", _SEQUENCES),
    "penalty": Input("fp32", _SEQUENCES),
}
"""They lie in one block, which is copied to the device for each call."""

SEEN: Final = "seen"
"""u8 [sequences, vocabulary], on the device only: not 0 where a sequence has a token that is
penalised for repetition (`seen.py`)."""
INPUT_TYPES: Final[Mapping[str, str]] = {
    **{name: one.type for name, one in INPUTS.items()}, SEEN: "u8",
}  # fmt: skip

"""What of each kernel's tile may be chosen, and what is tried.

What is not named here follows from a kernel's constants (a block that holds a whole head) and is
always that of its row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from modelc.targets.cuda.kernel import Constants

Values = Mapping[str, int]

MOST_VALUE: Final = 8192
"""No tile has a side that is longer."""
MOST_WARPS: Final = 32
MOST_STAGES: Final = 8


@dataclass(frozen=True)
class Choices:
    """What of a kernel's tile may be chosen.

    Attributes:
        values: what is tried of each tile parameter that is free; powers of two.
        warps, stages: what is tried.
        fits: whether values, all of a tile's, are right for the constants: a wrong tile would
            give wrong numbers, not just slow ones.
        stage_bytes: about the shared memory of one stage, so that tiles far beyond what there is
            are not compiled.
        held: numbers that the threads of a block hold together; 0 for no matter. Tiles that leave
            a thread few to do, or more than its registers take, are not tried.
    """

    values: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    warps: tuple[int, ...] = (4,)
    stages: tuple[int, ...] = (1,)
    fits: Callable[[Constants, Values], bool] = lambda constants, values: True
    stage_bytes: Callable[[Constants, Values], int] = lambda constants, values: 0
    held: Callable[[Constants, Values], int] = lambda constants, values: 0


def _operands(bytes_of_x: float, bytes_of_w: float, depth: int = 0) -> Callable[..., int]:
    """Bytes of a block of tokens and one of the weight's rows."""

    def stage_bytes(constants: Constants, values: Values) -> int:
        deep = depth or values["BLOCK_K"]
        return int(deep * (values["BLOCK_M"] * bytes_of_x + values["BLOCK_N"] * bytes_of_w))

    return stage_bytes


def _expert_operands(bytes_of_x: float, bytes_of_w: float, depth: int = 0) -> Callable[..., int]:
    """Likewise for experts, whose gate and up are apart."""

    def stage_bytes(constants: Constants, values: Values) -> int:
        rows = values["BLOCK_N"] * (1 if constants["activation"] == "none" else 2)
        deep = depth or values.get("BLOCK_K") or values["GROUPS"] * int(constants["group"])
        return int(deep * (int(constants["block"]) * bytes_of_x + rows * bytes_of_w))

    return stage_bytes


def _matrix(constants: Constants, values: Values) -> bool:
    """A tensor core takes 16 of each."""
    return values["BLOCK_M"] >= 16 and values["BLOCK_N"] >= 16 and values.get("BLOCK_K", 16) >= 16


def _whole_groups(constants: Constants, values: Values) -> bool:
    return _matrix(constants, values) and values["BLOCK_K"] % int(constants["group"]) == 0


def _parts(constants: Constants, values: Values) -> bool:
    """For one token each thread adds up its own; else each part goes to a tensor core."""
    if constants["most"] == 1:
        return values["SPLIT"] == 1
    return values["BLOCK_N"] >= 8 and values["BLOCK_K"] >= 16 * values["SPLIT"]


def _parts_of_groups(constants: Constants, values: Values) -> bool:
    if constants["most"] == 1:
        return values["SPLIT"] == 1 and values["BLOCK_K"] % 32 == 0
    part = values["BLOCK_K"] // values["SPLIT"]
    return values["BLOCK_N"] >= 8 and part > 0 and part % int(constants["group"]) == 0


def _parts_of_blocks(constants: Constants, values: Values) -> bool:
    return constants["most"] == 1 or values["BLOCK_N"] >= 8


def _expert_matrix(constants: Constants, values: Values) -> bool:
    return values["BLOCK_N"] >= 16 and values.get("BLOCK_K", 16) >= 16


def _expert_groups(constants: Constants, values: Values) -> bool:
    count = int(constants["K"]) // int(constants["group"])
    return values["BLOCK_N"] >= 16 and count % values["GROUPS"] == 0


def _keys(constants: Constants, values: Values) -> bool:
    return values["BLOCK_M"] >= 16 and values["BLOCK_N"] >= 16


def _key_bytes(constants: Constants, values: Values) -> int:
    """Keys and values in 16 bits."""
    return values["BLOCK_N"] * values["BLOCK_D"] * 4


def _sums(constants: Constants, values: Values) -> int:
    return values["BLOCK_M"] * values["BLOCK_N"]


def _weights(constants: Constants, values: Values) -> int:
    return values["BLOCK_N"] * (values.get("BLOCK_K") or 128 * values["SPLIT"])


def _expert_sums(constants: Constants, values: Values) -> int:
    return int(constants["block"]) * values["BLOCK_N"] * (1 + (constants["activation"] != "none"))


def _expert_weights(constants: Constants, values: Values) -> int:
    inputs = values.get("BLOCK_K") or values["GROUPS"] * int(constants["group"])
    return values["BLOCK_N"] * inputs * (1 + (constants["activation"] != "none"))


_HIGH: Final = (64, 128, 256)
_WIDE: Final = (64, 128, 256)
_SMALL_WARPS: Final = (1, 2, 4, 8)
_WIDTHS: Final = (256, 512, 1024, 2048)

_NORM: Final = Choices(warps=(1, 2, 4, 8, 16))
_ROW: Final = Choices({"BLOCK": _WIDTHS}, warps=(1, 2, 4))
_EXPERT_FEW: Final = Choices(
    {"BLOCK_N": (4, 8, 16, 32), "BLOCK_K": (128, 256, 512, 1024)},
    warps=(2, 4, 8), stages=(1, 2), held=_expert_weights,
)  # fmt: skip
_FP8_FEW: Final = Choices(
    {"BLOCK_N": (2, 4, 8, 16, 32), "SPLIT": (2, 4, 8, 16)},
    warps=(2, 4), stages=(1, 4), fits=_parts_of_blocks, held=_weights,
)  # fmt: skip

CHOICES: Final[Mapping[str, Choices]] = {
    "add": _ROW,
    "add_gated": _ROW,
    "embed": _ROW,
    "gated": _ROW,
    "select_rows": _ROW,
    "softcap": _ROW,
    "combine": _ROW,
    "rms_norm": _NORM,
    "add_rms_norm": _NORM,
    "rms_norm_fp8": _NORM,
    "add_rms_norm_fp8": _NORM,
    "quantise_fp8": Choices({"GROUPS": (1, 2, 4, 8, 16, 32)}, warps=_SMALL_WARPS),
    "linear": Choices(
        {"BLOCK_M": _HIGH, "BLOCK_N": _WIDE, "BLOCK_K": (32, 64, 128)},
        warps=(4, 8), stages=(3, 4), fits=_matrix, held=_sums, stage_bytes=_operands(2, 2),
    ),
    "linear_few": Choices(
        {"BLOCK_N": (2, 4, 8, 16, 32, 64), "BLOCK_K": (256, 512, 1024), "SPLIT": (1, 4)},
        warps=(2, 4, 8), stages=(1, 4), fits=_parts, held=_weights,
    ),
    "int4_linear": Choices(
        {"BLOCK_M": _HIGH, "BLOCK_N": _WIDE, "BLOCK_K": (64, 128)},
        warps=(4, 8), stages=(2, 3, 4), fits=_whole_groups, held=_sums,
        stage_bytes=_operands(2, 0.5),
    ),
    "int4_linear_few": Choices(
        {"BLOCK_N": (2, 4, 8, 16, 32, 64), "BLOCK_K": (512, 1024, 2048, 4096),
         "SPLIT": (1, 4)},
        warps=(1, 2, 4), stages=(1, 4), fits=_parts_of_groups, held=_weights,
    ),
    "fp8_linear": Choices(
        {"BLOCK_M": _HIGH, "BLOCK_N": _WIDE, "BLOCK_K": (64, 128)},
        warps=(4, 8), stages=(3, 4), fits=_matrix, held=_sums, stage_bytes=_operands(1, 1),
    ),
    "fp8_block_linear": Choices(
        {"BLOCK_M": _HIGH, "BLOCK_N": _WIDE},
        warps=(4, 8), stages=(2, 3, 4, 5), fits=_matrix, held=_sums,
        stage_bytes=_operands(1, 1, 128),
    ),
    "fp8_linear_few": _FP8_FEW,
    "fp8_block_linear_few": _FP8_FEW,
    "expert_linear": Choices(
        {"BLOCK_N": _WIDE, "BLOCK_K": (32, 64, 128)},
        warps=(4, 8), stages=(2, 3, 4), fits=_expert_matrix, held=_expert_sums,
        stage_bytes=_expert_operands(2, 2),
    ),
    "expert_int4_linear": Choices(
        {"BLOCK_N": _WIDE, "GROUPS": (1, 2, 4)},
        warps=(4, 8), stages=(2, 3, 4), fits=_expert_groups, held=_expert_sums,
        stage_bytes=_expert_operands(2, 0.5),
    ),
    "expert_fp8_linear": Choices(
        {"BLOCK_N": _WIDE, "BLOCK_K": (64, 128)},
        warps=(4, 8), stages=(2, 3, 4), fits=_expert_matrix, held=_expert_sums,
        stage_bytes=_expert_operands(1, 1),
    ),
    "expert_fp8_block_linear": Choices(
        {"BLOCK_N": _WIDE},
        warps=(4, 8), stages=(2, 3, 4), fits=_expert_matrix, held=_expert_sums,
        stage_bytes=_expert_operands(1, 1, 128),
    ),
    "expert_linear_few": _EXPERT_FEW,
    "expert_fp8_linear_few": _EXPERT_FEW,
    "expert_fp8_block_linear_few": _EXPERT_FEW,
    "expert_int4_linear_few": Choices(
        {"BLOCK_N": (4, 8, 16, 32), "GROUPS": (4, 8, 16, 32)},
        warps=(2, 4, 8), stages=(1, 2), held=_expert_weights,
    ),
    "route": Choices(warps=(1, 2, 4)),
    "group_pairs": Choices({"CHUNK": (512, 1024, 2048, 4096)}, warps=(4, 8, 16)),
    "rope_write": Choices({"HEADS": (1, 2, 4, 8, 16)}, warps=_SMALL_WARPS),
    "attention_prefill": Choices(
        {"BLOCK_M": (32, 64, 128), "BLOCK_N": (32, 64, 128)},
        warps=(4, 8), stages=(2, 3, 4), fits=_keys, stage_bytes=_key_bytes,
    ),
    "attention_decode": Choices(
        {"BLOCK_N": (16, 32, 64, 128)},
        warps=(2, 4, 8), stages=(2, 3, 4), fits=_keys, stage_bytes=_key_bytes,
    ),
    "attention_merge": Choices({"BLOCK_S": (4, 8, 16, 32, 64)}, warps=_SMALL_WARPS),
}  # fmt: skip
"""By kernel; those that are missing, of sampling, have one tile alone."""

"""Tiles of the kernels of experts where no tuned ones are known."""

from __future__ import annotations

from typing import Final

from modelc.targets.cuda.gpus import SHARED_BYTES
from modelc.targets.cuda.kernel import Constants, Tile, power_of_two

_GROUP: Final = 8  # tiles that go through the columns together


def grouped(constants: Constants, arch: int) -> Tile:
    """Both operands in 16 bits."""
    inner = 128 if _is_small(constants) else 64
    columns = _columns(constants, 256 if arch >= 90 else 128)
    return _grouped(constants, arch, columns, 2 * inner, 2 * inner, {"BLOCK_K": inner})


def grouped_fp8(constants: Constants, arch: int) -> Tile:
    """Both operands in 8 bits; sums are kept twice, as the hardware's are not exact enough."""
    return _grouped(constants, arch, _columns(constants, 128), 128, 128, {"BLOCK_K": 128})


def grouped_fp8_block(constants: Constants, arch: int) -> Tile:
    """Both operands in 8 bits, 128 of a row at a time."""
    return _grouped(constants, arch, _columns(constants, 128), 128, 128, {})


def grouped_int4(constants: Constants, arch: int) -> Tile:
    """Rows in 16 bits, weights in 4, whole groups at a time."""
    group, count = int(constants["group"]), int(constants["K"]) // int(constants["group"])
    groups = next(groups for groups in (4, 2, 1) if groups == 1 or _fits(groups, group, count))
    inner, columns = groups * group, _columns(constants, 256 if arch >= 90 else 128)
    return _grouped(constants, arch, columns, 2 * inner, inner // 2, {"GROUPS": groups})


def few(constants: Constants, arch: int) -> Tile:
    """Weights in 16 or 8 bits."""
    return Tile({"BLOCK_N": _few_columns(constants), "BLOCK_K": _inner(constants, 512)}, stages=2)


def few_int4(constants: Constants, arch: int) -> Tile:
    """Weights in 4 bits: a whole number of groups at a time."""
    groups = max(_inner(constants, 1024) // int(constants["group"]), 1)
    return Tile({"BLOCK_N": _few_columns(constants), "GROUPS": groups}, stages=2)


def _grouped(
    constants: Constants,
    arch: int,
    columns: int,
    row_bytes: int,
    weight_bytes: int,
    values: dict[str, int],
) -> Tile:
    """Bytes are those of one step of a row of x, and of a row of weights."""
    block, rows = int(constants["block"]), _halves(constants) * columns
    stage = block * row_bytes + rows * weight_bytes
    # Small tiles wait for memory: two programs on each multiprocessor hide that.
    room = SHARED_BYTES[arch] // 2 if _is_small(constants) else SHARED_BYTES[arch]
    warps = 8 if block * rows >= 8192 else 4
    stages = min(max(room // stage, 2), 4)
    return Tile({"BLOCK_N": columns, **values, "GROUP": _GROUP}, warps, stages)


def _columns(constants: Constants, most: int) -> int:
    """128, unless that is more sums than registers hold: `most` rows of 128."""
    enough = int(constants["block"]) * _halves(constants) <= most
    return 128 if enough and not _is_small(constants) else 64


def _fits(groups: int, group: int, count: int) -> bool:
    return groups * group <= 128 and count % groups == 0


def _is_small(constants: Constants) -> bool:
    return int(constants["block"]) < 64


def _halves(constants: Constants) -> int:
    """2 where each expert's weights are a gate's rows and then as many of what it opens."""
    return 1 if constants["activation"] == "none" else 2


def _few_columns(constants: Constants) -> int:
    return 16 // _halves(constants)


def _inner(constants: Constants, most: int) -> int:
    """Inputs at a time: as many as leave at most an eighth of the last step idle."""
    count = int(constants["K"])
    inner = min(most, power_of_two(count))
    while inner > 128 and -(-count // inner) * inner * 8 > count * 9:
        inner //= 2
    return inner

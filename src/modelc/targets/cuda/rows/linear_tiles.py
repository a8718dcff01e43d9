"""Tiles of the linear kernels where no tuned ones are known.

Kernels for many tokens get the largest block whose operands, as often as there are stages, fit the
shared memory (163 KB on 80, 99 on 89, 227 on 90 and 100). Kernels for few tokens get blocks that
make a program for about every multiprocessor, as far as the weight has rows.
"""

from __future__ import annotations

from modelc.targets.cuda.kernel import Constants, Tile, power_of_two


def many(constants: Constants, arch: int) -> Tile:
    """For 16-bit operands."""
    rows = weight_rows(constants)
    across, deep, stages = 128, 64, 3
    if arch >= 90 and rows >= 8192:
        across, stages = 256, 4
    if arch == 89:
        deep, stages = 32, 4
    deep = min(deep, max(power_of_two(int(constants["K"])), 16))
    values = {"BLOCK_M": 128, "BLOCK_N": _at_most(rows, across), "BLOCK_K": deep, "GROUP_M": 8}
    return Tile(values, warps=8, stages=stages)


def many_int4(constants: Constants, arch: int) -> Tile:
    """For 4-bit weights: a block of inputs holds whole groups."""
    high, across, stages = 128, 128, 3
    if arch == 80:
        across = 64
    if arch == 89:
        high, across, stages = 64, 64, 2
    values = {
        "BLOCK_M": high,
        "BLOCK_N": _at_most(weight_rows(constants), across),
        "BLOCK_K": 128,
        "GROUP_M": 8,
        "SWAP": int(arch >= 90),
    }
    return Tile(values, warps=8, stages=stages)


def many_fp8_block(constants: Constants, arch: int) -> Tile:
    """For 8-bit operands, 128 inputs at a time."""
    values = {"BLOCK_M": 128, "BLOCK_N": _at_most(weight_rows(constants), 128), "GROUP_M": 8}
    return Tile(values, warps=8, stages=2 if arch < 90 else 4)


def many_fp8(constants: Constants, arch: int) -> Tile:
    """For 8-bit operands."""
    tile = many_fp8_block(constants, arch)
    deep = min(128, max(power_of_two(int(constants["K"])), 32))
    return Tile({**tile.values, "BLOCK_K": deep}, warps=tile.warps, stages=tile.stages)


def few(constants: Constants, arch: int) -> Tile:
    """For 16-bit weights."""
    if constants["most"] == 1:
        rows, inputs, warps = _one_token(constants, 8, (4, 2))
        return Tile({"BLOCK_N": rows, "BLOCK_K": inputs, "SPLIT": 1}, warps=warps, stages=1)
    across = _few_across(constants, arch)
    deep = 256 if across == 64 or arch == 89 else 512
    deep = min(deep, max(power_of_two(int(constants["K"])), 64))
    values = {"BLOCK_N": across, "BLOCK_K": deep, "SPLIT": 4}
    return Tile(values, warps=4, stages=3 if across == 64 else 4)


def few_int4(constants: Constants, arch: int) -> Tile:
    """For 4-bit weights."""
    if constants["most"] == 1:
        rows, inputs, warps = _one_token(constants, 32, (8, 4, 2))
        return Tile({"BLOCK_N": rows, "BLOCK_K": inputs, "SPLIT": 1}, warps=warps, stages=1)
    values = {"BLOCK_N": _few_across(constants, arch, 32), "BLOCK_K": 512, "SPLIT": 4}
    return Tile(values, warps=4, stages=3 if arch == 89 else 4)


def few_fp8(constants: Constants, arch: int) -> Tile:
    """For 8-bit weights."""
    if constants["most"] == 1:
        rows, inputs, warps = _one_token(constants, 16, (4, 2))
        return Tile({"BLOCK_N": rows, "SPLIT": inputs // 128}, warps=warps, stages=1)
    values = {"BLOCK_N": _few_across(constants, arch, 32), "SPLIT": 4}
    return Tile(values, warps=4, stages=3 if arch == 89 else 4)


def groups(constants: Constants, arch: int) -> Tile:
    """For `quantise_fp8`: one long group, or a row of short ones."""
    width, group = int(constants["width"]), int(constants["group"])
    block = power_of_two(group)
    count = min(power_of_two(-(-width // group)), max(4096 // block, 1))
    warps = min(max(block * count // 1024, 1), 8)
    return Tile({"GROUPS": count, "BLOCK": block}, warps=warps, stages=1)


def weight_rows(constants: Constants) -> int:
    """Rows of the weight: with an activation, those of the gate and those of what it gates."""
    return int(constants["N"]) * (1 if constants["activation"] == "none" else 2)


def _at_most(rows: int, block: int) -> int:
    return min(block, max(power_of_two(rows), 16))


def _few_across(constants: Constants, arch: int, limit: int = 64) -> int:
    rows = weight_rows(constants)
    across = 64 if rows >= 8192 else 32 if rows >= 4096 else 16 if rows >= 2048 else 8
    return min(across, limit, 32 if arch == 89 else 64)


def _one_token(constants: Constants, each: int, heights: tuple[int, ...]) -> tuple[int, int, int]:
    """Return rows, inputs and warps of a block in which a thread has `each` inputs, 16 bytes, of
    every row: as many rows as leave 512 programs, as many warps as divide the inputs evenly."""
    rows, inputs = weight_rows(constants), int(constants["K"])
    height = next((h for h in heights if rows >= 512 * h), heights[-1])
    warp = 32 * each
    fitting = (count for count in (4, 2, 1) if inputs % (count * warp) == 0)
    warps = next(fitting, min(power_of_two(-(-inputs // warp)), 4))
    return height, warps * warp, warps

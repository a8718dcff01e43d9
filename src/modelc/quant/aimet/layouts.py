"""What one entry says, in each of the three layouts (see `read`)."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from modelc.quant.aimet.encodings import Granularity, TensorEncoding
from modelc.quant.aimet.entry import MAX_BITS, MAX_VALUES, Entry

LARGEST_OFFSET: Final = 1 << 32
LARGEST_BLOCK_SCALE: Final = 1 << 16
_INTEGER: Final = re.compile(r"(u?)int(\d{1,2})")


def parse_first(entry: Entry) -> TensorEncoding | None:
    """0.x: a dictionary for the tensor or for each channel; 0.4 knows no float."""
    rows = entry.values["channels"]
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_VALUES:
        raise entry.error("not a list of encodings", "it must hold one, or one for each channel")
    channels = [row if isinstance(row, dict) else {} for row in rows]
    one = Entry(entry.name, channels[0], entry.path)
    for key in ("dtype", "bitwidth", "is_symmetric"):
        said = one.values.get(key)
        if any(channel.get(key) != said for channel in channels):
            raise entry.error(f"its channels differ in {key}", "all must be of one kind")
    if one.values.get("dtype") == "float":
        return None
    if one.values.get("dtype", "int") != "int":
        raise one.bad("dtype", "int or float")
    bits, symmetric = one.bits("bitwidth"), one.flag("is_symmetric")
    columns = {key: [channel.get(key) for channel in channels] for key in ("scale", "offset")}
    vectors = Entry(entry.name, columns, entry.path)
    scales, offsets = vectors.scales("scale"), _offsets(vectors)
    for key, numbers in (("scale", scales), ("offset", offsets)):
        if numbers.ndim > 1:
            raise vectors.bad(key, "one number for each channel")
    granularity: Granularity = "tensor" if len(channels) == 1 else "channel"
    return TensorEncoding(granularity, bits, symmetric, scales, offsets)


def parse_second(entry: Entry) -> TensorEncoding | None:
    """1.0: vectors, those of blocks channel by channel; offsets counted from unsigned codes."""
    if entry.text("dtype").upper() == "FLOAT":
        return None
    if entry.text("dtype").upper() != "INT":
        raise entry.bad("dtype", "INT or FLOAT")
    if np.any(entry.values.get("zero_point_shift", 0)):
        raise entry.error("it has a zero_point_shift", "integer hardware needs a whole zero point")
    kind, bits = entry.text("enc_type"), entry.bits("bw")
    symmetric = entry.flag("is_sym")
    scales, offsets = entry.scales("scale").ravel(), _offsets(entry).ravel()
    if scales.size != offsets.size or (kind == "PER_TENSOR" and scales.size != 1):
        raise entry.error(
            f"{scales.size} scales and {offsets.size} offsets", f"{kind} needs as many of both"
        )
    if kind == "PER_TENSOR":
        return TensorEncoding("tensor", bits, symmetric, scales, offsets)
    if kind == "PER_CHANNEL":
        return TensorEncoding("channel", bits, symmetric, scales, offsets)
    if kind == "PER_BLOCK":
        block_size = entry.integer("block_size", 1, MAX_VALUES)
        return TensorEncoding("block", bits, symmetric, scales, offsets, block_size)
    if kind == "LPBQ":
        blocks = entry.whole("per_block_int_scale", 1, LARGEST_BLOCK_SCALE).ravel()
        return _lpbq(entry, (bits, entry.bits("compressed_bw")), scales, blocks)
    raise entry.bad("enc_type", "PER_TENSOR, PER_CHANNEL, PER_BLOCK or LPBQ")


def parse_third(entry: Entry) -> TensorEncoding | None:
    """2.x: zero points, counted from codes of `output_dtype`; blocks along `axis`."""
    found = _INTEGER.fullmatch(entry.text("output_dtype"))
    if not found:
        return None
    bits, signed = int(found[2]), not found[1]
    if not 2 <= bits <= MAX_BITS:
        raise entry.bad("output_dtype", f"of 2 to {MAX_BITS} bits")
    scale = entry.values.get("y_scale")
    if isinstance(scale, dict):  # 2.1 nests the scales of scales
        channels = entry.scales("y_scale", scale.get("x_scale", [])).ravel()
        blocks = entry.whole("y_scale", 1, LARGEST_BLOCK_SCALE, scale.get("x", []))
        return _lpbq(entry, (2 * bits, bits), channels, _by_channel(entry, blocks))
    if "per_block_int_scale" in entry.values:
        channels = entry.scales("per_channel_float_scale").ravel()
        blocks = entry.whole("per_block_int_scale", 1, LARGEST_BLOCK_SCALE)
        return _lpbq(entry, (2 * bits, bits), channels, _by_channel(entry, blocks))
    scales = entry.scales("y_scale")
    zeros = np.zeros(scales.shape, np.int64)
    if "y_zero_point" in entry.values:
        zeros = entry.whole("y_zero_point", -LARGEST_OFFSET, LARGEST_OFFSET)
    if zeros.shape != scales.shape:
        raise entry.error("y_scale and y_zero_point differ in shape", "each scale needs one")
    offsets = -zeros - (1 << bits - 1 if signed else 0)
    symmetric = bool((offsets == -(1 << bits - 1)).all())
    if "block_size" in entry.values:
        block_size = entry.integer("block_size", 1, MAX_VALUES)
        scales, offsets = _by_channel(entry, scales), _by_channel(entry, offsets)
        return TensorEncoding("block", bits, symmetric, scales, offsets, block_size)
    granularity: Granularity = "channel" if scales.ndim else "tensor"
    return TensorEncoding(granularity, bits, symmetric, scales.ravel(), offsets.ravel())


def _lpbq(
    entry: Entry, bits: tuple[int, int], scales: np.ndarray, blocks: np.ndarray
) -> TensorEncoding:
    """Low-power blocks: `bits` of the products and of what is stored, a scale per channel, and a
    small whole factor per block, channel by channel."""
    if blocks.size % scales.size:
        raise entry.error(
            f"{blocks.size} blocks of {scales.size} channels", "channels need as many blocks each"
        )
    offsets = np.full(scales.size, -(1 << bits[0] - 1), np.int64)
    size = entry.integer("block_size", 1, MAX_VALUES)
    return TensorEncoding("lpbq", bits[0], True, scales, offsets, size, bits[1], blocks)


def _by_channel(entry: Entry, values: np.ndarray) -> np.ndarray:
    """Return values with blocks along `axis` flat, channel by channel."""
    axis = entry.integer("axis", -values.ndim, values.ndim - 1)
    turned = np.moveaxis(values, axis, -1)
    if sum(size > 1 for size in turned.shape[:-1]) > 1:
        raise entry.error("blocks along one of more than two axes", "modelc's weights are matrices")
    return turned.ravel()


def _offsets(entry: Entry) -> np.ndarray:
    return entry.whole("offset", -LARGEST_OFFSET, LARGEST_OFFSET)

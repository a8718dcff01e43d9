"""Device memory that a decoder's weights and states take, and on how many devices it fits.

Sizes of MXFP6 and MXINT8: blocks of 32 elements with a scale of 8 bits (OCP Microscaling Formats
1.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod
from typing import Final

from modelc.decoder.check import linear_shapes, plain_shapes
from modelc.decoder.config import DecoderConfig
from modelc.errors import BadInput, nearest
from modelc.targets.qaic.cards import CARDS

HALF_BITS: Final = 16.0
MXFP6_BITS: Final = 6 + 8 / 32
MXINT8_BITS: Final = 8 + 8 / 32
USABLE: Final = 0.9
"""Of a device's memory; the rest is for the program, what a call computes, and the firmware."""


@dataclass(frozen=True)
class DeviceMemory:
    """What a compiled decoder takes of each device, in bytes.

    Attributes:
        weights: matrices' share under tensor slicing, and what each device has whole.
        states: of all sequences, the heads of this device.
        available: that a program may use.
    """

    devices: int
    weights: int
    states: int
    available: int

    @property
    def total(self) -> int:
        return self.weights + self.states

    @property
    def fits(self) -> bool:
        return self.total <= self.available


def device_memory(
    config: DecoderConfig,
    card: str,
    *,
    context_length: int,
    num_devices: int = 1,
    sequences: int = 1,
    mxfp6_matmul: bool = False,
    mxint8_kv_cache: bool = False,
) -> DeviceMemory:
    """Return what a decoder takes of each of `num_devices` devices of a card.

    Matrices are sliced evenly; the embedding's table, norms and biases are on every device in
    float16 (a bound from above). A device has the key and value heads of its query heads, so that
    with fewer of them than devices some are there several times.

    Raises:
        BadInput: an unknown card, or a size below 1.
    """
    if card not in CARDS:
        raise BadInput(f"there is no card {card}", hint=nearest(card, CARDS))
    if min(context_length, num_devices, sequences) < 1:
        raise BadInput(
            f"{num_devices} devices, {sequences} sequences of {context_length} positions"
        )
    sliced = sum(prod(shape) for _, shape in linear_shapes(config))
    tables = {name: prod(shape) for name, shape in plain_shapes(config)}
    if config.tied_head:  # the head's product reads a matrix of its own
        sliced += tables["model.embed_tokens.weight"]
    heads = ceil(config.kv_heads / num_devices)
    kept = 2 * config.layers * heads * config.head_dim * context_length * sequences
    matrix_bits = MXFP6_BITS if mxfp6_matmul else HALF_BITS
    weights = ceil(sliced / num_devices) * matrix_bits + sum(tables.values()) * HALF_BITS
    states = kept * (MXINT8_BITS if mxint8_kv_cache else HALF_BITS)
    usable = int(USABLE * CARDS[card].device_bytes)
    return DeviceMemory(num_devices, ceil(weights / 8), ceil(states / 8), usable)


def fewest_devices(
    config: DecoderConfig, card: str, most: int = 16, **options: int | bool
) -> DeviceMemory | None:
    """Return the memory on the fewest devices (a power of two up to `most`) that a decoder fits;
    None if there are none. Options are those of `device_memory`.

    Raises:
        BadInput: as `device_memory`.
    """
    count = 1
    while count <= most:
        memory = device_memory(config, card, num_devices=count, **options)  # type: ignore[arg-type]
        if memory.fits:
            return memory
        count *= 2
    return None

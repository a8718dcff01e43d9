"""Device memory, against sizes worked out from the weights themselves."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
from support.tiny_source import tiny_config, tiny_source

from modelc.decoder.config import DecoderConfig, Rope
from modelc.errors import BadInput
from modelc.ir.stored import tensor_shape
from modelc.targets.qaic.estimate import device_memory, fewest_devices

# The shape of Llama 3.1 8B: 8.03e9 parameters.
LLAMA_8B = DecoderConfig(
    architecture="llama",
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    norm_epsilon=1e-5,
    rope=Rope(dim=128),
    max_context=131072,
    windows=(0,) * 32,
    attention_scale=128**-0.5,
)


def test_every_weight_is_counted_once() -> None:
    weights = tiny_source(tiny_config()).weights.values()
    count = sum(prod(tensor_shape(weight)) for weight in weights)
    memory = device_memory(tiny_config(), "ai100-pro", context_length=16)
    assert memory.weights == 2 * count
    assert memory.states == 2 * 2 * 2 * 8 * 16 * 2  # keys and values, layers, heads, width


def test_known_sizes() -> None:
    memory = device_memory(LLAMA_8B, "ai100-ultra", context_length=4096)
    assert memory.weights == pytest.approx(2 * 8.03e9, rel=1e-3)
    assert memory.states == 2 * 32 * 8 * 128 * 4096 * 2
    packed = device_memory(
        LLAMA_8B, "ai100-ultra", context_length=4096, mxfp6_matmul=True, mxint8_kv_cache=True
    )
    assert packed.weights == pytest.approx(7.5e9 * 6.25 / 8 + 0.525e9 * 2, rel=1e-2)
    assert packed.states == memory.states * 8.25 / 16


def test_slices() -> None:
    one = device_memory(LLAMA_8B, "ai100-ultra", context_length=4096)
    four = device_memory(LLAMA_8B, "ai100-ultra", context_length=4096, num_devices=4)
    sixteen = device_memory(LLAMA_8B, "ai100-ultra", context_length=4096, num_devices=16)
    assert four.states == one.states / 4
    assert sixteen.states == one.states / 8  # 8 heads: two devices share each
    assert one.weights / 4 < four.weights < one.weights / 2


@pytest.mark.parametrize(
    ("card", "options", "devices"),
    [
        ("ai100-pro", {}, 1),
        ("ai100-standard", {}, 2),
        ("ai100-standard", {"mxfp6_matmul": True}, 1),
        ("ai100-pro", {"sequences": 256}, 8),
    ],
)
def test_fewest_devices(card: str, options: dict[str, Any], devices: int) -> None:
    memory = fewest_devices(LLAMA_8B, card, context_length=4096, **options)
    assert memory is not None and memory.devices == devices
    assert memory.total <= memory.available < 36e9


def test_nothing_fits() -> None:
    assert fewest_devices(LLAMA_8B, "ai100-pro", context_length=131072, sequences=512) is None


def test_what_is_refused() -> None:
    with pytest.raises(BadInput, match="no card ai100-plus"):
        device_memory(LLAMA_8B, "ai100-plus", context_length=16)
    with pytest.raises(BadInput, match="0 devices"):
        device_memory(LLAMA_8B, "ai100-pro", context_length=16, num_devices=0)

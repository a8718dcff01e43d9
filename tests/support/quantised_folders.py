"""Hugging Face folders quantised as other tools do it: written from their definitions, with torch,
sharing nothing with the frontend that reads them.

Every writer takes a float matrix [outputs, inputs] and returns the tensors that are saved under its
module, and the matrix that they stand for.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Written = tuple[dict[str, torch.Tensor], torch.Tensor]
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
]  # fmt: skip


def integers(
    weight: torch.Tensor, bits: int, group: int, symmetric: bool, order: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes from 0 up [outputs, inputs], scales and zeros [outputs, groups]; `order` is each
    input's group."""
    groups, last = int(order.max()) + 1, 2**bits - 1
    scales, zeros = torch.zeros(len(weight), groups), torch.zeros(len(weight), groups)
    for index in range(groups):
        part = weight[:, order == index]
        if symmetric:
            scales[:, index] = part.abs().amax(1) * 2 / last
            zeros[:, index] = 2 ** (bits - 1)
        else:
            low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
            scales[:, index] = (high - low) / last
            zeros[:, index] = torch.round(-low / scales[:, index])
    scales = scales.half().float()
    codes = torch.round(weight / scales[:, order]) + zeros[:, order]
    return codes.clamp(0, last).int(), scales, zeros.int()


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes [n, m] as int32 words down the rows, the first in the lowest bits."""
    rows = []
    for group in codes.split(32):
        whole = sum(code.numpy().astype(object) << (bits * i) for i, code in enumerate(group))
        for word in range(-(-len(group) * bits // 32)):
            rows.append(signed(torch.tensor([(int(one) >> 32 * word) % 2**32 for one in whole])))
    return torch.stack(rows)


def signed(words: torch.Tensor) -> torch.Tensor:
    """Words from 0 up as int32 of the same bits."""
    return torch.where(words >= 1 << 31, words - (1 << 32), words).int()


def groups_of(inputs: int, group: int, shuffled: bool = False) -> torch.Tensor:
    order = torch.arange(inputs) // (inputs if group == -1 else group)
    if shuffled:
        order = order[torch.randperm(inputs, generator=torch.Generator().manual_seed(1))]
    return order


def gptq(
    weight: torch.Tensor,
    *,
    bits: int = 4,
    group: int = 32,
    symmetric: bool = True,
    act_order: bool = False,
    version: int = 1,
) -> Written:
    order = groups_of(weight.shape[1], group, act_order)
    codes, scales, zeros = integers(weight, bits, group, symmetric, order)
    stored = zeros
    if version == 1:
        stored = (zeros - 1) % 2**bits
    words = pack(stored, bits).T.contiguous()
    if version == 1 and bits != 3:  # taken from whole words, with what is borrowed
        ones = sum(1 << shift for shift in range(0, 32, bits))
        words = signed((pack(zeros, bits).T.long() - ones) % 2**32)
    tensors = {
        "qweight": pack(codes.T.contiguous(), bits),
        "qzeros": words,
        "scales": scales.T.contiguous().half(),
        "g_idx": order.int(),
    }
    return tensors, (codes - zeros[:, order]) * scales[:, order]


def awq(weight: torch.Tensor, *, group: int = 32) -> Written:
    order = groups_of(weight.shape[1], group)
    codes, scales, zeros = integers(weight, 4, group, False, order)

    def interleaved(values: torch.Tensor) -> torch.Tensor:
        words = torch.zeros(len(values), values.shape[1] // 8, dtype=torch.int64)
        for place, output in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
            words |= values[:, output::8].long() << (4 * place)
        return signed(words)

    tensors = {
        "qweight": interleaved(codes.T),
        "qzeros": interleaved(zeros.T),
        "scales": scales.T.contiguous().half(),
    }
    return tensors, (codes - zeros[:, order]) * scales[:, order]


def packed(
    weight: torch.Tensor,
    *,
    bits: int = 4,
    group: int = 32,
    symmetric: bool = True,
    act_order: bool = False,
) -> Written:
    """compressed-tensors' pack-quantized."""
    order = groups_of(weight.shape[1], group, act_order)
    codes, scales, zeros = integers(weight, bits, group, symmetric, order)
    tensors = {
        "weight_packed": pack(codes.T.contiguous(), bits).T.contiguous(),
        "weight_scale": scales.half(),
        "weight_shape": torch.tensor(weight.shape),
    }
    if not symmetric:
        tensors["weight_zero_point"] = pack(zeros, bits)
    if act_order:
        tensors["weight_g_idx"] = order.int()
    return tensors, (codes - zeros[:, order]) * scales[:, order]


def int8(weight: torch.Tensor, *, group: int = -1, symmetric: bool = True) -> Written:
    """compressed-tensors' int-quantized."""
    order = groups_of(weight.shape[1], group)
    codes, scales, zeros = integers(weight, 8, group, symmetric, order)
    tensors = {"weight": (codes - 128).to(torch.int8), "weight_scale": scales.half()}
    if not symmetric:
        tensors["weight_zero_point"] = (zeros - 128).to(torch.int8)
    return tensors, (codes - zeros[:, order]) * scales[:, order]


def float8(
    weight: torch.Tensor,
    *,
    block: tuple[int, int] | None = None,
    name: str = "weight_scale",
    static: bool = False,
    powers: bool = False,
    element: torch.dtype = torch.float8_e4m3fn,
) -> Written:
    """A scale for each block of outputs and inputs (0: all); None: one number for all."""
    rows, columns = block or (0, 0)
    rows, columns = rows or weight.shape[0], columns or weight.shape[1]
    high, wide = -(-weight.shape[0] // rows), -(-weight.shape[1] // columns)
    sizes = (0, wide * columns - weight.shape[1], 0, high * rows - weight.shape[0])
    parts = torch.nn.functional.pad(weight.abs(), sizes).reshape(high, rows, wide, columns)
    scales = parts.amax((1, 3)) / torch.finfo(element).max
    if powers:
        scales = 2 ** torch.ceil(torch.log2(scales))
    every = scales.repeat_interleave(rows, 0)[: len(weight)]
    every = every.repeat_interleave(columns, 1)[:, : weight.shape[1]]
    codes = (weight / every).to(element)
    stored = scales if block else scales.reshape(())
    tensors = {"weight": codes, name: stored.to(torch.float8_e8m0fnu) if powers else stored}
    if static:
        tensors["input_scale"] = torch.tensor(0.5)
    return tensors, codes.float() * every


def mx(weight: torch.Tensor, *, bits: int) -> Written:
    """compressed-tensors' mxfp8 and mxfp4: exponents of blocks of 32 as bytes."""
    parts = weight.reshape(len(weight), -1, 32)
    largest = 448.0 if bits == 8 else 6.0
    powers = torch.ceil(torch.log2(parts.abs().amax(2) / largest))
    ratios = (parts / 2 ** powers[..., None]).reshape(weight.shape)
    tensors = {"weight_scale": (powers + 127).to(torch.uint8)}
    if bits == 8:
        tensors["weight"] = ratios.to(torch.float8_e4m3fn)
        found = tensors["weight"].float()
    else:
        values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
        codes = (ratios.abs() - values[:, None, None]).abs().argmin(0)
        found = values[codes] * ratios.sign()
        codes |= (ratios < 0).long() << 3
        tensors["weight_packed"] = (codes[:, ::2] | codes[:, 1::2] << 4).to(torch.uint8)
    scales = (2**powers).repeat_interleave(32, 1)
    return tensors, found * scales


def nf4(weight: torch.Tensor, *, block: int = 64, nested: bool = False) -> Written:
    """bitsandbytes' 4 bits: blocks of the flattened matrix."""
    values = torch.tensor(NF4)
    flat = weight.reshape(-1)
    count = -(-len(flat) // block)
    parts = torch.nn.functional.pad(flat, (0, count * block - len(flat))).reshape(count, block)
    peaks = parts.abs().amax(1)
    state: dict[str, Any] = {
        "quant_type": "nf4",
        "blocksize": block,
        "dtype": "float16",
        "shape": list(weight.shape),
    }
    tensors = {"weight.absmax": peaks, "weight.quant_map": values}
    if nested:
        table = torch.linspace(-1, 1, 256)
        offset = peaks.mean()
        over = -(-count // 256)
        each = torch.arange(count) // 256
        tops = torch.stack([(peaks - offset)[each == one].abs().max() for one in range(over)])
        codes = ((peaks - offset) / tops[each] - table[:, None]).abs().argmin(0)
        peaks = table[codes] * tops[each] + offset
        state |= {
            "nested_blocksize": 256,
            "nested_dtype": "float32",
            "nested_offset": offset.item(),
        }
        tensors["weight.absmax"] = codes.to(torch.uint8)
        tensors |= {"weight.nested_absmax": tops, "weight.nested_quant_map": table}
    codes = (
        (parts / peaks[:, None] - values[:, None, None]).abs().argmin(0).reshape(-1)[: len(flat)]
    )
    tensors["weight"] = ((codes[::2] << 4) | codes[1::2]).to(torch.uint8)[:, None]
    name = "weight.quant_state.bitsandbytes__nf4"
    tensors[name] = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    found = values[codes] * peaks.repeat_interleave(block)[: len(flat)]
    return tensors, found.reshape(weight.shape)


def bnb_int8(weight: torch.Tensor) -> Written:
    peaks = weight.abs().amax(1)
    codes = torch.round(weight * 127 / peaks[:, None]).to(torch.int8)
    tensors = {"weight": codes, "SCB": peaks, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return tensors, codes.float() * (peaks[:, None] / 127)


@dataclass(frozen=True)
class Case:
    """One way of quantising a folder: its settings and its writer."""

    settings: dict[str, Any]
    write: Callable[[torch.Tensor], Written]


def _gptq(**options: Any) -> Case:
    settings = {
        "quant_method": "gptq",
        "bits": options.get("bits", 4),
        "group_size": options.get("group", 32),
        "sym": options.get("symmetric", True),
        "desc_act": options.get("act_order", False),
        "checkpoint_format": "gptq_v2" if options.get("version") == 2 else "gptq",
    }
    return Case(settings, partial(gptq, **options))


def _compressed(write: Callable[..., Written], format: str, kind: str, **options: Any) -> Case:
    weights = {"num_bits": options.get("bits", 8), "type": kind}
    if write is mx:
        weights["group_size"] = 32
    elif "group" in options:
        weights["group_size"] = options["group"]
    if all(options.get("block", (0,))):
        weights["block_structure"] = list(options["block"])
    group = {"targets": ["Linear"], "weights": weights, "format": format}
    settings = {
        "quant_method": "compressed-tensors",
        "format": format,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }
    return Case(settings, partial(write, **options))


_FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3"}
_BLOCKS = {**_FP8, "weight_block_size": [24, 40]}
_INVERSE = "weight_scale_inv"
_PACKED = "pack-quantized"

CASES: dict[str, Case] = {
    "gptq": _gptq(),
    "gptq-asymmetric": _gptq(symmetric=False),
    "gptq-v2-asymmetric": _gptq(symmetric=False, version=2),
    "gptq-act-order": _gptq(act_order=True, symmetric=False),
    "gptq-channel": _gptq(group=-1),
    "gptq-int8": _gptq(bits=8, group=-1),
    "gptq-int8-asymmetric": _gptq(bits=8, group=64, symmetric=False),
    "gptq-int3": _gptq(bits=3, symmetric=False),
    "gptq-int2": _gptq(bits=2, group=16),
    "awq": Case(
        {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"},
        partial(awq, group=32),
    ),
    "packed-int4": _compressed(packed, _PACKED, "int", bits=4, group=32),
    "packed-int4-asymmetric": _compressed(
        packed, _PACKED, "int", bits=4, group=32, symmetric=False
    ),
    "packed-act-order": _compressed(packed, _PACKED, "int", bits=4, group=32, act_order=True),
    "packed-int8": _compressed(packed, _PACKED, "int", bits=8, group=-1),
    "packed-int3": _compressed(packed, _PACKED, "int", bits=3, group=32, symmetric=False),
    "int8-channel": _compressed(int8, "int-quantized", "int"),
    "int8-asymmetric": _compressed(int8, "int-quantized", "int", group=32, symmetric=False),
    "float8-tensor": _compressed(float8, "float-quantized", "float", static=True),
    "float8-channel": _compressed(float8, "float-quantized", "float", block=(1, 0)),
    "float8-block": _compressed(float8, "float-quantized", "float", block=(24, 40)),
    "mxfp8": _compressed(mx, "mxfp8-quantized", "float", bits=8),
    "mxfp4": _compressed(mx, "mxfp4-pack-quantized", "float", bits=4),
    "fp8-block": Case(_BLOCKS, partial(float8, block=(24, 40), name=_INVERSE)),
    "fp8-powers": Case(_BLOCKS, partial(float8, block=(24, 40), name=_INVERSE, powers=True)),
    "fp8-static": Case({**_FP8, "activation_scheme": "static"}, partial(float8, static=True)),
    "fp8-e5m2": Case(_FP8, partial(float8, element=torch.float8_e5m2)),
    "nf4": Case({"quant_method": "bitsandbytes", "load_in_4bit": True}, nf4),
    "nf4-nested": Case(
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        partial(nf4, block=32, nested=True),
    ),
    "nf4-over-rows": Case({"quant_method": "bitsandbytes"}, partial(nf4, block=48)),
    "bnb-int8": Case({"quant_method": "bitsandbytes", "load_in_8bit": True}, bnb_int8),
}


def write(source: Path, folder: Path, case: Case) -> dict[str, torch.Tensor]:
    """Quantise the linear layers of a folder's model, but for the head, into another folder.

    Returns what the weights are then, by name.
    """
    shutil.copytree(source, folder)
    plain = load_file(folder / "model.safetensors")
    stored: dict[str, torch.Tensor] = {}
    found: dict[str, torch.Tensor] = {}
    for name, weight in plain.items():
        if not name.endswith("_proj.weight"):
            stored[name] = found[name] = weight
            continue
        tensors, found[name] = case.write(weight.float())
        module = name.removesuffix(".weight")
        stored |= {f"{module}.{part}": one.contiguous() for part, one in tensors.items()}
    save_file(stored, folder / "model.safetensors")
    set_config(folder, quantization_config=case.settings)
    return found


def set_config(folder: Path, **keys: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))

"""GPTQ, as AutoGPTQ and GPTQModel save it (`ir.layouts.gptq`)."""

from __future__ import annotations

from typing import Final

import numpy as np

from modelc.frontends.fields import Fields
from modelc.frontends.huggingface.quantised.groups import group_width
from modelc.frontends.huggingface.quantised.module import SCALES, Module
from modelc.ir.coded import CodedMatrix, StoredArray
from modelc.ir.layouts.gptq import gptq_zeros
from modelc.ir.packing.kinds import Bits, IntegerForm

MARKS: Final = ("qweight",)
_LAYOUTS: Final = {"gptq": "gptq", "gptq_v2": "gptq_v2"}
_BITS: Final[dict[int, Bits]] = {2: 2, 3: 3, 4: 4, 8: 8}


def check(config: Fields) -> None:
    """Raises BadInput for a format that isn't read."""
    _layout(config)
    if config.boolean("is_marlin_format", False):
        raise config.bad("is_marlin_format", "false: save the checkpoint in the format gptq")
    if config.integer("bits", low=1, high=16) not in _BITS:
        raise config.bad("bits", "2, 3, 4 or 8")


def read(config: Fields, module: Module) -> CodedMatrix:
    layout = _layout(config)
    codes = module.take("qweight", ("I32",), (None, None))
    words, height = codes.shape
    order = module.take("g_idx", ("I32",), (None,)) if module.has("g_idx") else None
    if order is None and config.boolean("desc_act", False):
        module.take("g_idx", ("I32",))  # which is missing
    columns = order.shape[0] if order else words * 32 // config.integer("bits")
    bits = _BITS.get(words * 32 // columns)
    if bits is None or words * 32 != columns * bits or height * bits % 32:
        raise module.wrong(
            f"qweight {list(codes.shape)} are not the codes of {columns} inputs",
            "codes have 2, 3, 4 or 8 bits, and fill whole words",
        )
    scales = module.take("scales", SCALES, (None, height))
    groups = scales.shape[0]
    zeros = module.take("qzeros", ("I32",), (groups, height * bits // 32))
    known = config.integer("group_size", -1, low=-1)
    # GPTQModel may give some modules groups of their own: then tensors say how many there are.
    known = known if known > 0 and -(-columns // known) == groups else 0
    block, order = group_width(module, order, groups, columns, known)
    symmetric = _centred(zeros, bits, height, layout == "gptq")
    return module.matrix(
        layout,
        (height, columns),
        IntegerForm(bits, block, symmetric=symmetric),
        codes=codes,
        scales=scales,
        zeros=None if symmetric else zeros,
        groups=order,
    )


def _layout(config: Fields) -> str:
    key = "format" if config.has("format") else "checkpoint_format"  # as it was called first
    return config.choice(key, _LAYOUTS, "gptq")


def _centred(zeros: StoredArray, bits: int, height: int, less_one: bool) -> bool:
    """Are all zeros in the middle? What settings say of it isn't always so."""
    found = gptq_zeros(zeros.array(), bits, slice(None), height, less_one)
    return bool(np.all(found == 1 << (bits - 1)))

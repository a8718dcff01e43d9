"""AWQ, as AutoAWQ saves it (`ir.layouts.awq`)."""

from __future__ import annotations

from typing import Final

import numpy as np

from modelc.frontends.fields import Fields
from modelc.frontends.huggingface.quantised.groups import group_width
from modelc.frontends.huggingface.quantised.module import SCALES, Module
from modelc.ir.coded import CodedMatrix
from modelc.ir.layouts.awq import in_order
from modelc.ir.packing.kinds import IntegerForm

MARKS: Final = ("qweight",)


def check(config: Fields) -> None:
    """Raises BadInput for a version that isn't read."""
    for key in ("version", "checkpoint_format", "format"):
        if config.text(key, "gemm").lower() != "gemm":
            raise config.bad(key, '"gemm": save the checkpoint in that version')
    for key in ("bits", "w_bit"):
        if config.has(key) and config.integer(key) != 4:
            raise config.bad(key, "4")


def read(config: Fields, module: Module) -> CodedMatrix:
    codes = module.take("qweight", ("I32",), (None, None))
    columns, height = codes.shape[0], codes.shape[1] * 8
    scales = module.take("scales", SCALES, (None, height))
    groups = scales.shape[0]
    zeros = module.take("qzeros", ("I32",), (groups, height // 8))
    key = "group_size" if config.has("group_size") else "q_group_size"
    known = max(config.integer(key, -1, low=-1), 0)
    block, _ = group_width(module, None, groups, columns, known)
    symmetric = bool(np.all(in_order(zeros.array(), slice(None), height) == 8))
    return module.matrix(
        "awq",
        (height, columns),
        IntegerForm(4, block, symmetric=symmetric),
        codes=codes,
        scales=scales,
        zeros=None if symmetric else zeros,
    )

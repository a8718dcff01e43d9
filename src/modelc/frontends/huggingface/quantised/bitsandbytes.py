"""bitsandbytes: nf4 and fp4, their scales perhaps quantised once more, and int8
(`ir.layouts.bitsandbytes`)."""

from __future__ import annotations

from typing import Final

from modelc.frontends.fields import Fields, parse_json
from modelc.frontends.huggingface.quantised.module import Module
from modelc.ir.coded import CodedMatrix, StoredArray
from modelc.ir.packing.kinds import IntegerForm

_STATES: Final = tuple(f"weight.quant_state.bitsandbytes__{kind}" for kind in ("nf4", "fp4"))
MARKS: Final = (*_STATES, "SCB")
_LARGEST_STATE: Final = 1 << 16


def check(config: Fields) -> None:
    """All that there is to know lies beside each weight."""


def read(config: Fields, module: Module) -> CodedMatrix:
    return _int8(module) if module.has("SCB") else _table(module)


def _int8(module: Module) -> CodedMatrix:
    codes = module.take("weight", ("I8",), (None, None))
    height, columns = codes.shape
    scales = module.take("SCB", ("F32",), (height,))
    if module.has("weight_format"):
        order = module.take("weight_format", ("U8",))
        if order.array().any():
            raise module.bad(order, "the order of its codes must be 0: by rows")
    return module.matrix("bnb_int8", (height, columns), IntegerForm(8), codes=codes, scales=scales)


def _table(module: Module) -> CodedMatrix:
    name = next(name for name in _STATES if module.has(name))
    state = module.take(name, ("U8",), (None,))
    if state.size > _LARGEST_STATE:
        raise module.bad(state, "it should be a few settings")
    settings = parse_json(state.array().tobytes(), state.path).under("")
    height, columns = _shape(settings)
    size = settings.integer("blocksize", low=1, high=1 << 16)
    blocks = -(-height * columns // size)
    if columns % 2:
        raise module.wrong(f"{columns} inputs", "two of them share a byte")
    codes = module.take("weight", ("U8",))
    if codes.size != height * columns // 2:
        raise module.bad(codes, f"it must be {height}x{columns} codes of 4 bits")
    nested = module.has("weight.nested_absmax")
    parts: dict[str, StoredArray] = {}
    if nested:
        over = settings.integer("nested_blocksize", low=1, high=1 << 16)
        settings.number("nested_offset")
        parts["nested_scales"] = module.take(
            "weight.nested_absmax", ("F32",), (-(-blocks // over),)
        )
        parts["nested_values"] = module.take("weight.nested_quant_map", ("F32",), (256,))
    return module.matrix(
        "bnb_table",
        (height, columns),
        None,
        codes=codes,
        values=module.take("weight.quant_map", ("F32",), (16,)),
        scales=module.take("weight.absmax", ("U8",) if nested else ("F32",), (blocks,)),
        state=state,
        **parts,
    )


def _shape(settings: Fields) -> tuple[int, int]:
    sizes = settings.numbers("shape")
    if len(sizes) != 2 or not all(1 <= size <= 1 << 24 and size == int(size) for size in sizes):
        raise settings.bad("shape", "outputs and inputs")
    return int(sizes[0]), int(sizes[1])

"""FP8 with a scale for each tensor, channel or block of 128x128, as DeepSeek and Qwen publish it
("fp8" of transformers, and of vLLM's tools)."""

from __future__ import annotations

from typing import Final

from modelc.frontends.fields import Fields
from modelc.frontends.huggingface.quantised.groups import as_column
from modelc.frontends.huggingface.quantised.module import SCALES, Module
from modelc.ir.coded import CodedMatrix, StoredArray
from modelc.ir.packing.kinds import Element, FloatForm

MARKS: Final = ("weight_scale_inv", "weight_scale")
_ELEMENTS: Final[dict[str, Element]] = {"float8_e4m3fn": "e4m3", "float8_e5m2": "e5m2"}
FLOAT8: Final = ("F8_E4M3", "F8_E5M2")


def check(config: Fields) -> None:
    """Raises BadInput if weights are in blocks that make no sense."""
    _block_size(config)


def read(config: Fields, module: Module) -> CodedMatrix:
    codes = module.take("weight", FLOAT8, (None, None))
    name = next(mark for mark in MARKS if module.has(mark))
    scales = module.take(name, (*SCALES, "F8_E8M0"))
    # Of activations, whose ranges are gathered here.
    module.drop("input_scale", "activation_scale", "k_scale", "v_scale")
    return scaled_floats(module, codes, scales, _block_size(config))


def scaled_floats(
    module: Module, codes: StoredArray, scales: StoredArray, block: tuple[int, int] | None
) -> CodedMatrix:
    """Return FP8 codes [outputs, inputs] with their scales.

    Args:
        block: outputs and inputs that share one, where neither a tensor nor a channel does.

    Raises:
        BadInput: the scales are of no such parts of the matrix.
    """
    height, columns = codes.shape
    column = as_column(scales)
    if column.shape == (1, 1) and height > 1:
        block_rows, width = 0, 0
    elif column.shape == (height, 1):
        block_rows, width = 1, 0
    elif block and column.shape == (-(-height // block[0]), -(-columns // block[1])):
        block_rows, width = block
    else:
        raise module.wrong(
            f"scales {list(scales.shape)} are not those of a weight {list(codes.shape)}",
            "a scale is of a tensor, of a channel or of a block as the settings have it",
        )
    power = scales.dtype == "float8_e8m0fnu"
    form = FloatForm(_ELEMENTS[codes.dtype], width, block_rows, power_scales=power)
    return module.matrix("rows", (height, columns), form, codes=codes, scales=column)


def _block_size(config: Fields) -> tuple[int, int] | None:
    if not config.has("weight_block_size"):
        return None
    return block_of(config, "weight_block_size")


def block_of(config: Fields, key: str) -> tuple[int, int]:
    """Return outputs and inputs of a block."""
    sizes = config.numbers(key)
    if len(sizes) != 2 or not all(1 <= size <= 1 << 24 and size == int(size) for size in sizes):
        raise config.bad(key, "two sizes, such as [128, 128]")
    return int(sizes[0]), int(sizes[1])

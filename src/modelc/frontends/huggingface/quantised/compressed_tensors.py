"""compressed-tensors, as llm-compressor saves it: integers packed in words or one to a byte, FP8,
MXFP8 and MXFP4.

The settings describe groups of modules, which say what codes there may be; what a module has is
seen from its tensors, which must be of one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np

from modelc.errors import BadInput, Where
from modelc.frontends.fields import Fields
from modelc.frontends.huggingface.quantised.fp8 import FLOAT8, block_of, scaled_floats
from modelc.frontends.huggingface.quantised.groups import as_column, group_width
from modelc.frontends.huggingface.quantised.module import SCALES, Module
from modelc.ir.coded import CodedMatrix, StoredArray
from modelc.ir.layouts.bits import of_outputs
from modelc.ir.packing.kinds import Bits, FloatForm, IntegerForm

MARKS: Final = ("weight_packed", "weight_scale")
_FORMATS: Final = {
    "dense",
    "pack-quantized",
    "int-quantized",
    "float-quantized",
    "naive-quantized",
    "mixed-precision",
    "mxfp4-pack-quantized",
    "mxfp8-quantized",
}
_POWERS: Final = ("U8", "F8_E8M0")
_BITS: Final[dict[int, Bits]] = {2: 2, 3: 3, 4: 4, 8: 8}


def check(config: Fields) -> None:
    """Raises BadInput for formats that aren't read, and for weights that were changed otherwise."""
    if config.text("quantization_status", "compressed") != "compressed":
        raise config.bad("quantization_status", '"compressed": save the model compressed')
    for fields in (config, *_groups(config)):
        if fields.text("format", "pack-quantized") not in _FORMATS:
            raise fields.bad("format", f"one of {', '.join(sorted(_FORMATS))}")
    sparsity = _under(config, "sparsity_config")
    if sparsity and sparsity.text("format", "dense") != "dense":
        raise sparsity.bad("format", '"dense"')
    transforms = _under(config, "transform_config")
    if transforms and transforms.values.get("config_groups"):
        raise BadInput(
            "activations are transformed as well (transform_config)",
            where=Where(path=str(config.path)),
            hint="modelc would compute something else without these transforms",
        )


def read(config: Fields, module: Module) -> CodedMatrix:
    weights = [found for group in _groups(config) if (found := _under(group, "weights"))]
    module.drop("input_scale", "input_zero_point", "output_scale", "k_scale", "v_scale")
    if module.has("weight_packed"):
        return _packed(weights, module)
    codes = module.take("weight", ("I8", *FLOAT8), (None, None))
    coded = _bytes if codes.dtype == "int8" else _floats
    return coded(weights, module, codes)


def _floats(weights: list[Fields], module: Module, codes: StoredArray) -> CodedMatrix:
    scales = _power_scales(module.take("weight_scale", (*SCALES, *_POWERS)))
    module.drop("weight_zero_point")  # floats are around 0
    blocks = [block_of(one, "block_structure") for one in weights if one.has("block_structure")]
    widths = [one.integer("group_size", -1, low=-1) for one in weights if one.has("group_size")]
    blocks += [(1, width) for width in widths if width > 0]
    fitting = [block for block in blocks if _in(block, codes, scales)]
    return scaled_floats(module, codes, scales, fitting[0] if fitting else None)


def _fp4(module: Module, codes: StoredArray) -> CodedMatrix:
    """MXFP4: two codes to a byte."""
    height, columns = codes.shape[0], codes.shape[1] * 2
    form = FloatForm("e2m1", 32, power_scales=True)
    blocks = -(-columns // form.block)
    scales = _power_scales(module.take("weight_scale", _POWERS, (height, blocks)))
    return module.matrix("bits", (height, columns), form, codes=codes, scales=scales)


def _power_scales(scales: StoredArray) -> StoredArray:
    """Bytes are exponents of powers of two, whatever the file calls them."""
    return replace(scales, dtype="float8_e8m0fnu") if scales.dtype == "uint8" else scales


def _packed(weights: list[Fields], module: Module) -> CodedMatrix:
    codes = module.take("weight_packed", ("I32", "U8"), (None, None))
    if codes.dtype == "uint8":
        return _fp4(module, codes)
    height, columns = _shape(module)
    known = {one.integer("num_bits", low=1, high=16) for one in weights}
    fitting = [b for b in _BITS.values() if codes.shape == (height, -(-columns * b // 32))]
    bits = next((b for b in fitting if b in known), None)
    if bits is None:
        raise module.wrong(
            f"weight_packed {list(codes.shape)} are no codes of [{height}, {columns}] weights",
            "num_bits must be 2, 3, 4 or 8",
        )
    order = (
        module.take("weight_g_idx", ("I32",), (columns,)) if module.has("weight_g_idx") else None
    )
    scales, share, block, order = _scales(weights, module, (height, columns), order)
    zeros, blocks = None, scales.shape[1]
    if module.has("weight_zero_point"):
        zeros = module.take("weight_zero_point", ("I32",), (-(-height * bits // 32), blocks))
        if np.all(of_outputs(zeros.array().T, bits, slice(None), height) == 1 << (bits - 1)):
            zeros = None
    return module.matrix(
        "packed_rows",
        (height, columns),
        IntegerForm(bits, block, symmetric=zeros is None, block_rows=share),
        codes=codes,
        scales=scales,
        zeros=zeros,
        groups=order,
    )


def _bytes(weights: list[Fields], module: Module, codes: StoredArray) -> CodedMatrix:
    """int8, whatever bits of them are used."""
    height, columns = codes.shape
    scales, share, block, _ = _scales(weights, module, (height, columns), None)
    zeros = None
    if module.has("weight_zero_point"):
        zeros = as_column(module.take("weight_zero_point", ("I8",)))
        if zeros.shape != scales.shape:
            raise module.bad(zeros, f"it must have the shape {list(scales.shape)}, as the scales")
        if not zeros.array().any():
            zeros = None
    form = IntegerForm(8, block, symmetric=zeros is None, block_rows=share)
    return module.matrix("rows", (height, columns), form, codes=codes, scales=scales, zeros=zeros)


def _scales(
    weights: list[Fields], module: Module, shape: tuple[int, int], order: StoredArray | None
) -> tuple[StoredArray, int, int, StoredArray | None]:
    """Return scales, how many outputs (0: all) and inputs (0: all) share one, and the order of the
    inputs if they are out of it."""
    height, columns = shape
    scales = as_column(module.take("weight_scale", SCALES))
    if scales.shape == (1, 1) and height > 1:
        return scales, 0, 0, None
    if len(scales.shape) != 2 or scales.shape[0] != height:
        raise module.bad(scales, f"{height} outputs must have a scale each, or for each group")
    groups = scales.shape[1]
    sizes = {one.integer("group_size", -1, low=-1) for one in weights}
    known = next((size for size in sorted(sizes) if size > 0 and -(-columns // size) == groups), 0)
    block, order = group_width(module, order, groups, columns, known)
    return scales, 1, block, order


def _shape(module: Module) -> tuple[int, int]:
    stored = module.take("weight_shape", ("I64", "I32"), (2,))
    height, columns = (int(size) for size in stored.array())
    if not (0 < height <= 1 << 24 and 0 < columns <= 1 << 24):
        raise module.wrong(f"weight_shape is {height}, {columns}", "it must be two sizes")
    return height, columns


def _in(block: tuple[int, int], codes: StoredArray, scales: StoredArray) -> bool:
    sizes = zip(codes.shape, block, strict=True)
    return scales.shape == tuple(-(-size // one) for size, one in sizes)


def _groups(config: Fields) -> Iterator[Fields]:
    groups: Any = config.values.get("config_groups")
    if not isinstance(groups, dict) or not all(isinstance(one, dict) for one in groups.values()):
        raise config.bad("config_groups", "groups of modules, each with its settings")
    for values in groups.values():
        yield Fields(values, config.path)


def _under(config: Fields, key: str) -> Fields | None:
    """Return the settings that one setting holds."""
    values = config.values.get(key)
    if values is not None and not isinstance(values, dict):
        raise config.bad(key, "an object")
    return Fields(values, config.path) if values else None

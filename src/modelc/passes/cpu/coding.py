"""How the matrix of each linear layer is coded: for MatMulNBits, as codes to be widened, or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from modelc.decoder.expert_modules import is_router
from modelc.errors import BadInput, ModelcError, Where
from modelc.ir.packing.choose import Blocks, Gguf, choose_packing
from modelc.ir.packing.form_packing import FormPacking, form_packing
from modelc.ir.packing.kinds import KINDS, Form
from modelc.ir.packing.packing import Packing
from modelc.ir.provenance import module_of
from modelc.passes.cpu.linears import Linear
from modelc.passes.dynamic_rounding import Activations

Weights = Blocks | Literal["kinds"]
Coding = Packing | Form | None
"""A form is for codes that MatMulNBits can't multiply; None is for floats."""


def coding_of(
    linear: Linear,
    weights: Weights,
    gguf: Gguf,
    kinds: Mapping[str, str],
    activations: Activations = "int8_dynamic",
) -> Coding:
    """Return how a layer's matrices are coded, the options being those of `PackWeights`.

    Routers of experts stay floats.

    Raises:
        BadInput: its rows are no whole number of GGML's blocks.
    """
    if is_router(first_module(module_of(linear.nodes[0]))):
        return None
    columns = linear.matrices[0].shape[-1]
    if weights == "kinds":
        form = KINDS[kind_of(module_of(linear.nodes[0]), kinds)]
        return form_coding(form, columns, activations)
    packing = choose_packing(linear.matrices[0].format, weights, gguf)
    if packing is not None and columns % packing.layout.block_size:
        block = packing.layout.block_size
        raise BadInput(
            f"{linear.weight.name} has rows of {columns}, not whole blocks of {block}",
            where=Where(module=module_of(linear.nodes[0])),
            hint="use --quant fp32",
        )
    return packing


def form_coding(form: Form, columns: int, activations: str) -> FormPacking | Form:
    """Return how a matrix of a form and so many inputs is coded."""
    if form.bits == 8 and activations != "int8_dynamic":
        return form  # MatMulNBits takes ten times as long as MatMul does
    return form_packing(form, columns) or form


def first_module(module: str) -> str:
    """Return the first of merged modules ("a+b"), or the only one."""
    return module.partition("+")[0]


def kind_of(module: str, kinds: Mapping[str, str]) -> str:
    """Return the kind of the weights of a module, or of merged ones ("a+b"), which have the same:
    that of the longest path that it is or lies in, "" having all in it."""
    path = first_module(module)
    while path not in kinds:
        if not path:
            raise ModelcError("nothing says how its weight is stored", where=Where(module=module))
        path = path.rpartition(".")[0]
    return kinds[path]

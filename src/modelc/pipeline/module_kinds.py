"""What a model's matrices are, by module, and of what kind each is to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from modelc.decoder.config import DecoderModel
from modelc.decoder.expert_modules import is_router
from modelc.ir.stored import tensor_shape
from modelc.pipeline.job import Job
from modelc.quant.overrides import EMBEDDING, HEAD, weight_kinds


def matrix_shapes(model: DecoderModel) -> dict[str, tuple[int, ...]]:
    """Return the shape [outputs, inputs] of each matrix by module; a tied head is one as well.
    Routers of experts are left out: they stay floats."""
    shapes = {
        name.removesuffix(".weight"): tensor_shape(matrix)
        for name, matrix in model.weights.items()
        if len(matrix.shape) == 2 and not is_router(name.removesuffix(".weight"))
    }
    if model.config.tied_head:
        shapes[HEAD] = shapes[EMBEDDING]
    return shapes


def cpu_kinds(job: Job, model: DecoderModel) -> dict[str, str]:
    """Return the kind of each module's weights on the CPU, by the scheme and the overrides; none
    for schemes of another sort.

    Raises:
        BadInput: as `weight_kinds`.
    """
    return weight_kinds(matrix_shapes(model), job.scheme, job.recipe.overrides)


def cuda_kinds(job: Job, model: DecoderModel) -> dict[str, str]:
    """Return the kind of each layer's weights on CUDA, by the scheme and the overrides; "float" is
    what the model computes in.

    Raises:
        BadInput: as `weight_kinds`.
    """
    shapes = matrix_shapes(model)
    kinds = weight_kinds(shapes, job.scheme, job.recipe.overrides)
    return {module: kinds.get(module, "float") for module in shapes if module != EMBEDDING}


def most_and_others(kinds: Mapping[str, str]) -> dict[str, str]:
    """Return kinds by the beginnings of module paths: "" has what most have."""
    ((most, _),) = Counter(kinds.values()).most_common(1) or [("", 0)]
    return {"": most, **{module: kind for module, kind in kinds.items() if kind != most}}

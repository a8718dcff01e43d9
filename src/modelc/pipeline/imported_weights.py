"""The weights of an imported encodings file: kinds for the plan, scales for the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelc.errors import Where
from modelc.ir.stored import tensor_shape
from modelc.pipeline.job import ENCODINGS_FILE, Job
from modelc.quant.overrides import EMBEDDING

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelc.ir.encodings import Encoding
    from modelc.ir.packing.given_scales import GivenScales
    from modelc.quant.aimet.encodings import TensorEncoding

SCALES: Final = "weights.npz"
"""Beside the encodings, if a file said scales of weights."""


def kinds_of_file(job: Job, modules: Mapping[str, Sequence[int]]) -> Mapping[str, str]:
    """Return the kind of each module's weight that the job's encodings file says, if it has one.

    Args:
        modules: module path -> shape of its weight [outputs, inputs].

    Raises:
        BadInput: the file can't be read, or is of another model.
    """
    from modelc.quant.aimet.kinds import imported_kinds
    from modelc.quant.aimet.match import match_weights
    from modelc.quant.aimet.read import read_encodings

    path = job.sources.get(ENCODINGS_FILE)
    if path is None:
        return {}
    shapes = {f"{module}.weight": shape for module, shape in modules.items()}
    return imported_kinds(match_weights(read_encodings(path), shapes, path)).kinds


def scales_of_graph(
    graph: ir.Graph, weights: Mapping[str, TensorEncoding], kinds: Mapping[str, str]
) -> dict[str, GivenScales]:
    """Return the scales of the matrices of a graph whose kinds are known, by module."""
    from modelc.ir.weights import StoredWeight
    from modelc.quant.aimet.kinds import given_scales

    found = {}
    for module, kind in kinds.items():
        tensor = graph.initializers[f"{module}.weight"].const_value
        if module != EMBEDDING:
            assert isinstance(tensor, StoredWeight) and tensor.source.transposed
            first_row = tensor.source.rows[0] if tensor.source.rows else 0
            outputs = tensor_shape(tensor.source)[1]
            found[module] = given_scales(weights[f"{module}.weight"], kind, first_row, outputs)
    return found


def table_of_file(
    weights: Mapping[str, TensorEncoding], kinds: Mapping[str, str], path: Path
) -> dict[str, Encoding]:
    """Return the encoding of the embedding's table by its name, if the file says it.

    Raises:
        BadInput: 0 has no code in it.
    """
    from modelc.quant.aimet.encodings import to_activation

    name = f"{EMBEDDING}.weight"
    if EMBEDDING not in kinds:
        return {}
    return {name: to_activation(name, weights[name], Where(path=str(path)))}

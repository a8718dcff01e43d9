"""The weights of an imported encodings file: kinds for the plan, scales for the steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelc.decoder.config import DecoderModel
from modelc.errors import BadInput, Where
from modelc.ir.encodings import IntegerType
from modelc.ir.stored import tensor_shape
from modelc.pipeline.job import ENCODINGS_FILE, Job
from modelc.quant.overrides import EMBEDDING

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelc.ir.encodings import Encoding
    from modelc.ir.packing.given_scales import GivenScales
    from modelc.quant.aimet.encodings import TensorEncoding
    from modelc.quant.aimet.match import Matched

SHOWN: Final = 5  # names in a message
SCALES: Final = "weights.npz"
"""Beside the encodings, if a file said scales of weights."""


def kinds_of_file(job: Job, model: DecoderModel, kv: str) -> Mapping[str, str]:
    """Return the kind of each module's weight that the job's encodings file says, if it has one.

    Raises:
        BadInput: as `match_file`.
    """
    from modelc.decoder.builder import build_decoder
    from modelc.passes.expand import ExpandComposites
    from modelc.quant.aimet.kinds import imported_kinds

    path = job.sources.get(ENCODINGS_FILE)
    if path is None:
        return {}
    graph = ExpandComposites().apply(build_decoder(model, min(model.config.max_context, 16)))
    return imported_kinds(match_file(path, graph, kv).weights).kinds


def match_file(path: Path, expanded: ir.Model, kv: str) -> Matched:
    """Find the tensors of a decoder's expanded graph in an encodings file.

    Raises:
        BadInput: the file can't be read, is of another model, leaves tensors without encodings, or
            has the KV cache in another type.
    """
    from modelc.quant.aimet.match import match_encodings
    from modelc.quant.aimet.read import read_encodings

    matched = match_encodings(read_encodings(path), expanded, path, _integer(kv))
    where = Where(path=str(path))
    if matched.missing:
        named = f", such as {', '.join(matched.unmatched[:SHOWN])}" if matched.unmatched else ""
        raise BadInput(
            f"the file has no encodings for {len(matched.missing)} tensors of the model, such as "
            f"{', '.join(matched.missing[:SHOWN])}",
            where=where,
            hint=f"{len(matched.unmatched)} names in it fit no tensor{named}",
        )
    for name, encoding in matched.encodings.items():
        if name.startswith("present.") and encoding.dtype != kv:
            bits = encoding.dtype.removeprefix("uint")
            raise BadInput(
                f"the file has {name} of the KV cache in {bits} bits",
                where=where,
                hint=f"use --kv-bits {bits}",
            )
    return matched


def _integer(kv: str) -> IntegerType:
    return "uint16" if kv == "uint16" else "uint8"


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

"""What algorithms make of a decoder's weights, in a graph again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from modelc.bundle.tokenizer import Tokenizer
from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderModel
from modelc.frontends import read_source
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.kinds import KINDS, Form
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.ir.stored import StoredMatrix
from modelc.ir.weights import StoredWeight
from modelc.quant.algorithms.layer import Algorithm, Floats, Layer
from modelc.quant.algorithms.seams import move_factors, norm_seams
from modelc.quant.algorithms.walk import walk
from modelc.reference.stream import StreamedReference
from modelc.verify.metrics import perplexity, sqnr_db

NOTHING: Mapping[str, Form] = {}
EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llm"


@dataclass(frozen=True)
class Example:
    """The model that ships, its graph, and tokens of the texts beside it, in rows of 128."""

    model: DecoderModel
    graph: ir.Model
    samples: list[list[int]]
    held_out: list[list[int]]


@cache
def example(sequences: int = 8) -> Example:
    source = read_source(EXAMPLE / "hf")
    graph = build_decoder(source, 128)
    tokenizer = Tokenizer(source.tokenizer)

    def tokens(name: str) -> list[list[int]]:
        ids = tokenizer.encode((EXAMPLE / name).read_text())
        return [ids[first : first + 128] for first in range(0, 128 * sequences, 128)]

    return Example(source, graph, tokens("calibration.txt"), tokens("heldout.txt"))


@dataclass(frozen=True)
class Loud(Algorithm):
    """Makes some channels behind norms thirty times as loud, and what reads them as much smaller:
    the function stays, but these are the outliers of large models, which the example has not."""

    name: ClassVar[str] = "loud"

    def apply(self, layer: Layer) -> None:
        for seam in norm_seams(layer):
            if layer.is_decoder_layer:
                factors = np.ones_like(seam.rows(layer))
                factors[[5, 77, 130, 201]] = 1 / 30
                move_factors(layer, seam, factors)


def loud(made: Example, folder: Path) -> Example:
    weights = worked(made.graph, made.model, [Loud()])
    return replace(made, graph=with_weights(made.graph, weights, folder))


@dataclass(frozen=True)
class Watch(Algorithm):
    """Keeps a copy of every part as the algorithms before left it."""

    name: ClassVar[str] = "watch"
    needs_inputs: ClassVar[bool] = True

    layers: list[Layer] = field(default_factory=list)

    def apply(self, layer: Layer) -> None:
        copies = {"weights": dict(layer.weights), "inputs": dict(layer.inputs)}
        self.layers.append(replace(layer, **copies))


def watched(
    made: Example, algorithms: Sequence[Algorithm], forms: Mapping[str, Form] = NOTHING
) -> list[Layer]:
    """Return the decoder layers of the example as algorithms leave them, with their inputs."""
    watch = Watch()
    worked(made.graph, made.model, [*algorithms, watch], forms, made.samples)
    return [layer for layer in watch.layers if layer.is_decoder_layer]


def forms_of(model: DecoderModel, layers: str, head: str = "w8") -> dict[str, Form]:
    """Return the form of every matrix, as a scheme would have them."""
    modules = [n.removesuffix(".weight") for n in model.weights if n.endswith("_proj.weight")]
    return {**dict.fromkeys(modules, KINDS[layers]), "lm_head": KINDS[head]}


def worked(
    graph: ir.Model,
    model: DecoderModel,
    algorithms: Sequence[Algorithm],
    forms: Mapping[str, Form] = NOTHING,
    samples: Sequence[Sequence[int]] = (),
) -> dict[str, Floats]:
    """Return the weights that algorithms changed, by name."""
    changed: dict[str, Floats] = {}

    def finish(layer: Layer, new: Mapping[str, Floats], _: object) -> None:
        changed.update(new)

    walk(graph, model.config, algorithms, forms, samples, finish)
    return changed


def with_weights(graph: ir.Model, weights: Mapping[str, Floats], folder: Path) -> ir.Model:
    """Return a copy of a canonical graph with other weights, which it reads from a file."""
    copy = graph.clone()
    path = folder / f"{len(list(folder.iterdir()))}.bin"
    offset = 0
    with path.open("xb") as stream:
        for name, array in weights.items():
            value = copy.graph.initializers[name]
            turned = any(use.node.op_type == "MatMul" for use in value.uses())
            stored = StoredMatrix(path, offset, "F32", array.shape, transposed=turned)
            offset += stream.write(np.ascontiguousarray(array, np.float32).tobytes())
            value.const_value = StoredWeight(stored, name)
    return copy


def float_weights(graph: ir.Model) -> dict[str, Floats]:
    """Return all stored weights of a canonical graph as algorithms see them, [out, in]."""
    weights = {}
    for name, value in graph.graph.initializers.items():
        if isinstance(value.const_value, StoredWeight):
            source = value.const_value.source
            weights[name] = source.decode().T if source.transposed else source.decode()
    return weights


def quality(
    made: Example, algorithms: Sequence[Algorithm], kind: str, folder: Path
) -> tuple[float, float]:
    """Return the SQNR of the logits of the held-out text in dB, and its perplexity, with matrices
    rounded to nearest behind algorithms."""
    forms = forms_of(made.model, kind)
    changed = worked(made.graph, made.model, algorithms, forms, made.samples)
    weights = {**float_weights(made.graph), **changed}
    for module, form in forms.items():
        name = f"{module}.weight"
        weights[name] = dequantise_rows(quantise_rows(weights[name], form))
    graphs = made.graph, with_weights(made.graph, weights, folder)
    wanted, found = (list(StreamedReference(graph).logits_of(made.held_out)) for graph in graphs)
    scored = np.concatenate([logits[:-1] for logits in found])
    targets = [token for row in made.held_out for token in row[1:]]
    return sqnr_db(np.concatenate(wanted), np.concatenate(found)), perplexity(scored, targets)

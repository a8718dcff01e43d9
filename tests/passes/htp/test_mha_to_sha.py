"""One branch per head: the same numbers, names, caches and encodings as all heads together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.golden import check_golden
from support.htp_graphs import (
    VARIANTS,
    boundary,
    encodings,
    generate,
    lower,
    make_source,
    reference,
    session,
)
from support.tiny_source import tiny_config, tiny_source

from modelc.decoder.config import DecoderSource, Rope
from modelc.decoder.parts import DecoderPart
from modelc.ir.provenance import canonical_name, module_of
from modelc.ir.text import to_text
from modelc.ir.weights import StoredWeight
from modelc.passes.base import run_passes
from modelc.passes.htp.mha_to_sha import MhaToSha
from modelc.passes.htp.quantise import Quantise
from modelc.passes.htp.split import split_decoder
from modelc.passes.pipelines import build_pipeline
from modelc.verify.metrics import sqnr_db

GOLDEN = Path(__file__).parent / "golden"


def branched(source: DecoderSource, ar: int = 4) -> ir.Model:
    model = lower(source, "ScaleQueries", ar)
    return run_passes(model, build_pipeline("htp-sha", {}), graph=f"ar{ar}")[0]


def as_in_gguf(source: DecoderSource) -> DecoderSource:
    """Read the rows of queries and keys as those of a GGUF, which change places."""
    heads = {"q": source.config.heads, "k": source.config.kv_heads}
    weights = {
        name: replace(matrix, unpermute_heads=heads[found[1]])
        if (found := re.search(r"\.([qk])_proj\.", name))
        else matrix
        for name, matrix in source.weights.items()
    }
    return replace(source, weights=weights)


def test_golden_text_after() -> None:
    """The text before is that after `ScaleQueries`."""
    source = tiny_source(tiny_config(layers=1, rope=Rope(dim=4)))
    check_golden(GOLDEN / "MhaToSha.txt", to_text(branched(source)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_numbers_stay(variant: str, tmp_path: Path) -> None:
    check_numbers(make_source(tmp_path, **VARIANTS[variant]), tmp_path)


# What differs in the rows of queries and keys.
@pytest.mark.parametrize("variant", ["llama", "one key head", "partial rope", "qwen2", "qwen3"])
def test_the_numbers_stay_where_rows_lie_as_in_gguf(variant: str, tmp_path: Path) -> None:
    plain = make_source(tmp_path, **VARIANTS[variant])
    source = as_in_gguf(plain)
    assert sqnr_db(reference(plain), reference(source)) < 30  # it makes a difference
    check_numbers(source, tmp_path, (4,))


def check_numbers(source: DecoderSource, tmp_path: Path, ars: Sequence[int] = (4, 1)) -> None:
    graphs = {ar: session(branched(source, ar), tmp_path / f"ar{ar}.onnx") for ar in ars}
    grouped = {
        ar: session(lower(source, "ScaleQueries", ar), tmp_path / f"grouped{ar}.onnx") for ar in ars
    }
    expected, found = generate(source, grouped), generate(source, graphs)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("variant", ["one key head", "partial rope", "qwen2", "qwen3", "gemma2"])
def test_encodings_follow_each_heads_slice(variant: str, tmp_path: Path) -> None:
    """Quantised, it has the codes of all heads together at its boundary, and their logits."""
    source = make_source(tmp_path, **VARIANTS[variant])
    known = encodings(source)
    runs, edges = [], []
    for make in (lower_quantised, branched_quantised):
        models = {ar: make(source, known, ar) for ar in (4, 1)}
        edges.append(boundary(models[4]))
        graphs = {
            ar: session(model, tmp_path / f"{make.__name__}{ar}.onnx")
            for ar, model in models.items()
        }
        runs.append(generate(source, graphs, edges[-1]))
    assert edges[0] == edges[1]
    # A bias of one head has finer steps than that of all; all else is the same to the bit.
    exact = not VARIANTS[variant].get("biases")
    assert np.array_equal(*runs) if exact else sqnr_db(*runs) > 60


def lower_quantised(source: DecoderSource, known: dict, ar: int) -> ir.Model:
    return lower(source, "Quantise", ar, encodings=known)


def branched_quantised(source: DecoderSource, known: dict, ar: int) -> ir.Model:
    return run_passes(branched(source, ar), [Quantise(known)], graph=f"ar{ar}")[0]


def test_every_head_has_its_own_nodes() -> None:
    model = branched(tiny_source(tiny_config(layers=2)))
    softmaxes = [node for node in model.graph if node.op_type == "Softmax"]
    assert len(softmaxes) == 2 * 4
    for node in model.graph:
        if ".self_attn" in module_of(node):
            for value in node.outputs:
                sizes = list(value.shape)
                heads = sizes[0] if len(sizes) == 4 else 1
                assert heads == 1 or canonical_name(value).startswith("present."), value.name


def test_modules_and_canonical_names_are_those_of_all_heads() -> None:
    source = tiny_source(tiny_config(architecture="qwen3"))
    grouped, model = lower(source, "ScaleQueries"), branched(source)

    def names(model: ir.Model) -> tuple[set[str], set[str]]:
        values = {canonical_name(value) for node in model.graph for value in node.outputs}
        return {module_of(node) for node in model.graph}, values

    (modules, values), (old_modules, old_values) = names(model), names(grouped)
    assert modules == old_modules
    assert values <= old_values


def test_the_boundary_stays() -> None:
    source = tiny_source(tiny_config())
    pairs = [
        [(value.name, value.dtype, tuple(value.shape), canonical_name(value)) for value in side]
        for model in (lower(source, "ScaleQueries"), branched(source))
        for side in ([*model.graph.inputs, *model.graph.outputs],)
    ]
    assert pairs[0] == pairs[1]


def test_weights_are_sliced_where_they_lie() -> None:
    """Their file isn't there."""
    graph = branched(tiny_source(tiny_config(layers=1))).graph
    large = [v.const_value for v in graph.initializers.values() if v.dtype == ir.DataType.FLOAT]
    stored = [tensor for tensor in large if isinstance(tensor, StoredWeight)]
    assert len(stored) == 3 + (4 + 2 + 2) + 1 + 3 + 2
    rows = {str(t.name): t.source.rows for t in stored if ".k_proj." in str(t.name)}
    assert rows == {
        f"model.layers.0.self_attn.k_proj.weight.head_{i}": (8 * i, 8 * i + 8) for i in (0, 1)
    }


def test_parts_without_layers_stay_as_they_are() -> None:
    model = lower(tiny_source(tiny_config()), "ScaleQueries")
    ends = [DecoderPart(0, 0, embedding=True), DecoderPart(2, 2, head=True)]
    for part in split_decoder(model, [ends[0], DecoderPart(0, 2), ends[1]])[::2]:
        text = to_text(part)
        assert to_text(MhaToSha().apply(part)) == text

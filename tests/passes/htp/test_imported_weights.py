"""Weights quantised by a file's scales are those that AIMET itself computed by them.

`weights.npz` beside the captured files has the float weights of their model, and what AIMET's
operator made of them in a session of its own.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.htp_graphs import CONTEXT, feeds_of, lower, session
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderSource
from modelc.ir.packing.kinds import MATRIX_KINDS, IntegerForm
from modelc.ir.provenance import module_of
from modelc.ir.serial import load_graph, save_graph
from modelc.passes.base import run_passes
from modelc.passes.expand import ExpandComposites
from modelc.passes.htp.quantise import Quantise
from modelc.passes.pipelines import build_pipeline
from modelc.pipeline.imported_weights import scales_of_graph
from modelc.quant.aimet.kinds import imported_kinds
from modelc.quant.aimet.match import match_encodings
from modelc.quant.aimet.read import read_encodings

FILES = Path(__file__).parents[2] / "quant" / "aimet_files"
TABLE = "model.embed_tokens"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTP takes no blocks of 8, which the captured model has."""
    monkeypatch.setitem(MATRIX_KINDS, "w4_b8", IntegerForm(4, 8))
    monkeypatch.setitem(MATRIX_KINDS, "w4_lpbq8", IntegerForm(4, 8, scale_bits=4))


def captured_source(folder: Path, rows: str) -> DecoderSource:
    """The captured model; "as in GGUF": with the rows of queries and keys in llama.cpp's order."""
    sizes = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 32}
    config = tiny_config(**sizes, heads=2, kv_heads=1, layers=1)
    source = tiny_source(config, folder / "weights.bin")
    write_weights(source)
    floats = np.load(FILES / "weights.npz")
    weights = dict(source.weights)
    with (folder / "weights.bin").open("r+b") as stream:
        for name, matrix in source.weights.items():
            if f"float/{name}" not in floats:
                continue
            values = floats[f"float/{name}"].T
            if rows == "as in GGUF" and (found := re.search(r"\.([qk])_proj\.", name)):
                heads = {"q": 2, "k": 1}[found[1]]
                halves = values.reshape(heads, 2, -1, values.shape[1])
                values = halves.swapaxes(1, 2).reshape(values.shape)
                weights[name] = replace(matrix, unpermute_heads=heads)
            assert values.shape == matrix.shape
            stream.seek(matrix.offset)
            stream.write(np.ascontiguousarray(values).tobytes())
    return replace(source, weights=weights)


def dequantised(model: ir.Model, path: Path) -> dict[str, np.ndarray]:
    """What ONNX Runtime makes of every matrix, by module; those of heads beside each other."""
    products = [
        node
        for node in model.graph
        if node.op_type == "MatMul" and str(node.inputs[1].name).endswith(".dequantised")
        and ".weight" in str(node.inputs[1].name)
    ]  # fmt: skip
    model.graph.outputs.extend(node.inputs[1] for node in products)
    made = session(model, path)(feeds_of(model))
    found: dict[str, list[np.ndarray]] = {}
    for node in products:
        found.setdefault(module_of(node), []).append(made[str(node.inputs[1].name)])
    return {module: np.concatenate(parts, axis=1) for module, parts in found.items()}


@pytest.mark.parametrize("rows", ["in place", "as in GGUF"])
@pytest.mark.parametrize("attention", ["grouped", "sha"])
@pytest.mark.parametrize("kind", ["channels", "blocks", "lpbq"])
def test_weights_are_those_that_aimet_computed(
    kind: str, attention: str, rows: str, tmp_path: Path
) -> None:
    source, path = captured_source(tmp_path, rows), FILES / f"{kind}_1.0.0.json"
    expanded = ExpandComposites().apply(build_decoder(source, CONTEXT))
    matched = match_encodings(read_encodings(path), expanded, path)
    kinds = imported_kinds(matched.weights).kinds
    scales = scales_of_graph(expanded.graph, matched.weights, kinds)
    graph = lower(source, "ScaleQueries")
    if attention == "sha":
        graph, _ = run_passes(graph, build_pipeline("htp-sha", {}), graph="sha")
    save_graph(graph, tmp_path / "float.onnx", tmp_path)
    graph = load_graph(tmp_path / "float.onnx", tmp_path)  # as between two steps
    graph = Quantise(matched.encodings, kinds, scales).apply(graph)
    found = dequantised(graph, tmp_path / "quantised.onnx")
    theirs = np.load(FILES / "weights.npz")
    assert set(found) == set(scales) and len(found) == 8
    for module, matrix in found.items():
        wanted = theirs[f"{kind}/{module}.weight"]
        if kind == "lpbq":  # a channel's scale times a factor, which AIMET rounds otherwise
            np.testing.assert_allclose(matrix, wanted, rtol=1e-5)
        else:
            np.testing.assert_array_equal(matrix, wanted)


def test_scales_are_the_files_to_the_bit(tmp_path: Path) -> None:
    source, path = captured_source(tmp_path, "in place"), FILES / "lpbq_1.0.0.json"
    said = read_encodings(path).parameters
    graph = ExpandComposites().apply(build_decoder(source, CONTEXT)).graph
    scales = scales_of_graph(graph, said, imported_kinds(said).kinds)
    for module, found in scales.items():
        file = said[f"{module}.weight"]
        np.testing.assert_array_equal(found.scales[:, 0], file.scales.astype(np.float32))
        np.testing.assert_array_equal(found.multiples.ravel(), file.block_scales)


def test_a_module_of_another_kind_searches_for_its_own(tmp_path: Path) -> None:
    """An override wins; all else stays as the file says."""
    source, path = captured_source(tmp_path, "in place"), FILES / "channels_1.0.0.json"
    expanded = ExpandComposites().apply(build_decoder(source, CONTEXT))
    matched = match_encodings(read_encodings(path), expanded, path)
    kinds = imported_kinds(matched.weights).kinds
    scales = scales_of_graph(expanded.graph, matched.weights, kinds)
    changed = {**kinds, "lm_head": "w8"}
    made = [
        dequantised(
            Quantise(matched.encodings, changed, given).apply(lower(source, "ScaleQueries")),
            tmp_path / f"{index}.onnx",
        )
        for index, given in enumerate([scales, {}])
    ]
    same = {module for module in made[0] if np.array_equal(made[0][module], made[1][module])}
    assert same == {"lm_head"}
    head = np.load(FILES / "weights.npz")["float/lm_head.weight"]
    assert np.abs(made[0]["lm_head"] - head).max() < np.abs(head).max() / 250


def test_the_table_is_as_the_file_says(tmp_path: Path) -> None:
    source, path = captured_source(tmp_path, "in place"), FILES / "channels_1.0.0.json"
    expanded = ExpandComposites().apply(build_decoder(source, CONTEXT))
    matched = match_encodings(read_encodings(path), expanded, path)
    known = matched.encodings[TABLE]
    assert imported_kinds(matched.weights).kinds[TABLE] == "w16"
    graph = lower(source, "ScaleQueries")
    given = {**matched.encodings, f"{TABLE}.weight": known}
    model = Quantise(given, {"": "w8", TABLE: "w16"}).apply(graph)
    scale = model.graph.initializers[f"{TABLE}.weight.quantisation.scale"].const_value.numpy()
    assert scale == np.float32(known.scale)

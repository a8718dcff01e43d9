"""An encodings file's weights in the plan, and through the steps as they lie on disk."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from modelc.decoder.builder import build_decoder
from modelc.errors import BadInput
from modelc.frontends import read_model
from modelc.ir.packing import given_scales
from modelc.ir.packing.given_scales import GivenScales
from modelc.ir.packing.kinds import MATRIX_KINDS
from modelc.passes.expand import ExpandComposites
from modelc.pipeline import steps
from modelc.pipeline.decoder_job import DecoderJob, decoder_job
from modelc.pipeline.imported_weights import SCALES
from modelc.pipeline.job import ENCODINGS_FILE, make_job
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.single_step import StepRequest, run_step
from modelc.pipeline.step import SOURCE, StepContext
from modelc.pipeline.steps_calibrate import IMPORTED, import_encodings
from modelc.quant.aimet.encodings import (
    AimetEncodings,
    TensorEncoding,
    from_activation,
    from_low_power_blocks,
    from_scales,
)
from modelc.quant.aimet.write import write_encodings
from modelc.quant.calibrate import activation_encodings, gather_ranges

UP, DOWN = "model.layers.0.mlp.up_proj", "model.layers.1.mlp.down_proj"
QUERIES, OUT = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.o_proj"
TABLE = "model.embed_tokens"
SIZES = {"target": "snapdragon-8-elite", "context_length": 32, "ar": (4, 1), "splits": 1}
GRAPH = "prompt_ar4_cl32_1_of_1"


def scales_of(values: np.ndarray, block: int, last: int) -> np.ndarray:
    """Scales that nothing of ours would choose: some numbers are beyond the last code."""
    blocks = values.reshape(len(values), -1, block or values.shape[1])
    steps: np.ndarray = (np.abs(blocks).max(-1) / (1.4 * last)).astype(np.float32)
    return steps


@pytest.fixture(scope="module")
def said(llama_folder: Path) -> dict[str, TensorEncoding]:
    """A kind of every sort, and two that are nothing of ours."""
    weights = read_model(llama_folder).weights
    values = {name.removesuffix(".weight"): matrix.decode() for name, matrix in weights.items()}
    low = scales_of(values[DOWN], 32, 7)
    steps = low.max(1, keepdims=True) / 16
    factors = np.clip(np.rint(low / steps), 1, 16).astype(int)
    found = {
        QUERIES: from_scales(scales_of(values[QUERIES], 0, 7)[:, 0], 4),
        OUT: from_scales(scales_of(values[OUT], 64, 7), 4, 64),
        UP: from_scales(scales_of(values[UP], 0, 127)[:, 0], 8),
        DOWN: from_low_power_blocks(steps[:, 0], factors, 4, 32),
        TABLE: TensorEncoding("tensor", 16, False, np.array([2.0**-14]), np.array([-30000])),
        "model.layers.1.mlp.up_proj": from_scales(scales_of(values[UP], 16, 7), 4, 16),
        "lm_head": TensorEncoding("tensor", 8, True, np.array([0.01]), np.array([-128])),
    }
    return {f"{module}.weight": encoding for module, encoding in found.items()}


KINDS = {OUT: "w4_b64", QUERIES: "w4", UP: "w8", DOWN: "w4_lpbq", TABLE: "w16"}


@pytest.fixture(scope="module")
def file(
    llama_folder: Path, said: Mapping[str, TensorEncoding], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    expanded = ExpandComposites().apply(build_decoder(read_model(llama_folder), 32))
    ranges = gather_ranges(expanded, [list(range(20, 44))])
    known = activation_encodings(ranges)
    activations = {name: from_activation(encoding) for name, encoding in known.items()}
    path = tmp_path_factory.mktemp("aimet") / "model.encodings"
    write_encodings(path, AimetEncodings(activations, said))
    return path


def job_of(source: Path, file: Path | None, **changes: Any) -> DecoderJob:
    options = {**SIZES, "quant": "w4a16_b32", "encodings": file, **changes}
    return decoder_job(make_job(source, Recipe.model_validate(options)))


def test_kinds_follow_the_file_and_overrides_win(llama_folder: Path, file: Path) -> None:
    plain = job_of(llama_folder, None).kinds
    found = job_of(llama_folder, file).kinds
    assert {m: kind for m, kind in found.items() if kind != plain[m]} == {
        m: kind for m, kind in KINDS.items() if m != TABLE
    }
    assert found["model.layers.1.mlp.up_proj"] == "w4_b32" and found["lm_head"] == "w8"
    overridden = job_of(llama_folder, file, overrides={"layers.0.mlp.*": "w4_b64"}).kinds
    assert (overridden[UP], overridden[OUT]) == ("w4_b64", "w4_b64")
    assert overridden[QUERIES] == "w4"


def test_a_file_of_another_model_is_refused_before_anything_runs(
    llama_folder: Path, said: Mapping[str, TensorEncoding], tmp_path: Path
) -> None:
    path = tmp_path / "other.encodings"
    wrong = {**said, f"{UP}.weight": from_scales(np.full(96, 0.1), 4)}
    write_encodings(path, AimetEncodings({}, wrong))
    with pytest.raises(BadInput, match=r"up_proj.weight has 96 scales, which a weight of \[128"):
        job_of(llama_folder, path)
    wrong = {**said, f"{UP}.weight": from_scales(np.full((128, 2), 0.1), 4, 24)}
    write_encodings(path, AimetEncodings({}, wrong))
    with pytest.raises(BadInput, match="has 256 scales for blocks of 24"):
        job_of(llama_folder, path)
    path.write_text("{}")
    with pytest.raises(BadInput, match="no encodings in it") as caught:
        job_of(llama_folder, path)
    assert caught.value.where.path == str(path)


def test_a_chip_that_does_not_take_the_files_kinds(llama_folder: Path, file: Path) -> None:
    with pytest.raises(BadInput, match="does not take weights of kind w4_b64") as caught:
        job_of(llama_folder, file, target="snapdragon-888", quant="w4a16")
    assert "overrides" in caught.value.hint


@pytest.fixture(scope="module")
def imported(
    llama_folder: Path, file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """The result of the step that imports, and what it said."""
    folder, lines = tmp_path_factory.mktemp("steps"), []
    context = StepContext(
        inputs={"canonical": folder / "canonical"},
        options={"context_length": 32, "kv": "uint8", "embedding": "w16"},
        sources={SOURCE: llama_folder, ENCODINGS_FILE: file},
        out=folder / "canonical",
        scratch=folder,
        partial=folder,
        log=lines.append,
    )
    (folder / "canonical").mkdir()
    steps.build_canonical(context)
    (folder / "encodings").mkdir()
    import_encodings(replace(context, out=folder / "encodings"))
    return folder / "encodings", lines


def test_what_is_told(imported: tuple[Path, list[str]]) -> None:
    folder, lines = imported
    document = json.loads((folder / IMPORTED).read_text())
    assert document["weights"] == KINDS
    assert document["other_weights"] == {
        "lm_head.weight": "8 bits per tensor",
        "model.layers.1.mlp.up_proj.weight": "4 bits in blocks of 16",
    }
    (line,) = [line for line in lines if "lm_head" in line]
    assert "stays as it is without model.encodings, which has 8 bits per tensor" in line
    table = json.loads((folder / "encodings.json").read_text())[f"{TABLE}.weight"]
    assert table == {"scale": 2.0**-14, "zero_point": 30000, "dtype": "uint16"}


def run(
    name: str, source: Path, files: list[Path], folder: Path, known: Path, **more: Any
) -> list[Path]:
    """`modelc step` with the encodings of a folder; `more` is of the recipe."""
    recipe = Recipe.model_validate({**SIZES, "quant": "w4a16_b32", **more})
    request = StepRequest(name, source, recipe, tuple(files), known / "encodings.json", folder)
    return [path for path in run_step(request) if path.suffix == ".onnx"]


def numbers(model: ir.Model, weight: str, part: str) -> np.ndarray:
    """Codes or scales of a weight, those of heads beside each other."""
    tensors = {
        int(found[1] or 0): value.const_value
        for name, value in model.graph.initializers.items()
        if (found := re.fullmatch(rf"{re.escape(weight)}(?:\.head_(\d+))?\.{part}", name))
    }
    return np.concatenate([tensors[head].numpy() for head in sorted(tensors)], axis=-1)


@pytest.mark.parametrize("attention", ["grouped", "sha"])
def test_the_graphs_have_the_files_scales(
    attention: str,
    llama_folder: Path,
    file: Path,
    said: Mapping[str, TensorEncoding],
    imported: tuple[Path, list[str]],
    tmp_path: Path,
) -> None:
    graphs: list[Path] = []
    for name in ("prepare_exports", "split_model", "mha_to_sha")[: 2 + (attention == "sha")]:
        graphs = run(name, llama_folder, graphs, tmp_path / name, imported[0])
    graphs = [path for path in graphs if path.stem == GRAPH]
    known = {"encodings": file, "overrides": {UP: "w4_b32"}, "attention": attention}
    (path,) = run("quantize", llama_folder, graphs, tmp_path / "made", imported[0], **known)
    model, weights = ir.load(path), read_model(llama_folder).weights
    table = model.graph.initializers[f"{TABLE}.weight.quantisation.scale"].const_value
    assert float(table.numpy()) == said[f"{TABLE}.weight"].scales[0]
    for module in (QUERIES, OUT, DOWN):
        name, form = f"{module}.weight", MATRIX_KINDS[KINDS[module]]
        encoding, values = said[name], weights[name].decode()
        scales = encoding.by_channel(len(values))
        found = encoding.scales.astype(np.float32) if form.scale_bits else scales.T
        np.testing.assert_array_equal(numbers(model, name, "scale"), found)
        if form.scale_bits:
            factors = numbers(model, name, "scale.codes").T
            np.testing.assert_array_equal(factors.ravel(), encoding.block_scales)
        blocks = scales.reshape(len(values), -1)
        ratios = values / np.repeat(blocks, values.shape[1] // blocks.shape[1], axis=1)
        codes = numbers(model, name, "codes").astype(int).T
        np.testing.assert_array_equal(codes, np.clip(np.rint(ratios), -8, 7))
        assert codes.min() == -8 and codes.max() == 7
    overridden = numbers(model, f"{UP}.weight", "scale")
    assert overridden.shape == (64 // 32, 128), "the file's are of another kind"


def test_scales_elsewhere_are_not_found(
    llama_folder: Path, imported: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """They lie beside the encodings, as in a bundle; those of another model are refused."""
    graphs: list[Path] = []
    for name in ("prepare_exports", "split_model"):
        graphs = run(name, llama_folder, graphs, tmp_path / name, imported[0])
    graphs = [path for path in graphs if path.stem == GRAPH]
    (tmp_path / "encodings.json").write_bytes((imported[0] / "encodings.json").read_bytes())
    options = {"overrides": {QUERIES: "w4"}, "attention": "grouped"}
    made = [
        run("quantize", llama_folder, graphs, tmp_path / str(index), folder, **options)[0]
        for index, folder in enumerate([imported[0], tmp_path])
    ]
    given, searched = (numbers(ir.load(path), f"{QUERIES}.weight", "scale") for path in made)
    assert given.shape == searched.shape and not np.array_equal(given, searched)

    other = GivenScales("w4", 0, np.ones((8, 1), np.float32))
    given_scales.save({QUERIES: other}, tmp_path / SCALES)
    with pytest.raises(BadInput, match="not of 64 rows of 64") as caught:
        run("quantize", llama_folder, graphs, tmp_path / "other", tmp_path, **options)
    assert "for this model" in caught.value.hint

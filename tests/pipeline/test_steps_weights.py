"""The step that quantises weights: its graph, its files, and how it goes on after a kill."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.random_models import make

from modelc.errors import BadInput
from modelc.ir.coded import CodedMatrix
from modelc.ir.serial import load_graph
from modelc.ir.stored import StoredMatrix
from modelc.ir.weights import StoredWeight
from modelc.pipeline import finished_parts
from modelc.pipeline.job import CALIBRATION_TEXT
from modelc.pipeline.step import SOURCE, StepContext
from modelc.pipeline.steps import GRAPH, build_canonical, import_source
from modelc.pipeline.steps_weights import ERRORS, quantise_weights
from modelc.reference.stream import StreamedReference

TEXT = "In the beginning God created the heaven and the earth. " * 40
TOKENS = [5, 17, 200, 31, 8, 99, 300, 12]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("source"))


@pytest.fixture
def made(source: Path, tmp_path: Path) -> dict[str, Path]:
    """The results of the steps before."""
    folders = {name: tmp_path / name for name in ("import", "canonical")}
    for name, function in (("import", import_source), ("canonical", build_canonical)):
        options = {"context_length": 64} if name == "canonical" else {}
        function(context(source, tmp_path, name, {}, options))
    return {name: folder / "out" for name, folder in folders.items()}


def context(
    source: Path, root: Path, name: str, inputs: Mapping[str, Path], options: Mapping[str, Any]
) -> StepContext:
    text = root / "calibration.txt"
    text.write_text(TEXT)
    folders = {part: root / name / part for part in ("out", "scratch", "partial")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    return StepContext(inputs, options, {SOURCE: source, CALIBRATION_TEXT: text}, **folders)


def options(*algorithms: str, kind: str = "w4") -> dict[str, Any]:
    return {
        "algorithms": list(algorithms),
        "algorithm_options": {},
        "kinds": {"": kind, "lm_head": "w8", "model.embed_tokens": "w16"},
        "samples": 3,
        "sequence_length": 32,
    }


def weights_of(out: Path, source: Path) -> dict[str, StoredMatrix]:
    graph = load_graph(out / GRAPH, source, out).graph
    return {
        name: value.const_value.source
        for name, value in graph.initializers.items()
        if isinstance(value.const_value, StoredWeight)
    }


def test_matrices_become_codes_and_the_rest_stays(
    source: Path, made: Mapping[str, Path], tmp_path: Path
) -> None:
    run = context(source, tmp_path, "weights", made, options("gptq"))
    quantise_weights(run)
    weights = weights_of(run.out, source)
    coded = {name for name, matrix in weights.items() if isinstance(matrix, CodedMatrix)}
    assert len(coded) == 2 * 7
    assert all(".layers." in name for name in coded)
    assert weights["model.embed_tokens.weight"].path.parent == source
    errors = json.loads((run.out / ERRORS).read_text())
    assert errors.keys() == {name.removesuffix(".weight") for name in coded}
    assert all(8 < row["sqnr_db"] < 30 for row in errors.values())


def test_the_graph_still_is_the_model(
    source: Path, made: Mapping[str, Path], tmp_path: Path
) -> None:
    """Eight bits, so that what is left of the logits says that every weight is in its place."""
    run = context(source, tmp_path, "weights", made, options("rotate", "nearest", kind="w8"))
    quantise_weights(run)
    expected = load_graph(made["canonical"] / GRAPH, source)
    found = load_graph(run.out / GRAPH, source, run.out)
    reference, logits = (StreamedReference(each).logits(TOKENS) for each in (expected, found))
    noise = np.square(reference - logits).mean() / np.square(reference).mean()
    assert 10 * np.log10(1 / noise) > 30


@pytest.mark.parametrize("stop", [0, 2])
def test_goes_on_after_a_kill_and_ends_the_same(
    source: Path,
    made: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
) -> None:
    whole = context(source, tmp_path, "whole", made, options("gptq"))
    quantise_weights(whole)
    keep, kept = finished_parts.keep_part, []

    def killed(*given: Any) -> None:
        if len(kept) == stop:
            raise KeyboardInterrupt
        kept.append(given)
        keep(*given)

    torn = context(source, tmp_path, "torn", made, options("gptq"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finished_parts, "keep_part", killed)
        quantise_weights(torn)
    done: list[str] = []
    monkeypatch.setattr(
        finished_parts, "keep_part", lambda *given: (done.append(given[1].name), keep(*given))
    )
    quantise_weights(torn)
    assert len(done) == 4 - stop
    names = sorted(path.name for path in whole.out.iterdir())
    assert names == sorted(path.name for path in torn.out.iterdir())
    for name in names:
        assert (whole.out / name).read_bytes() == (torn.out / name).read_bytes()


def test_an_algorithm_that_does_not_fit_the_architecture_is_refused(tmp_path: Path) -> None:
    source = make("gemma2", tmp_path / "gemma2")
    made = {}
    for name, function in (("import", import_source), ("canonical", build_canonical)):
        length = {"context_length": 64} if name == "canonical" else {}
        run = context(source, tmp_path, name, {}, length)
        function(run)
        made[name] = run.out
    with pytest.raises(BadInput, match="gemma2"):
        quantise_weights(context(source, tmp_path, "weights", made, options("rotate")))

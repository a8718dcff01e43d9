"""Calibration as steps: of every kind of source, with every observer, and what enters the key."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelc.bundle.write import FromFile
from modelc.errors import BadInput
from modelc.files import FileDigest
from modelc.ir import encodings
from modelc.ir.encodings import Encoding
from modelc.pipeline import steps
from modelc.pipeline.job import CALIBRATION_DATA, CALIBRATION_TEXT, make_job
from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.plans import with_texts
from modelc.pipeline.report_snapdragon import calibration_section
from modelc.pipeline.sources import Sources
from modelc.pipeline.step import SOURCE, StepContext
from modelc.pipeline.steps_calibrate import TABLE, calibrate, calibration_sequences, encode
from modelc.pipeline.steps_samples import SAMPLES, run_samples
from modelc.pipeline.store import Store

IDS = np.random.default_rng(0).integers(0, 200, (6, 24))
OPTIONS = {"samples": 4, "sequence_length": 16}
ENCODE = {"kv": "uint8", "embedding": "w8", "observer": "min-max", "percentile": None}


@pytest.fixture(scope="module")
def context(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> StepContext:
    """Of a step that calibrates; source and canonical graph are there."""
    folder = tmp_path_factory.mktemp("steps")
    names = ("import", "canonical", "calibrate", "out", "scratch", "partial")
    folders = {name: folder / name for name in names}
    for path in folders.values():
        path.mkdir()
    text = folder / "text.txt"
    text.write_text("A text to calibrate on, with some words in it. " * 20)
    context = StepContext(
        inputs={name: folders[name] for name in names[:3]},
        options={"context_length": 32},
        sources={SOURCE: llama_folder, CALIBRATION_TEXT: text},
        out=folders["canonical"],
        scratch=folders["scratch"],
        partial=folders["partial"],
    )
    steps.build_canonical(context)
    steps.import_source(replace(context, out=folders["import"]))
    calibrated = replace(context, out=folders["calibrate"], options=OPTIONS)
    calibrate(calibrated)
    return replace(calibrated, out=folders["out"])


@pytest.fixture
def raw_list(tmp_path: Path) -> Path:
    for index, row in enumerate(IDS):
        row.astype(np.int32).tofile(tmp_path / f"{index}.raw")
    path = tmp_path / "list.txt"
    path.write_text("".join(f"input_ids:={index}.raw\n" for index in range(len(IDS))))
    return path


@pytest.fixture
def made(raw_list: Path) -> dict[str, Path]:
    """The same rows in every kind of file."""
    rows = [json.dumps({"input_ids": row.tolist()}) for row in IDS]
    (raw_list.parent / "rows.jsonl").write_text("\n".join(rows))
    np.savez(raw_list.parent / "rows.npz", input_ids=IDS)
    return {
        "raw": raw_list,
        "jsonl": raw_list.parent / "rows.jsonl",
        "npz": raw_list.parent / "rows.npz",
    }


def encoded(context: StepContext, out: Path, **options: Any) -> tuple[dict[str, Encoding], str]:
    out.mkdir()
    encode(replace(context, out=out, options={**ENCODE, **options}))
    return encodings.load(out / "encodings.json"), (out / TABLE).read_text(encoding="utf-8")


def with_data(context: StepContext, path: Path) -> StepContext:
    return replace(
        context, sources={SOURCE: context.sources[SOURCE], CALIBRATION_DATA: path}, options=OPTIONS
    )


@pytest.mark.parametrize("kind", ["raw", "jsonl", "npz"])
def test_the_same_rows_in_any_file(
    context: StepContext, made: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    given = with_data(context, made[kind])
    assert calibration_sequences(given) == IDS[[0, 1, 3, 5], :16].tolist()
    (tmp_path / "samples").mkdir()
    run_samples(replace(given, out=tmp_path / "samples", options={"tokens": 7}))
    samples = np.load(tmp_path / "samples" / SAMPLES)
    np.testing.assert_array_equal(samples["token_ids"], IDS[0, :7])


def test_ids_of_another_model(context: StepContext, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", input_ids=np.array([[1, 10**6]]))
    with pytest.raises(BadInput, match="1000000 is no token of the vocabulary"):
        calibration_sequences(with_data(context, tmp_path / "a.npz"))


def test_a_text_of_nothing(context: StepContext, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n")
    sources = {**context.sources, CALIBRATION_TEXT: tmp_path / "a.txt"}
    with pytest.raises(BadInput, match="empty"):
        calibration_sequences(replace(context, sources=sources))


def test_the_table_has_a_row_for_every_encoded_activation(
    context: StepContext, tmp_path: Path
) -> None:
    chosen, table = encoded(context, tmp_path / "out")
    rows = {row["tensor"]: row for row in csv.DictReader(table.splitlines())}
    assert rows.keys() == chosen.keys() - {"model.embed_tokens.weight"}
    for name, row in rows.items():
        assert row["type"] == chosen[name].dtype
        assert float(row["high"]) == pytest.approx(chosen[name].maximum, rel=1e-5)


def test_observers_differ_and_the_cache_is_theirs_too(context: StepContext, tmp_path: Path) -> None:
    everything, _ = encoded(context, tmp_path / "min-max")
    name = "model.layers.0.mlp.up_proj"
    limits = {}
    for observer in ("percentile", "mse", "entropy", "moving-average"):
        chosen, _ = encoded(context, tmp_path / observer, observer=observer)
        assert chosen.keys() == everything.keys()
        assert chosen["rope.cos.new"] == everything["rope.cos.new"]
        limits[observer] = chosen["present.0.key"].scale
    narrow, _ = encoded(context, tmp_path / "90", observer="percentile", percentile=90.0)
    assert max(limits.values()) <= everything["present.0.key"].scale
    assert narrow["present.0.key"].scale < limits["percentile"]
    # An end that clips has no headroom; it would be 1.25 of what was seen.
    assert narrow[name].maximum < 0.8 * everything[name].maximum


def test_the_report_says_what_clips_most(context: StepContext, tmp_path: Path) -> None:
    _, text = encoded(context, tmp_path / "out", observer="percentile", percentile=80.0)
    file = FromFile(tmp_path / "out" / TABLE, FileDigest(0, ""))
    said = "\n".join(calibration_section(file, {"observer": "percentile"}))
    rows = list(csv.DictReader(text.splitlines()))
    most = max(rows, key=lambda row: float(row["clipped"]))
    assert f"Ranges of {len(rows)} tensors by the observer percentile" in said
    assert said.index(most["tensor"]) < said.index("%")
    assert calibration_section(None, {}) == []


def job_with(llama_folder: Path, **options: Any) -> Any:
    options = {"target": "snapdragon-8-elite", **options}
    return make_job(llama_folder, make_recipe(None, options))


def test_data_are_read_in_place_of_a_text(llama_folder: Path, made: dict[str, Path]) -> None:
    job = job_with(llama_folder, calibration_data=made["raw"])
    assert job.sources[CALIBRATION_DATA] == made["raw"]
    assert CALIBRATION_TEXT not in job.sources
    assert CALIBRATION_TEXT in job_with(llama_folder).sources


def test_the_files_of_a_list_enter_the_key(store: Store, raw_list: Path) -> None:
    sources = Sources(store, {CALIBRATION_DATA: raw_list})
    before, stats = sources.digests(CALIBRATION_DATA), sources.stats(CALIBRATION_DATA)
    assert len(before) == len(stats) == 1 + len(IDS)
    (raw_list.parent / "3.raw").write_bytes(bytes(96))
    assert sources.stats(CALIBRATION_DATA) != stats
    after = sources.digests(CALIBRATION_DATA)
    assert {name for name in before if before[name] != after[name]} == {"line 4"}


def test_a_list_with_a_missing_file_is_refused_before_anything_runs(
    store: Store, raw_list: Path
) -> None:
    (raw_list.parent / "3.raw").unlink()
    with pytest.raises(BadInput, match=r"line 4: .*3\.raw can't be read"):
        Sources(store, {CALIBRATION_DATA: raw_list}).digests(CALIBRATION_DATA)


@pytest.mark.parametrize("kind", ["raw", "jsonl", "npz"])
def test_a_bundles_recipe_needs_no_other_file(
    kind: str,
    store: Store,
    llama_folder: Path,
    made: dict[str, Path],
    tmp_path: Path,
    context: StepContext,
) -> None:
    job = job_with(llama_folder, calibration_data=made[kind])
    recipe, files = with_texts(job.recipe, Sources(store, job.sources), 1 << 20)
    assert recipe.calibration.data is not None
    (name,) = files
    assert str(recipe.calibration.data) == name
    content = files[name]
    copy = tmp_path / "copy" / name
    copy.parent.mkdir()
    copy.write_bytes(content.path.read_bytes() if isinstance(content, FromFile) else content)
    wanted: Callable[[Path], Any] = lambda path: calibration_sequences(with_data(context, path))  # noqa: E731
    assert wanted(copy) == wanted(made[kind])


def test_a_scheme_of_floats_has_no_use_for_an_observer(llama_folder: Path) -> None:
    with pytest.raises(BadInput, match="no use for the option calibration"):
        job_with(llama_folder, quant="fp16", calibration_observer="mse")


def test_channels_of_zeros_are_warned_of(
    context: StepContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(
        "modelc.quant.zero_channels.ZeroChannels.lines", lambda self: iter(["x: zero"])
    )
    text = context.sources[CALIBRATION_TEXT]
    steps.run_reference(
        replace(
            context,
            sources={**context.sources, "verify_text": text},
            options={"tokens": 4},
            out=tmp_path,
            log=lines.append,
        )
    )
    assert lines == ["x: zero"]

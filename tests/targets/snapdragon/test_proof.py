"""A compiled part is tried on the float model's own tensors, and a wrong one is found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.htp_decoder import CHIPSET, lower_parts

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderSource, save_config
from modelc.decoder.parts import DecoderPart
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import CONFIG
from modelc.pipeline.steps_binaries import PROOF, generate_context_binary
from modelc.pipeline.steps_samples import SAMPLES
from modelc.quant.schemes import SCHEMES
from modelc.reference.stream import StreamedReference
from modelc.targets.runtime import Finding
from modelc.targets.snapdragon.binary import Tensor
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import CompileOptions, compile_graphs
from modelc.targets.snapdragon.proof import Trial, compare, simulator_seconds, trials
from modelc.targets.snapdragon.rotary import rotary_of
from modelc.targets.snapdragon.shipped import proof_findings

PARTS = (DecoderPart(0, 0, embedding=True), DecoderPart(0, 2), DecoderPart(2, 2, head=True))
CONTEXT = 32
TOKENS = np.random.default_rng(9).integers(3, 300, 20).tolist()


@pytest.fixture(scope="module")
def samples(source: DecoderSource) -> dict[str, np.ndarray]:
    """The float model's tensors by canonical name."""
    graph, _ = run_passes(
        build_decoder(source, CONTEXT), build_pipeline("expanded", {}), graph="decoder"
    )
    kept: dict[str, np.ndarray] = {"token_ids": np.array(TOKENS, np.int32)}

    def keep(name: str, values: np.ndarray) -> None:
        kept[name] = values.copy()

    StreamedReference(graph).observe([TOKENS], keep)
    return kept


@pytest.fixture(scope="module")
def files(
    source: DecoderSource, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, Path]]:
    def lower(scheme: str) -> dict[str, Path]:
        folder = tmp_path_factory.mktemp("graphs") / scheme
        made = lower_parts(source, PARTS, (CONTEXT,), SCHEMES[scheme], folder)
        return {file.stem: file for file in made}

    return lower


def tried(
    files: dict[str, Path], samples: dict[str, np.ndarray], source: DecoderSource
) -> dict[str, Trial]:
    return trials(files, samples, rotary_of(source.config, CONTEXT), 60.0)


def test_a_float_part_gives_the_float_model_s_tensors(
    files: Callable[[str], dict[str, Path]],
    samples: dict[str, np.ndarray],
    source: DecoderSource,
) -> None:
    """So the feeds are right: hidden states, caches, masks and angles of every graph."""
    found = tried(files("fp16"), samples, source)
    assert {trial.new for trial in found.values()} == {8, 1}
    for name, trial in found.items():
        for output, row in compare(trial, trial.on_cpu)["outputs"].items():
            assert row["cpu_db"] is None
            assert row["float_db"] is None or row["float_db"] > 90, (name, output)


def test_graphs_that_take_too_long_are_left_out(
    files: Callable[[str], dict[str, Path]],
    samples: dict[str, np.ndarray],
    source: DecoderSource,
) -> None:
    found = tried(files("fp16"), samples, source)
    seconds = {
        name: simulator_seconds(trial.macs, 8 if "ar8" in name else 1)
        for name, trial in found.items()
    }
    limit = sorted(seconds.values())[3]
    fewer = trials(files("fp16"), samples, rotary_of(source.config, CONTEXT), limit)
    assert set(fewer) == {name for name, count in seconds.items() if count <= limit}
    assert len(fewer) < len(found)


LOGITS = Tensor("logits", (1, 2, 4), "float32")
VALUE = Tensor("past_value_0_out", (1, 1, 2, 4), "float32")
RIGHT = np.array([[[1, -2, 3, 4], [5, 6, -7, 8]]], np.float32)
ZEROS = np.zeros_like(RIGHT)


def finding_of(
    found: np.ndarray, on_cpu: np.ndarray, as_float: np.ndarray, tensor: Tensor = LOGITS
) -> Finding:
    name = tensor.name
    trial = Trial(3, 2, 1, {}, (tensor,), {name: on_cpu}, {name: as_float})
    proofs = json.loads(json.dumps({"graph": compare(trial, {name: found})}, allow_nan=False))
    (finding,) = proof_findings(proofs)
    return finding


def test_what_is_equal_or_near() -> None:
    assert finding_of(RIGHT, RIGHT, RIGHT).passed
    assert "logits equal against CPU, equal against float" in finding_of(RIGHT, RIGHT, RIGHT).detail
    assert finding_of(1.001 * RIGHT, RIGHT, 1.5 * RIGHT).passed
    assert finding_of(ZEROS, ZEROS, ZEROS).passed


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_no_number(broken: float, whole: bool) -> None:
    """As where half precision overflows."""
    found = RIGHT.copy()
    found[..., slice(None) if whole else slice(1, 2)] = broken
    assert not finding_of(found, RIGHT, RIGHT).passed
    assert not finding_of(RIGHT, found, RIGHT).passed
    assert not finding_of(RIGHT, RIGHT, found).passed


def test_something_out_of_nothing() -> None:
    assert not finding_of(RIGHT, ZEROS, RIGHT).passed
    assert not finding_of(ZEROS, RIGHT, RIGHT).passed


def test_wrong_everywhere_alike() -> None:
    """CPU and simulator agree on a graph that computes something else than the model. New values
    may be far from it."""
    flipped = np.flip(RIGHT, -1)
    wrong = finding_of(flipped, flipped, RIGHT)
    assert not wrong.passed and "against float, worse than nothing" in wrong.detail
    assert finding_of(flipped[None], flipped[None], RIGHT[None], VALUE).passed


@pytest.mark.simulator
def test_a_part_is_tried_once_where_each_graph_is_compiled_alone(
    files: Callable[[str], dict[str, Path]],
    samples: dict[str, np.ndarray],
    source: DecoderSource,
    tmp_path: Path,
) -> None:
    """The quickest graph in any case is one of the part, not every one of them."""
    pytest.importorskip("onnxruntime_qnn", reason="HTP's compiler is not here")
    chosen = {name: file for name, file in files("w8a16").items() if "_2_of_3" in name}
    folders = {name: tmp_path / name for name in ("import", "samples", "out", "scratch")}
    for folder in folders.values():
        folder.mkdir()
    save_config(source.config, folders["import"] / CONFIG)
    np.savez(folders["samples"] / SAMPLES, **samples)
    inputs = {name: folders[name] for name in ("import", "samples")}
    options = {"chipset": "sm8450", "fp16": False, "part": "2_of_3", "graphs": list(chosen)}
    generate_context_binary(
        StepContext(
            {**inputs, "quantize.2_of_3": next(iter(chosen.values())).parent},
            {**options, "context_length": CONTEXT, "most_seconds": 0},
            {},
            folders["out"],
            folders["scratch"],
            folders["scratch"],
        )
    )
    assert len(chosen) == len(list(folders["out"].glob("*.bin"))) == 2
    assert len(json.loads((folders["out"] / PROOF).read_text())) == 1


@pytest.mark.simulator
def test_the_compiler_runs_what_it_ships(
    files: Callable[[str], dict[str, Path]],
    samples: dict[str, np.ndarray],
    source: DecoderSource,
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxruntime_qnn", reason="HTP's compiler is not here")
    chosen = {name: file for name, file in files("w8a16").items() if "_2_of_3" in name}
    found = tried(chosen, samples, source)
    made = compile_graphs(
        chosen,
        find_chipset(CHIPSET),
        CompileOptions(),
        tmp_path / "decoder.bin",
        workdir=tmp_path / "work",
        timeout_s=120,
        feeds={name: trial.feed for name, trial in found.items()},
    )
    assert len(made.info.graphs) == 2  # one binary, which could not be loaded here
    proofs = {name: compare(trial, made.results[name]) for name, trial in found.items()}
    assert all(finding.passed for finding in proof_findings(proofs)), proofs

    name, trial = next(iter(found.items()))
    swapped = {output: np.flip(codes, -1) for output, codes in made.results[name].items()}
    (finding,) = proof_findings({name: compare(trial, swapped)})
    assert not finding.passed and name in finding.detail

"""A Snapdragon bundle from end to end: compiled, read back, run in the simulator through Genie."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import Ran, modelc

pytestmark = [
    pytest.mark.simulator,
    pytest.mark.skipif(
        importlib.util.find_spec("onnxruntime_qnn") is None, reason="needs onnxruntime-qnn"
    ),
]

# Random weights say nothing about quality; and the simulator is slow.
RECIPE = """
target = "snapdragon-8-elite"
context_length = 64
ar = [16, 1]
keep_twins = true
[calibration]
samples = 2
sequence_length = 32
[verify]
tokens = 24
min_sqnr_db = 5
min_top1 = 0.3
max_perplexity_ratio = 2
"""
Call = Callable[..., Ran]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def made(
    llama_folder: Path, recipe: Path, shared_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Ran]:
    bundle = tmp_path_factory.mktemp("bundles") / "llama-elite"
    arguments = ("compile", llama_folder, "--recipe", recipe, "-o", bundle, "--json")
    ran = modelc(*arguments, store=shared_store)
    assert ran.code == 0, ran.stderr
    return bundle, ran


def test_compile(made: tuple[Path, Ran]) -> None:
    bundle, ran = made
    document = ran.json()
    assert [step["name"] for step in document["steps"]] == [
        "import", "canonical", "check", "reference", "calibrate", "encodings", "lower.ar16",
        "lower.ar1", "twin.ar16", "twin.ar1", "context_binary", "verify",
    ]  # fmt: skip
    verification = document["verify"]
    assert verification["runtime"] == "htp-simulator" and verification["passed"]
    checks = {check["name"]: check["detail"] for check in verification["checks"]}
    assert "SoC 69, v79, VTCM 8 MB, 2 graphs" in checks["chipset"]
    assert "genie_tokens" in checks
    genie = json.loads((bundle / "genie_config.json").read_text())
    assert genie["dialog"]["context"]["size"] == 64


def test_run(made: tuple[Path, Ran], shared_store: Path, tmp_path: Path) -> None:
    """With its twins in the bundle it runs where the store is empty."""
    arguments = ("run", made[0], "--prompt", "In", "--max-new-tokens", 3, "--json")
    document = modelc(*arguments, store=tmp_path).json()
    assert 0 < len(document["token_ids"]) <= 3 and document["prompt_tokens"] > 0


def test_verify(made: tuple[Path, Ran], call: Call) -> None:
    document = call("verify", made[0], "--json").json()
    assert document["metrics"] == made[1].json()["verify"]["metrics"]  # it computes in integers


def test_inspect(made: tuple[Path, Ran], call: Call) -> None:
    document = call("inspect", made[0] / "decoder_1_of_1.bin", "--json").json()
    assert document["kind"] == "context-binary"
    assert (document["facts"]["soc_model"], document["facts"]["htp_arch"]) == (69, "v79")
    assert {graph["vtcm_mb"] for graph in document["graphs"]} == {8}


def test_a_corrupted_binary(made: tuple[Path, Ran], call: Call, tmp_path: Path) -> None:
    data = bytearray((made[0] / "decoder_1_of_1.bin").read_bytes())
    data[: len(data) // 2] = bytes(reversed(data[: len(data) // 2]))
    path = tmp_path / "broken.bin"
    path.write_bytes(data)
    shown = call("inspect", path)
    assert shown.code == 2 and shown.stdout == ""
    assert "error: not a context binary" in shown.stderr and str(path) in shown.stderr


def test_another_context_keeps_what_it_can(
    made: tuple[Path, Ran], llama_folder: Path, recipe: Path, call: Call
) -> None:
    arguments = ("explain", llama_folder, "--recipe", recipe, "--ar", "8,1", "--json")
    reasons = {row["step"]: row["why"] for row in call(*arguments).json()}
    kept = {step for step, why in reasons.items() if why == "cached"}
    assert kept == {
        "import", "canonical", "reference", "calibrate", "encodings", "lower.ar1", "twin.ar1",
    }  # fmt: skip


def test_without_twins_it_runs_only_beside_its_store(
    made: tuple[Path, Ran], llama_folder: Path, recipe: Path, call: Call, tmp_path: Path
) -> None:
    bundle = tmp_path / "lean"
    lean = tmp_path / "lean.toml"
    lean.write_text(recipe.read_text().replace("keep_twins = true", ""))
    document = call("compile", llama_folder, "--recipe", lean, "-o", bundle, "--json").json()
    assert {step["status"] for step in document["steps"]} == {"cached"}
    assert not (bundle / "twins").exists()
    away = call("run", bundle, "--prompt", "In", store=tmp_path / "empty")
    assert away.code == 3 and "--keep-twins" in away.stderr
    shutil.rmtree(bundle)

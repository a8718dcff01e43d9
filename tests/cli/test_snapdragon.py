"""A Snapdragon bundle from end to end: compiled, read back, run in the simulator through Genie."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections import Counter
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
context_length = [64, 48]
ar = [16, 1]
splits = 3
keep_twins = true
format = ["genie", "dlc", "ort", "aimet"]
[calibration]
samples = 2
sequence_length = 32
[overrides]
"layers.0.mlp.down_proj" = "w4"
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
    stages = Counter(step["name"].partition(".")[0] for step in document["steps"])
    assert stages == {
        **dict.fromkeys(("import", "canonical", "reference", "samples", "calibrate"), 1),
        "encodings": 1,
        **dict.fromkeys(("prepare_exports", "split_model", "mha_to_sha"), 4),  # AR x CL
        **dict.fromkeys(("quantize", "convert", "generate_context_binary"), 3),  # parts
        "export_encodings": 3,
        "attention": 1,
        "twin": 12,
        **dict.fromkeys(("describe_binaries", "verify"), 1),
    }
    verification = document["verify"]
    assert verification["runtime"] == "htp-simulator" and verification["passed"]
    checks = {check["name"]: check["detail"] for check in verification["checks"]}
    assert "SoC 69, v79, VTCM 8 MB, 4 graphs" in checks["chipset"]
    assert "genie_tokens" in checks
    tried = [check for check in verification["checks"] if check["name"] == "part_in_simulator"]
    assert len(tried) == 13  # every graph, and one layer at the longest lengths
    genie = json.loads((bundle / "genie_config.json").read_text())
    assert genie["dialog"]["context"]["size"] == 64
    binaries = [f"decoder_{part}_of_3.bin" for part in (1, 2, 3)]
    assert genie["dialog"]["engine"]["model"]["binary"]["ctx-bins"] == binaries
    assert all((bundle / name).is_file() for name in binaries)


def test_formats(made: tuple[Path, Ran], call: Call) -> None:
    """A DLC and a wrapper for each graph; settings name the graphs as the binary has them."""
    bundle = made[0]
    names = {
        f"{kind}_cl{length}_{part}_of_3"
        for kind in ("prompt_ar16", "token_ar1")
        for length in (64, 48)
        for part in (1, 2, 3)
    }
    assert {path.stem for path in (bundle / "dlc").iterdir()} == names
    assert {path.stem for path in (bundle / "encodings").iterdir()} == names
    dlc = call("inspect", bundle / "dlc/token_ar1_cl64_2_of_3.dlc", "--json").json()
    assert {path.stem for path in bundle.glob("*.onnx")} == names
    pipeline = json.loads((bundle / "ort_pipeline.json").read_text())
    assert [len(row["models"]) for row in pipeline["calls"]] == [3, 3, 3, 3]
    settings = json.loads((bundle / "decoder_2_of_3.json").read_text())
    binary = call("inspect", bundle / "decoder_2_of_3.bin", "--json").json()
    graphs = [graph["name"] for graph in binary["graphs"]]
    assert dlc["graphs"][0]["name"] in graphs  # so a DLC's graph is the binary's
    assert settings["graphs"][0]["graph_names"] == graphs
    assert settings["memory"] == {"mem_type": "shared_buffer"}
    told = json.loads((bundle / "manifest.json").read_text())["settings"]["binaries"]
    assert set(told) == {f"decoder_{part}_of_3.bin" for part in (1, 2, 3)}
    found = told["decoder_2_of_3.bin"]
    assert (found["soc_model"], found["optimization"], found["io_memory"]) == (
        binary["facts"]["soc_model"], 3, "shared_buffer"
    )  # fmt: skip
    assert found["graphs"] == {
        row["name"]: {key: row[key] for key in ("vtcm_mb", "spill_fill_bytes")}
        for row in binary["graphs"]
    }
    assert settings["context"] == {"weight_sharing_enabled": True}


def test_report(made: tuple[Path, Ran]) -> None:
    text = (made[0] / "report.md").read_text()
    assert "Scheme w8a16 (`layers.0.mlp.down_proj` = w4)" in text
    assert "| 2_of_3 | layer 0 |" in text
    costs = json.loads((made[0] / "attention.json").read_text())["spill_fill_bytes"]
    assert f"| a branch for each head (used) | {costs['sha']:,} B |" in text
    assert f"| query heads grouped by key head | {costs['grouped']:,} B |" in text


def test_run(made: tuple[Path, Ran], shared_store: Path, tmp_path: Path) -> None:
    """With its twins in the bundle it runs where the store is empty."""
    arguments = ("run", made[0], "--prompt", "In", "--max-new-tokens", 3, "--json")
    document = modelc(*arguments, store=tmp_path).json()
    assert 0 < len(document["token_ids"]) <= 3 and document["prompt_tokens"] > 0


def test_verify(made: tuple[Path, Ran], call: Call) -> None:
    document = call("verify", made[0], "--json").json()
    assert document["metrics"] == made[1].json()["verify"]["metrics"]  # it computes in integers


def test_inspect(made: tuple[Path, Ran], call: Call) -> None:
    document = call("inspect", made[0] / "decoder_1_of_3.bin", "--json").json()
    assert document["kind"] == "context-binary"
    assert (document["facts"]["soc_model"], document["facts"]["htp_arch"]) == (69, "v79")
    assert {graph["vtcm_mb"] for graph in document["graphs"]} == {8}


def test_a_corrupted_binary(made: tuple[Path, Ran], call: Call, tmp_path: Path) -> None:
    data = bytearray((made[0] / "decoder_1_of_3.bin").read_bytes())
    data[: len(data) // 2] = bytes(reversed(data[: len(data) // 2]))
    path = tmp_path / "broken.bin"
    path.write_bytes(data)
    shown = call("inspect", path)
    assert shown.code == 2 and shown.stdout == ""
    assert "error: not a context binary" in shown.stderr and str(path) in shown.stderr


def cached(call: Call, folder: Path, recipe: Path, *options: object) -> set[str]:
    reasons = call("explain", folder, "--recipe", recipe, *options, "--json").json()
    return {row["step"] for row in reasons if row["why"] == "cached"}


ALWAYS = {"import", "canonical", "reference", "samples", "calibrate", "encodings"}


def test_another_ar_keeps_what_it_can(
    made: tuple[Path, Ran], llama_folder: Path, recipe: Path, call: Call
) -> None:
    kept = cached(call, llama_folder, recipe, "--ar", "8,1")
    stages = ("prepare_exports", "split_model", "mha_to_sha")
    assert kept - {step for step in kept if step.startswith("twin.")} == ALWAYS | {
        f"{stage}.ar1_cl{length}" for stage in stages for length in (64, 48)
    }


def test_another_context_length_keeps_what_it_can(
    made: tuple[Path, Ran], llama_folder: Path, recipe: Path, call: Call
) -> None:
    kept = cached(call, llama_folder, recipe, "--context-length", "64,56")
    assert kept >= ALWAYS | {"prepare_exports.ar16_cl64", "mha_to_sha.ar1_cl64"}
    assert "prepare_exports.ar16_cl56" not in kept and "quantize.1_of_3" not in kept


def test_an_override_touches_its_part_only(
    made: tuple[Path, Ran], llama_folder: Path, recipe: Path, call: Call
) -> None:
    first = ("--override", "layers.0.mlp.down_proj=w4")  # the recipe's, which options replace
    override = (*first, "--override", "layers.1.mlp.down_proj=w4")
    reasons = call("explain", llama_folder, "--recipe", recipe, *override, "--json").json()
    why = {row["step"]: row["why"] for row in reasons}
    kept = {step for step, reason in why.items() if reason in ("cached", "not needed")}
    touched = {step for step in why if "3_of_3" in step} | {"describe_binaries", "verify"}
    assert set(why) - kept == touched
    assert why["quantize.3_of_3"] == "options changed"


def test_without_twins_it_needs_a_device(
    made: tuple[Path, Ran], llama_folder: Path, recipe: Path, call: Call, tmp_path: Path
) -> None:
    """The simulator's binaries go once the result is verified, from the store as well."""
    bundle = tmp_path / "lean"
    lean = tmp_path / "lean.toml"
    lean.write_text(recipe.read_text().replace("keep_twins = true", ""))
    document = call("compile", llama_folder, "--recipe", lean, "-o", bundle, "--json").json()
    assert {step["status"] for step in document["steps"]} <= {"cached", "not needed"}
    assert not (bundle / "twins").exists()
    away = call("run", bundle, "--prompt", "In")
    assert away.code == 3 and "--keep-twins" in away.stderr
    shutil.rmtree(bundle)


def test_dry_run(llama_folder: Path, recipe: Path, call: Call) -> None:
    """The files of each named step, as the tools that people know count them."""
    arguments = ("compile", llama_folder, "--recipe", recipe, "--dry-run", "--json")
    stages = {row["stage"]: row for row in call(*arguments).json()["stages"]}
    made = {name: row["makes"] for name, row in stages.items()}
    assert made == {
        "prepare_exports": {"ONNX": 4, "encodings": 4},
        "split_model": {"ONNX": 12, "encodings": 12},
        "mha_to_sha": {"ONNX": 8, "encodings": 8},  # the embedding has no heads
        "quantize": {"quantised ONNX": 12, "weights": 3},
        "convert": {"DLC": 12},
        "generate_context_binary": {"binary": 3},
    }
    assert "quantize comes before convert" in call(*arguments[:-1]).stdout


def test_the_steps_one_by_one(
    made: tuple[Path, Ran], llama_folder: Path, call: Call, tmp_path: Path
) -> None:
    """Each named step takes the files of the one before, encodings beside graphs among them; the
    binary is the compile's."""
    options = ("-t", "snapdragon-8-elite", "--ar", "16,1", "--context-length", 64, "--splits", 3)
    encodings = ("--encodings", made[0] / "encodings.json")

    def step(name: str, *arguments: object) -> dict[str, Path]:
        out = tmp_path / name
        ran = call("step", name, llama_folder, *arguments, *options, "-o", out, "--json")
        assert ran.code == 0, ran.stderr
        return {Path(path).name: Path(path) for path in ran.json()["files"]}

    exports = step("prepare_exports", *encodings)
    assert set(exports) >= {"ar16_cl64.onnx", "ar1_cl64.onnx", "ar1_cl64.encodings"}
    graphs = [path for name, path in exports.items() if name.endswith(".onnx")]
    parts = step("split_model", *graphs)
    chosen = ["prompt_ar16_cl64_2_of_3.onnx", "token_ar1_cl64_2_of_3.onnx"]
    heads = step("mha_to_sha", *(parts[name] for name in chosen))
    lowered = step("quantize", *(heads[name] for name in chosen))
    dlcs = step("convert", *(lowered[name] for name in chosen))
    assert set(dlcs) == {name.replace(".onnx", ".dlc") for name in chosen}
    compiled = step("generate_context_binary", *(lowered[name] for name in chosen))
    graphs_of = {
        row["name"].partition("_2_of_3")[0]: row["spill_fill_bytes"]
        for row in call("inspect", compiled["decoder_2_of_3.bin"], "--json").json()["graphs"]
    }
    shipped = call("inspect", made[0] / "decoder_2_of_3.bin", "--json").json()["graphs"]
    assert graphs_of == {
        row["name"].partition("_2_of_3")[0]: row["spill_fill_bytes"]
        for row in shipped
        if "cl64" in row["name"]
    }


@pytest.mark.parametrize(("arguments", "words"), [
    (("split_models",), ["no step is called", "split_model"]),
    (("split_model",), ["takes graphs", "prepare_exports"]),
    (("quantize", "none.onnx"), ["no such file"]),
    (("quantize", "{itself}"), ["not the name of a decoder's graph", "prompt_ar128"]),
])  # fmt: skip
def test_steps_refuse(
    arguments: tuple[str, ...], words: list[str], llama_folder: Path, call: Call
) -> None:
    name, *files = arguments
    files = [file.format(itself=Path(__file__)) for file in files]
    options = ("-t", "snapdragon-8-elite", "--ar", "16,1", "--context-length", 64)
    ran = call("step", name, llama_folder, *files, *options)
    assert ran.code == 2 and ran.stdout == ""
    assert all(word in ran.stderr for word in words), ran.stderr

"""A compile that drives an SDK, from end to end, with doubles in place of its tools.

The doubles compute nothing. The generator gives out a binary of the same graphs that the libraries
from pip made: what is held to the lowered graphs is a real one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from support.commands import Ran, modelc
from support.sdk_doubles import HOST, calls, make_sdk

from modelc.errors import Damaged, Missing
from modelc.pipeline.compile import compile_source
from modelc.pipeline.decoder_job import decoder_job
from modelc.pipeline.exported import parameters_bytes
from modelc.pipeline.job import make_job
from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.single_step import StepRequest, run_step
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps_sdk import generate_context_binary
from modelc.pipeline.store import Store
from modelc.targets.snapdragon.binary import Graph, Tensor
from modelc.targets.snapdragon.graph_tensors import GraphTensors
from modelc.targets.snapdragon.sdk.check import differences

needs_libraries = [
    pytest.mark.simulator,
    pytest.mark.skipif(
        importlib.util.find_spec("onnxruntime_qnn") is None, reason="needs onnxruntime-qnn"
    ),
    pytest.mark.skipif(sys.platform == "win32", reason="the SDK's host is Linux"),
]

RECIPE = """
target = "snapdragon-8-elite"
context_length = 64
ar = [16, 1]
splits = 1
[calibration]
samples = 2
sequence_length = 32
[verify]
tokens = 12
min_sqnr_db = 5
min_top1 = 0.3
max_perplexity_ratio = 2
"""
OPTIONS = {"sdk": "QAIRT 2.39.0", "chipset": "snapdragon-8-elite", "fp16": False}
GRAPHS = ("prompt_ar16_cl64_1_of_1", "token_ar1_cl64_1_of_1")
TOOLS = ["qairt-converter"] * 2 + ["qairt-quantizer"] * 2 + ["qnn-context-binary-generator"]


@dataclass(frozen=True)
class Made:
    """A bundle of each toolchain, and the SDK that the second was made with."""

    source: Path
    recipe: Path
    pip: Path
    bundle: Path
    sdk: Path
    document: dict[str, Any]

    @property
    def arguments(self) -> tuple[object, ...]:
        return ("compile", self.source, "--recipe", self.recipe, "--toolchain", "sdk")

    def env(self, sdk: Path | None = None) -> dict[str, str]:
        return {"QAIRT_SDK_ROOT": str(sdk or self.sdk)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sdk-store")


@pytest.fixture(scope="module")
def made(llama_folder: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("sdk-bundles")
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE)
    pip, bundle = folder / "pip", folder / "sdk-made"
    compile_source(llama_folder, make_recipe(recipe, {}), pip, store=Store(store))
    made = Made(llama_folder, recipe, pip, bundle, make_sdk(folder / "sdk", binaries=pip), {})
    ran = modelc(*made.arguments, "-o", bundle, "--json", store=store, env=made.env())
    return replace(made, document=ran.json())


class TestCompile:
    pytestmark = needs_libraries

    def test_the_tools_run_in_order_and_the_graphs_beside_are_verified(self, made: Made) -> None:
        assert [call["tool"] for call in calls(made.sdk / "record.jsonl")][:5] == TOOLS
        verification = made.document["verify"]
        assert verification["passed"] and verification["runtime"] == "htp-simulator"
        checks = {check["name"]: check["detail"] for check in verification["checks"]}
        assert "genie_tokens" in checks
        assert "decoder_1_of_1.bin" in checks["not_run_here"]
        assert "SoC 69, v79, VTCM 8 MB, 2 graphs" in checks["chipset"]
        proofs = json.loads((made.bundle / "proof.json").read_text())
        assert proofs.keys().isdisjoint(GRAPHS), "none of the SDK's graphs was run"
        assert set(json.loads((made.pip / "proof.json").read_text())) >= set(GRAPHS)
        report = (made.bundle / "report.md").read_text()
        assert "not_run_here" in report and "The tools of QAIRT 2.39.0 made the binaries" in report
        assert "## Toolchain" not in (made.pip / "report.md").read_text()

    def test_the_bundle(self, made: Made) -> None:
        """As without an SDK, and what repeats its part."""
        files = {p.relative_to(made.bundle).as_posix() for p in made.bundle.rglob("*.*")}
        others = {p.relative_to(made.pip).as_posix() for p in made.pip.rglob("*.*")}
        assert files - others == {
            "sdk/commands.sh",
            "sdk/configs/decoder_1_of_1.json",
            "sdk/configs/decoder_1_of_1.htp.json",
        }
        assert others - files == set()
        binary = "decoder_1_of_1.bin"
        assert (made.bundle / binary).read_bytes() == (made.pip / binary).read_bytes()
        manifest = json.loads((made.bundle / "manifest.json").read_text())
        assert manifest["settings"]["toolchain"] == "QAIRT 2.39.0"

    def test_again_is_cached_from_wherever_the_sdk_lies(
        self, made: Made, store: Path, tmp_path: Path
    ) -> None:
        moved = make_sdk(tmp_path / "moved")
        arguments = (*made.arguments, "-o", tmp_path / "again", "--json")
        document = modelc(*arguments, store=store, env=made.env(moved)).json()
        assert {step["status"] for step in document["steps"]} <= {"cached", "not needed"}
        assert not (moved / "record.jsonl").exists()

    def test_another_release_runs_the_sdks_steps_only(self, made: Made, store: Path) -> None:
        newer = make_sdk(made.sdk.parent / "newer", "2.48.0")
        arguments = ("explain", *made.arguments[1:], "--json")
        rows = modelc(*arguments, store=store, env=made.env(newer)).json()
        why = {row["step"]: row["why"] for row in rows}
        assert why["convert.1_of_1"] == "options changed"
        assert "sdk: QAIRT 2.39.0 -> QAIRT 2.48.0" in str(rows)
        assert why["float_graphs.1_of_1"] == "needed again"
        assert {why[step] for step in ("encodings", "mha_to_sha.ar1_cl64")} == {"cached"}

    def test_a_tool_that_fails(self, made: Made, store: Path, tmp_path: Path) -> None:
        broken = make_sdk(tmp_path / "broken", "2.40.0")
        program = broken / "bin" / HOST / "qairt-quantizer"
        program.write_text("#!/bin/sh\necho no room in the\necho graph; exit 7\n")
        arguments = (*made.arguments, "-o", tmp_path / "none")
        ran = modelc(*arguments, store=store, env=made.env(broken))
        assert ran.code == 1 and not (tmp_path / "none").exists()
        place = f"at: step quantize, graph {GRAPHS[0]}"
        told = ("qairt-quantizer failed with exit status 7", "| graph", place)
        assert all(words in ran.stderr for words in told), ran.stderr
        log = Path(ran.stderr.rpartition("all it said is in ")[2].strip())
        assert log.read_text() == "no room in the\ngraph\n"
        shutil.rmtree(log.parent)

    def test_a_binary_that_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The double writes text; whatever the tool said, it is looked into."""
        monkeypatch.setenv("QAIRT_SDK_ROOT", str(make_sdk(tmp_path / "text")))
        folders = {name: tmp_path / name for name in ("quantize", "out", "scratch")}
        for folder in folders.values():
            folder.mkdir()
        for name in GRAPHS:
            (folders["quantize"] / f"{name}.dlc").write_text(name)
        context = StepContext(
            {"quantize.1_of_1": folders["quantize"], "lowered.1_of_1": tmp_path},
            {**OPTIONS, "part": "1_of_1", "graphs": list(GRAPHS)},
            {},
            folders["out"],
            folders["scratch"],
            folders["scratch"],
        )
        with pytest.raises(Damaged, match="not a context binary"):
            generate_context_binary(context)
        with pytest.raises(Missing, match=r"not QAIRT 2\.40\.0 any more"):
            generate_context_binary(
                replace(context, options={**context.options, "sdk": "QAIRT 2.40.0"})
            )


class TestScript:
    pytestmark = needs_libraries

    @pytest.fixture(scope="class")
    @classmethod
    def work(cls, made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The script's folder with the float graphs in it, step by step from the source."""
        work = tmp_path_factory.mktemp("replay")
        shutil.copytree(made.bundle / "sdk", work, dirs_exist_ok=True)
        recipe, encodings = make_recipe(made.recipe, {}), made.bundle / "encodings.json"
        graphs: tuple[Path, ...] = ()
        for stage in ("prepare_exports", "split_model", "mha_to_sha", "float_graphs"):
            out = work / ("onnx/decoder_1_of_1" if stage == "float_graphs" else stage)
            files = run_step(StepRequest(stage, made.source, recipe, graphs, encodings, out))
            graphs = tuple(path for path in files if path.suffix == ".onnx")
        return work

    def test_it_repeats_the_calls(self, made: Made, work: Path) -> None:
        record = made.sdk / "record.jsonl"
        before = calls(record)[:5]
        record.unlink()
        environment = {**os.environ, **made.env()}
        ran = subprocess.run(
            ["bash", work / "commands.sh"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        again = calls(record)
        assert [call["argv"] for call in again] == [call["argv"] for call in before]
        binary = (work / "serialized_binaries/decoder_1_of_1.bin").read_bytes()
        assert binary == (made.bundle / "decoder_1_of_1.bin").read_bytes()

    def test_it_says_what_it_needs(self, work: Path) -> None:
        head = (work / "commands.sh").read_text().partition("set -euo")[0]
        needed = [line[1:].strip() for line in head.splitlines() if line.startswith("#   ")]
        assert len(needed) == 6 and all((work / name).is_file() for name in needed)
        assert "weights.data" in head and "modelc step float_graphs" in head

    def test_float_graphs_have_encodings_of_everything(self, made: Made, work: Path) -> None:
        """But for biases, of which there are none, and what the norms are spelled out with."""
        job = decoder_job(make_job(made.source, make_recipe(made.recipe, {})))
        for name in GRAPHS:
            path = work / f"onnx/decoder_1_of_1/{name}.onnx"
            onnx.checker.check_model(str(path), full_check=True)
            graph = onnx.load(path, load_external_data=False).graph
            file = path.with_suffix(".encodings")
            document = json.loads(file.read_text())
            told = {row["name"] for row in document["param_encodings"]}
            floats = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
            spelled = {"norm.one", "norm.two", *(n for n in floats if n.startswith("norm.eps"))}
            assert floats - told == spelled
            assert told <= floats
            between = {"squares", "mean", "mean_shifted", "root", "inverse_root", "normal"}
            made_here = {n for node in graph.node for n in node.output}
            known = {row["name"] for row in document["activation_encodings"]}
            rest = made_here - known
            assert {name.rpartition(".")[2] for name in rest} == between
            size = len(json.dumps(document["param_encodings"]))
            assert 0.5 < parameters_bytes(job, "1_of_1") / size < 1.5

    def test_steps_drive_no_sdk(
        self, made: Made, work: Path, call: Callable[..., Ran], tmp_path: Path
    ) -> None:
        recipe = tmp_path / "sdk.toml"
        recipe.write_text('toolchain = "sdk"\n' + RECIPE)
        graph = work / f"mha_to_sha/{GRAPHS[0]}.onnx"
        ran = call("step", "convert", made.source, graph, "--recipe", recipe, "-o", tmp_path)
        assert ran.code == 2 and "sdk/commands.sh" in ran.stderr


IDS = Tensor("input_ids", (1, 4), "int32")
HIDDEN = Tensor("hidden", (1, 4, 8), "uint16", 0.25, 7)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (HIDDEN, []),
        (replace(HIDDEN, scale=0.25 * (1 + 1e-7)), []),
        (replace(HIDDEN, scale=0.26), ["gives hidden as uint16 1x4x8 (0.26 from 7), not hidden"]),
        (replace(HIDDEN, zero_point=8), ["from 8"]),
        (replace(HIDDEN, shape=(1, 8, 4)), ["1x8x4"]),
        (replace(HIDDEN, dtype="uint8"), ["uint8"]),
        (replace(HIDDEN, name="other"), ["gives no hidden", "gives other besides"]),
    ],
)
def test_what_is_other_in_a_binary(found: Tensor, words: list[str]) -> None:
    graph = Graph("g", (IDS,), (found,), 0, 8)
    told = list(differences(graph, GraphTensors((IDS,), (HIDDEN,))))
    assert len(told) == len(words)
    assert all(word in line for word, line in zip(words, told, strict=True))


def test_floats_of_either_width_are_the_same() -> None:
    wide, narrow = (Tensor("x", (4,), dtype) for dtype in ("float32", "float16"))
    assert not list(differences(Graph("g", (narrow,), (), 0, 8), GraphTensors((wide,), ())))

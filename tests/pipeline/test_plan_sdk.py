"""A plan with `toolchain = "sdk"`: its steps, what their results depend on, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.commands import Ran
from support.sdk_doubles import make_sdk

from modelc.errors import BadInput, Missing
from modelc.pipeline import exported
from modelc.pipeline.compile import describe_source
from modelc.pipeline.decoder_job import decoder_job
from modelc.pipeline.exported import parameters_bytes
from modelc.pipeline.fingerprint import fingerprints
from modelc.pipeline.job import make_job
from modelc.pipeline.plan import Plan
from modelc.pipeline.plans import check_requirements, make_plan
from modelc.pipeline.recipe import Recipe

ROOT = "QAIRT_SDK_ROOT"


def recipe(**changes: Any) -> Recipe:
    options = {
        "target": "snapdragon-8-elite",
        "context_length": 64,
        "ar": (16, 1),
        "splits": 2,
        "toolchain": "sdk",
        **changes,
    }
    return Recipe.model_validate(options)


@pytest.fixture
def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_sdk(tmp_path / "sdk")
    monkeypatch.setenv(ROOT, str(root))
    return root


@pytest.fixture
def no_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ROOT, "QNN_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)


def plan_of(source: Path, **changes: Any) -> Plan:
    return make_plan(make_job(source, recipe(**changes)))


def stages(plan: Plan) -> Counter[str]:
    return Counter(step.name.partition(".")[0] for step in plan.steps)


def keys(plan: Plan) -> dict[str, str]:
    return {name: p.key for name, p in fingerprints(plan, lambda name: {"": name}).items()}


def test_the_named_steps_are_the_sdks_own(llama_folder: Path, sdk: Path) -> None:
    plan = plan_of(llama_folder)
    runs = {step.name: step.run for step in plan.steps}
    for place in ("1_of_2", "2_of_2"):
        for stage in ("convert", "quantize", "generate_context_binary"):
            assert runs[f"{stage}.{place}"] == f"modelc.pipeline.steps_sdk:{stage}"
    order = [step.name.partition(".")[0] for step in plan.steps if step.name.endswith("2_of_2")]
    assert [name for name in order if name != "twin"] == [
        "lowered",
        "float_graphs",
        "convert",
        "quantize",
        "generate_context_binary",
    ]
    by_name = {step.name: step for step in plan.steps}
    assert by_name["twin.token_ar1_cl64_2_of_2"].inputs == ("lowered.2_of_2",)
    assert {"sdk_script", "generate_context_binary.1_of_2"} <= set(plan.results())


def test_an_interrupt_finds_the_tools(
    llama_folder: Path, sdk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large model's steps are processes of their own, which die without a word to their tools."""
    monkeypatch.setattr("modelc.pipeline.decoder_job.LARGE", 0)
    isolated = {step.name for step in plan_of(llama_folder).steps if step.isolated}
    assert {"lowered.2_of_2", "float_graphs.2_of_2"} <= isolated
    tools = ("convert.2_of_2", "quantize.2_of_2", "generate_context_binary.2_of_2")
    assert isolated.isdisjoint(tools)
    memory = {step.name: step.memory for step in plan_of(llama_folder).steps}
    assert all(memory[name] > 0 for name in tools), "but what they need is counted"


def test_half_precision_is_not_quantised(llama_folder: Path, sdk: Path) -> None:
    found = stages(plan_of(llama_folder, quant="fp16"))
    assert found["convert"] == 2 and found["quantize"] == 0 and found["calibrate"] == 0


def test_dlcs_that_ship_are_kept(llama_folder: Path, sdk: Path) -> None:
    assert not {"quantize.1_of_2", "convert.1_of_2"} & plan_of(llama_folder).results()
    with_dlc = plan_of(llama_folder, format=("genie", "dlc")).results()
    assert "quantize.1_of_2" in with_dlc and "convert.1_of_2" not in with_dlc
    floats = plan_of(llama_folder, format=("genie", "dlc"), quant="fp16").results()
    assert "convert.1_of_2" in floats


def test_results_depend_on_the_release_and_not_on_the_place(
    llama_folder: Path, sdk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = keys(plan_of(llama_folder))
    monkeypatch.setenv(ROOT, str(make_sdk(tmp_path / "elsewhere")))
    assert keys(plan_of(llama_folder)) == here
    monkeypatch.setenv(ROOT, str(make_sdk(tmp_path / "newer", "2.40.0")))
    newer = keys(plan_of(llama_folder))
    changed = {name.partition(".")[0] for name in here if newer[name] != here[name]}
    assert changed == {
        "convert", "quantize", "generate_context_binary", "sdk_script", "describe_binaries",
        "verify",
    }  # fmt: skip


def test_without_an_sdk_there_is_a_plan_but_no_compile(llama_folder: Path, no_sdk: None) -> None:
    document = describe_source(llama_folder, recipe())
    assert "no QAIRT SDK" in document["order"]
    makes = {row["stage"]: row["makes"] for row in document["stages"]}
    assert list(makes) == [
        "prepare_exports", "split_model", "mha_to_sha", "convert", "quantize",
        "generate_context_binary",
    ]  # fmt: skip
    assert makes["convert"] == {"DLC": 4} and makes["quantize"] == {"quantised DLC": 4}
    assert makes["generate_context_binary"] == {"binary": 2}
    with pytest.raises(Missing, match="no QAIRT SDK"):
        check_requirements(make_job(llama_folder, recipe()))
    check_requirements(make_job(llama_folder, recipe(toolchain="pip")))


def test_the_command_says_what_is_missing(
    llama_gguf: Path, call: Callable[..., Ran], no_sdk: None, tmp_path: Path
) -> None:
    options = ("-t", "snapdragon-8-elite", "--toolchain", "sdk", "--context-length", 64)
    options = (*options, "--ar", "16,1", "-o", tmp_path / "bundle")
    ran = call("compile", llama_gguf, *options)
    assert ran.code == 3 and ran.stdout == ""
    assert "neither QAIRT_SDK_ROOT nor QNN_SDK_ROOT is set" in ran.stderr
    assert "set QAIRT_SDK_ROOT to the folder of the SDK" in ran.stderr
    shown = call("compile", llama_gguf, *options, "--dry-run")
    assert shown.code == 0 and "no QAIRT SDK" in shown.stdout
    assert call("explain", llama_gguf, *options[:-2], "--json").code == 0


def test_the_cpu_has_no_use_for_it(llama_folder: Path) -> None:
    with pytest.raises(BadInput, match="no use for the option toolchain"):
        make_job(llama_folder, Recipe(target="cpu", toolchain="sdk"))


def test_no_models_for_onnx_runtime(llama_folder: Path, sdk: Path) -> None:
    with pytest.raises(BadInput, match="no models for ONNX Runtime") as caught:
        plan_of(llama_folder, format=("genie", "ort"))
    assert "--toolchain sdk" in caught.value.hint


def test_scales_that_no_file_can_hold(
    llama_folder: Path, sdk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part's own encodings count; the pip path goes on without those of weights."""
    plan_of(llama_folder, quant="w4a16_b32")
    job = decoder_job(make_job(llama_folder, recipe(quant="w4a16_b32")))
    assert parameters_bytes(job, "1_of_2") == 0, "the embedding has one scale"
    monkeypatch.setattr(exported, "MOST_BYTES", parameters_bytes(job, "2_of_2") - 1)
    with pytest.raises(BadInput, match="scales of part 2_of_2") as caught:
        plan_of(llama_folder, quant="w4a16_b32")
    assert "--quant w4a16 " in caught.value.hint
    plan_of(llama_folder, quant="w4a16")
    steps = {s.name: s for s in plan_of(llama_folder, quant="w4a16_b32", toolchain="pip").steps}
    assert steps["quantize.1_of_2"].options["parameters"] is True
    assert steps["quantize.2_of_2"].options["parameters"] is False

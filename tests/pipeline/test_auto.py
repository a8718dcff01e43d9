"""A search for kinds of weights within a budget, on the command line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import Ran

from modelc.errors import BadInput
from modelc.pipeline.auto_job import auto_job
from modelc.pipeline.make_recipe import make_recipe
from modelc.quant.overrides import HEAD

Call = Callable[..., Ran]
AUTO = ("--quant", "auto", "--budget")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("The quick brown fox jumps over the lazy dog, and the dog sleeps on. " * 30)
    return path


@pytest.fixture
def on_cpu(llama_folder: Path, text: Path) -> tuple[object, ...]:
    return llama_folder, "-t", "cpu", "--verify-text", text


def test_the_smallest_that_meets_the_budget(
    call: Call, on_cpu: tuple[object, ...], tmp_path: Path
) -> None:
    ran = call("compile", *on_cpu, *AUTO, "kl<=0.02", "-o", tmp_path / "b", "--json").json()
    found, trials = ran["auto"]["measured"], ran["auto"]["trials"]
    assert found["kl_divergence"] <= 0.02
    assert all(t["kl_divergence"] > 0.02 for t in trials if t["size"] < found["size"])
    assert any(t["size"] < found["size"] for t in trials)
    assert trials[0]["size"] == max(t["size"] for t in trials)
    # What was simulated is what the compiled model is.
    assert ran["verify"]["metrics"]["kl_divergence"] <= 0.03
    checks = {check["name"] for check in ran["verify"]["checks"]}
    assert "kl_divergence" in checks
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["settings"]["auto"] == ran["auto"]
    assert manifest["settings"]["auto"]["budget"] == "kl<=0.02"
    report = (tmp_path / "b" / "report.md").read_text()
    assert "within kl<=0.02" in report


def test_its_recipe_makes_the_same_again(
    call: Call, on_cpu: tuple[object, ...], llama_folder: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    call("compile", *on_cpu, *AUTO, "bits<=6", "-o", first, "--json").json()
    recipe = tomllib.loads((first / "recipe.toml").read_text())
    assert "budget" not in recipe
    assert recipe["quant"] != "auto"
    assert recipe["overrides"]
    call("compile", llama_folder, "--recipe", first / "recipe.toml", "-o", second, "--json").json()
    made = [path.name for path in first.glob("model.onnx*")]
    assert "model.onnx" in made
    for name in made:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_size_is_filled_as_far_as_it_goes(
    call: Call, on_cpu: tuple[object, ...], tmp_path: Path
) -> None:
    bits = {}
    for limit in (5.0, 6.5):
        ran = call("compile", *on_cpu, *AUTO, f"bits<={limit}", "-o", tmp_path / "b", "--json")
        bits[limit] = ran.json()["auto"]["measured"]
    assert 4 <= bits[5.0]["bits"] <= 5
    assert 5 < bits[6.5]["bits"] <= 6.5
    assert bits[6.5]["kl_divergence"] < bits[5.0]["kl_divergence"]


def test_a_budget_that_cant_be_met(call: Call, on_cpu: tuple[object, ...], tmp_path: Path) -> None:
    bundle = tmp_path / "b"
    ran = call("compile", *on_cpu, *AUTO, "sqnr>=90dB", "-o", bundle)
    assert ran.code == 4
    assert "can't be met" in ran.stderr
    assert "dB SQNR" in ran.stderr
    ran = call("compile", *on_cpu, *AUTO, "bits<=2", "-o", bundle)
    assert ran.code == 2
    assert "bits per weight" in ran.stderr
    assert not bundle.exists()


def test_what_goes_together(call: Call, on_cpu: tuple[object, ...]) -> None:
    for options, said in (
        (("--quant", "auto"), "--budget"),
        (("--budget", "ppl+1%"), "--quant auto"),
        ((*AUTO, "much"), "'much' is no budget"),
    ):
        ran = call("compile", *on_cpu, *options)
        assert ran.code == 2
        assert said in ran.stderr
    ran = call("estimate", *on_cpu[:3], *AUTO, "ppl+1%")
    assert ran.code == 2
    assert "a search" in ran.stderr


def test_steps_are_told_and_kept(call: Call, on_cpu: tuple[object, ...], tmp_path: Path) -> None:
    told = call("compile", *on_cpu, *AUTO, "bits<=5", "--dry-run", "--json").json()
    names = [step["name"] for step in told["steps"]]
    assert names == ["import", "canonical", "sensitivity", "float_logits", "trial"]
    call("compile", *on_cpu, *AUTO, "bits<=5", "-o", tmp_path / "b", "--json").json()
    why = call("explain", *on_cpu, *AUTO, "bits<=5", "--json").json()
    assert {row["step"]: row["why"] for row in why}["sensitivity"] == "cached"


def test_the_table(call: Call, llama_folder: Path) -> None:
    rows = call("sensitivity", llama_folder, "-t", "cpu", "--json").json()
    costs = [row["kl_divergence"] for row in rows]
    assert costs == sorted(costs, reverse=True)
    (head,) = [row for row in rows if row["module"] == HEAD and row["kind"] == "w8"]
    assert head["size"] == 384 * 64
    assert head["saved"] == 0
    assert min(row["saved"] for row in rows) >= 0
    shown = call("sensitivity", llama_folder, "-t", "cpu")
    assert "layers.1.mlp.down_proj" in shown.stdout


def test_candidates_are_what_the_target_takes(llama_folder: Path) -> None:
    def kinds(**options: object) -> dict[str, tuple[str, ...]]:
        given = {"target": "snapdragon-8-elite", "context_length": "64", **options}
        return dict(auto_job(llama_folder, make_recipe(None, given)).candidates)

    plain = kinds()
    assert plain["model.embed_tokens"] == ("w16", "w8")
    assert plain[HEAD] == ("w16", "w8", "w4_b32", "w4_b64", "w4_lpbq", "w4")
    assert plain["model.layers.0.mlp.up_proj"] == ("w8", "w4_b32", "w4_b64", "w4_lpbq", "w4")
    assert kinds(format="genie,dlc")["model.layers.0.mlp.up_proj"] == ("w8", "w4_lpbq", "w4")
    pinned = kinds(overrides={"layers.*.mlp.*": "w4_b64", "embed_tokens": "w8"})
    assert pinned["model.layers.1.mlp.up_proj"] == ("w4_b64",)
    assert pinned["model.embed_tokens"] == ("w8",)
    assert pinned["model.layers.1.self_attn.q_proj"] == plain["model.layers.1.self_attn.q_proj"]
    with pytest.raises(BadInput, match="nothing to choose"):
        kinds(encodings="some.encodings")

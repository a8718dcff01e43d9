"""What people see of each command, and what options do."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import Ran, modelc

Call = Callable[..., Ran]
COMMANDS = (
    "bench", "cache", "compare", "compile", "debug", "doctor", "estimate", "eval", "explain",
    "inspect", "run", "targets", "tune", "verify",
)  # fmt: skip


def test_help_lists_every_command(call: Call) -> None:
    shown = call("--help")
    assert shown.code == 0
    assert "Usage: modelc" in shown.stdout
    for name in COMMANDS:
        assert f" {name} " in shown.stdout
        assert call(name, "--help").code == 0


def test_compile_says_what_it_did(
    compiled: tuple[Path, Ran], llama_gguf: Path, shared_store: Path
) -> None:
    bundle, _ = compiled
    ran = modelc("compile", llama_gguf, "-t", "cpu", "-o", bundle, store=shared_store)
    assert ran.code == 0, ran.stderr
    assert ran.stderr.split("\n")[0].split()[:2] == ["cached", "import"]
    assert "verified on onnxruntime: perplexity" in ran.stdout
    assert f"bundle: {bundle}" in ran.stdout
    assert "cached import" not in ran.stdout


def test_dry_run_runs_nothing(llama_gguf: Path, call: Call, tmp_path: Path) -> None:
    shown = call("compile", llama_gguf, "-t", "cpu", "--dry-run", "-o", tmp_path / "b",
                 store=tmp_path / "store")  # fmt: skip
    assert [line.split()[0] for line in shown.stdout.splitlines()[3:]] == [
        "import", "canonical", "reference", "lower", "verify",
    ]  # fmt: skip
    assert not (tmp_path / "b").exists()
    assert not list((tmp_path / "store").rglob("record.json"))


def test_explain_names_the_option_that_changed(
    compiled: tuple[Path, Ran], llama_gguf: Path, call: Call
) -> None:
    def why(*options: object) -> dict[str, str]:
        rows = call("explain", llama_gguf, "-t", "cpu", *options, "--json").json()
        return {row["step"]: row["why"] for row in rows}

    assert set(why().values()) == {"cached"}
    changed = why("--gguf", "fast")
    assert {step for step, reason in changed.items() if reason != "cached"} == {"lower", "verify"}
    assert changed["lower"] == "options changed"
    shown = call("explain", llama_gguf, "-t", "cpu", "--gguf", "fast").stdout
    assert "gguf: exact -> fast" in shown
    assert why("--context-length", 32)["import"] == "cached"
    assert why("--context-length", 32)["canonical"] == "options changed"


def test_the_recipe_in_a_bundle_gives_the_same_plan(
    compiled: tuple[Path, Ran], llama_gguf: Path, call: Call
) -> None:
    bundle, _ = compiled
    asked = call("compile", llama_gguf, "-t", "cpu", "--dry-run", "--json").json()
    recipe = bundle / "recipe.toml"
    assert tomllib.loads(recipe.read_text())["quant"] == "gguf"
    assert call("compile", llama_gguf, "--recipe", recipe, "--dry-run", "--json").json() == asked
    rows = call("explain", llama_gguf, "--recipe", recipe, "--json").json()
    assert {row["why"] for row in rows} == {"cached"}


def test_dump_ir_writes_the_graph_after_each_pass(
    compiled: tuple[Path, Ran], llama_gguf: Path, call: Call, tmp_path: Path
) -> None:
    from modelc.passes.pipelines import PIPELINES

    options = ("-t", "cpu", "-o", compiled[0], "--dump-ir", tmp_path / "ir")
    assert call("compile", llama_gguf, *options).code == 0
    names = sorted(path.name for path in (tmp_path / "ir" / "lower").iterdir())
    assert len(names) == len(PIPELINES["cpu"]) + 1
    assert names[0] == "00_input.txt"
    assert "Attention" in (tmp_path / "ir/lower/00_input.txt").read_text()
    assert "MatMulNBits" in (tmp_path / "ir/lower" / names[-1]).read_text()


def test_a_context_shorter_than_the_default_ar_suits_the_cpu(
    llama_folder: Path, call: Call
) -> None:
    options = ("-t", "cpu", "--context-length", 32, "--dry-run", "--json")
    assert call("compile", llama_folder, *options).code == 0


def test_run_writes_the_text_alone_to_stdout(compiled: tuple[Path, Ran], call: Call) -> None:
    arguments = ("run", compiled[0], "--prompt", "In the", "--max-new-tokens", 6)
    text = call(*arguments, "--json").json()["text"]
    shown = call(*arguments)
    assert shown.stdout == text + "\n"
    assert shown.stderr.startswith("[onnxruntime: prompt ")


def test_chat(compiled: tuple[Path, Ran], shared_store: Path) -> None:
    arguments = ("run", compiled[0], "--max-new-tokens", 4)
    once = modelc(*arguments, store=shared_store, stdin="hello\n\n")
    twice = modelc(*arguments, store=shared_store, stdin="hello\n/reset\nhello\n\n")
    assert (once.code, twice.code) == (0, 0), twice.stderr
    assert twice.stdout == 2 * once.stdout != ""  # the same after /reset, and no prompt in a pipe
    assert "/reset" in twice.stderr


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("", "bundle", ["source.name", "model.onnx", "metrics.sqnr_db"]),
        ("model.onnx", "onnx", ["com.microsoft.MatMulNBits", "input_ids", "[batch, sequence]"]),
    ],
)
def test_inspect_what_compile_made(
    name: str, kind: str, words: list[str], compiled: tuple[Path, Ran], call: Call
) -> None:
    shown = call("inspect", compiled[0] / name)
    assert shown.stdout.split()[0] == kind
    for word in words:
        assert word in shown.stdout


def test_tables_in_a_pipe_are_neither_wrapped_nor_padded(call: Call) -> None:
    lines = call("targets").stdout.splitlines()
    assert all(line == line.rstrip() for line in lines)
    from modelc.quant.algorithms.table import ALGORITHMS
    from modelc.quant.aliases import ALIASES
    from modelc.quant.schemes import SCHEMES
    from modelc.targets.find import all_targets

    first = [line.split()[1:2] for line in lines]
    assert all([target.name] in first for target in all_targets())
    shown = {line.split()[0] for line in lines if line}
    assert SCHEMES.keys() | ALGORITHMS.keys() <= shown
    assert all(any(name in line for line in lines) for name in ALIASES)


def test_estimate_says_whether_it_fits(llama_folder: Path, call: Call) -> None:
    asked = ("estimate", llama_folder, "-t", "snapdragon-8-elite", "--ar", "16,1")
    shown = call(*asked).stdout
    assert "fits: " in shown and "KV cache: " in shown
    assert "1 parts: the largest part takes" in shown and "on the device" in shown


def test_prune_says_what_to_give(call: Call, tmp_path: Path) -> None:
    asked = call("cache", "prune", store=tmp_path)
    assert asked.code == 2 and "--older-than-days" in asked.stderr
    assert call("cache", "prune", "--all", store=tmp_path).stdout == "removed 0 results, 0 B\n"

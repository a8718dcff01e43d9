"""eval, compare and debug: what they print, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support import random_models
from support.commands import Ran

Call = Callable[..., Ran]
QUICK = ("--window", 64)
FOUR_BITS = ("--quant", "w4_b32")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("In the beginning God created the heaven and the earth. " * 6)
    return path


def test_a_scheme(llama_folder: Path, text: Path, call: Call) -> None:
    arguments = ("eval", llama_folder, *FOUR_BITS, "--text", text, *QUICK)
    document = call(*arguments, "--worst", 3, "--json").json()
    distance = document["float"]
    assert document["quant"] == "w4_b32"
    assert document["perplexity"] != distance["perplexity"]
    assert 0 < distance["kl_divergence"] < 5
    assert 0 < distance["top1_agreement"] <= 1 and 0 < distance["top5_agreement"] <= 1
    ratios = [row["sqnr_db"] for row in document["tensors"]]
    assert len(ratios) == 3 and ratios == sorted(ratios)
    assert all(len(row["histogram"]) == 32 for row in document["tensors"])
    shown = call(*arguments, "--worst", 3)
    assert shown.code == 0
    assert f"perplexity {document['perplexity']:.4f} over {document['tokens']:,} tokens" in (
        shown.stdout
    )
    assert document["tensors"][0]["tensor"] in shown.stdout


def test_the_float_model_alone(llama_folder: Path, text: Path, call: Call) -> None:
    document = call("eval", llama_folder, "--text", text, *QUICK, "--json").json()
    assert document["perplexity"] == pytest.approx(document["float"]["perplexity"], rel=1e-5)
    assert document["float"]["top1_agreement"] == 1


def test_a_bundle_with_its_source(
    compiled: tuple[Path, Ran], llama_gguf: Path, text: Path, call: Call, tmp_path: Path
) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "def hits(reference, measured, token_ids):\n"
        "    return (measured.argmax(-1) == token_ids).mean()\n"
    )
    arguments = ("eval", compiled[0], "--text", text, *QUICK, "--json")
    alone = call(*arguments).json()
    document = call(*arguments, "--source", llama_gguf, "--metric", f"{own}:hits").json()
    assert alone == {"perplexity": document["perplexity"], "tokens": document["tokens"]}
    assert document["float"]["sqnr_db"] > 20
    assert 0 <= document["float"]["metrics"]["hits"] <= 1


def test_two_schemes(llama_folder: Path, text: Path, call: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "better.toml"
    recipe.write_text('target = "cpu"\nquant = "w4_b32"\n[overrides]\n"*.q_proj" = "w8"\n')
    arguments = ("w4_b32", recipe, "--source", llama_folder, "--text", text, *QUICK)
    document = call("compare", *arguments, "--modules", 4, "--json").json()
    first, second = document["candidates"]
    assert (first["name"], second["name"]) == ("w4_b32", str(recipe))
    assert first["bytes"] < second["bytes"]
    assert first["bits_per_weight"] < second["bits_per_weight"] < 8.1
    assert second["float"]["sqnr_db"] > first["float"]["sqnr_db"]
    gained = {row["module"]: row["second_db"] - row["first_db"] for row in document["modules"]}
    assert list(gained.values()) == sorted(gained.values(), key=abs, reverse=True)
    assert gained["model.layers.0.self_attn.q_proj"] > 10  # of exact inputs
    shown = call("compare", *arguments)
    assert shown.code == 0 and "bits per weight" in shown.stdout


def test_two_bundles(compiled: tuple[Path, Ran], call: Call) -> None:
    """Without a text by what they were verified with."""
    document = call("compare", compiled[0], compiled[0], "--json").json()
    metrics = compiled[1].json()["verify"]["metrics"]
    for side in document["candidates"]:
        assert side["float"]["kl_divergence"] == pytest.approx(metrics["kl_divergence"])
        assert side["perplexity"] == pytest.approx(metrics["perplexity"]["bundle"])
        assert 8 < side["bits_per_weight"] < 14
    assert document["modules"] == []


def test_where_the_loss_comes_from(
    llama_folder: Path, text: Path, call: Call, tmp_path: Path
) -> None:
    picture = tmp_path / "loss.svg"
    options = ("--text", text, "--tokens", 64, "--remedies", 2)
    document = call("debug", llama_folder, *FOUR_BITS, *options, "-o", picture, "--json").json()
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    lost = [row["injected_db"] for row in document["tensors"]]
    assert lost == sorted(lost, key=lambda ratio: float("inf") if ratio is None else ratio)
    assert [len(row["overrides"]) for row in document["remedies"]] == [1, 1, 2]
    shown = call("debug", llama_folder, *FOUR_BITS, *options)
    (module, kind), *_ = document["remedies"][0]["overrides"].items()
    assert f"--override {module.removeprefix('model.')}={kind}" in shown.stdout
    # It is what a recipe takes.
    raised = ("--override", f"{module}={kind}", "--window", 64, "--tokens", 64)
    found = call("eval", llama_folder, *FOUR_BITS, *raised, "--text", text, "--json").json()
    assert found["float"]["kl_divergence"] == document["remedies"][0]["kl_divergence"]


def test_a_bundle_is_held_against_its_source(
    compiled: tuple[Path, Ran], llama_gguf: Path, llama_folder: Path, text: Path, call: Call
) -> None:
    bundle = compiled[0]
    options = ("--text", text, "--tokens", 64, "--json")
    document = call("debug", bundle, "--source", llama_gguf, *options).json()
    assert document["quant"] == "gguf"
    without = call("debug", bundle)
    assert without.code == 2 and "--source" in without.stderr
    other = call("debug", bundle, "--source", llama_folder)
    assert other.code == 2 and "made of another model" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("eval", "{bundle}", "--text", "{text}", "--quant", "q8_0"), ["no use for --quant"]),
        (("eval", "{bundle}", "--text", "{text}", "--metric", "x.py"), ["FILE.py:function"]),
        (("eval", "{bundle}", "--text", "{text}", "--source", "{other}"), ["another model"]),
        (("eval", "{model}", "--text", "{text}", "--quant", "w4b32"), ["did you mean", "w4_b32"]),
        (("eval", "{model}", "--text", "{empty}"), ["the text has 1 tokens"]),
        (("eval", "{model}", "--text", "/nowhere.txt"), ["unreadable text", "/nowhere.txt"]),
        (("eval", "{model}", "--text", "{text}", "--window", "300"), ["context of 256"]),
        (("eval", "{model}", "--text", "{text}", "--source", "{model}"), ["is its own source"]),
        (("compare", "w8", "w4"), ["--source MODEL and --text FILE"]),
        (("debug", "{model}", "-o", "/nowhere/x.svg"), ["can't be written"]),
    ],
)
def test_what_is_refused(
    arguments: tuple[str, ...],
    words: list[str],
    compiled: tuple[Path, Ran],
    llama_folder: Path,
    text: Path,
    call: Call,
    tmp_path: Path,
) -> None:
    places = {"bundle": compiled[0], "model": llama_folder, "text": text}
    places["empty"] = tmp_path / "empty.txt"
    places["empty"].touch()
    if "{other}" in arguments:
        places["other"] = random_models.make("qwen2", tmp_path / "other")
        tokenizer = places["other"] / "tokenizer.json"
        document = json.loads(tokenizer.read_text())
        ids = document["model"]["vocab"]
        ids["Ġthe"], ids["x"] = ids["x"], ids["Ġthe"]
        tokenizer.write_text(json.dumps(document))
    ran = call(*(argument.format(**places) for argument in arguments))
    assert ran.code == 2, ran.stderr
    for word in words:
        assert word in ran.stderr

"""A bundle for CUDA, as a user makes and runs it on a machine without a GPU."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.commands import Ran, modelc
from support.cuda_models import decibels

import modelc as modelc_api

IDS = [5, 77, 130, 8, 200, 31, 9, 64, 2, 19, 300]
OPTIONS = ("--target", "cuda:sm90", "--context-length", "128", "--max-batch", "2",
           "--prefill-chunk", "32", "--page", "16")  # fmt: skip


@pytest.fixture(scope="module")
def bundle(
    llama_folder: Path, shared_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    made = tmp_path_factory.mktemp("cuda") / "bundle"
    ran = modelc("compile", llama_folder, *OPTIONS, "--quant", "fp16", "-o", made, "--json",
                 store=shared_store)  # fmt: skip
    assert ran.code == 0, ran.stderr
    return made


def test_what_is_in_a_bundle(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    memory = manifest["settings"]["cuda"]
    assert memory["kernels"]["sm90"] == len(list((bundle / "kernels" / "sm90").glob("*.cubin")))
    weights = sum(
        np.prod(tensor["shape"]) * {"fp16": 2, "fp32": 4}[tensor["type"]]
        for tensor in json.loads((bundle / "plan.json").read_text())["weights"].values()
    )
    assert memory["parameters"] == weights
    assert memory["operators"] == {}
    assert [graph["name"] for graph in manifest["graphs"]] == ["decode.1", "decode.2", "prefill.32"]
    assert "Every operator has a kernel." in (bundle / "report.md").read_text()


def test_its_logits_are_those_of_transformers(bundle: Path, llama_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(llama_folder, dtype=torch.float32)
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0].numpy()
    with modelc_api.Bundle.open(bundle) as opened:
        assert decibels(opened.logits(IDS), expected) > 45


def test_several_prompts_go_together(bundle: Path, call: Callable[..., Ran]) -> None:
    prompts = ["In the beginning", "The quick brown fox jumps over", "And the earth"]
    told = [word for prompt in prompts for word in ("--prompt", prompt)]
    answers = call("run", bundle, *told, "--max-new-tokens", "6", "--json").json()
    alone = call("run", bundle, "--prompt", prompts[1], "--max-new-tokens", "6", "--json").json()
    assert len(answers) == 3
    assert answers[1]["text"] == alone["text"]


def test_the_kernels_themselves_give_the_same(bundle: Path, tmp_path: Path) -> None:
    """In the interpreter, in a process of its own: Triton decides when it is imported."""
    script = (
        "import sys, numpy as np, modelc\n"
        "with modelc.Bundle.open(sys.argv[1], engine='interpreter') as bundle:\n"
        "    np.save(sys.argv[2], bundle.logits(eval(sys.argv[3])))\n"
        "    print(bundle.runtime.findings(eval(sys.argv[3])[:2], np.load(sys.argv[2])[:2]))\n"
    )
    out = tmp_path / "logits.npy"
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundle), str(out), str(IDS)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0 and "passed=True" in done.stdout, done.stderr
    with modelc_api.Bundle.open(bundle) as opened:
        assert decibels(np.load(out), opened.logits(IDS)) > 45


def test_without_a_gpu(bundle: Path, call: Callable[..., Ran]) -> None:
    if torch.cuda.is_available():
        pytest.skip("has a GPU")
    ran = call("run", bundle, "--prompt", "a", "--engine", "cuda")
    assert ran.code == 3 and "torch finds no CUDA GPU" in ran.stderr
    assert "--engine reference" in ran.stderr
    assert "reference operators (CPU)" in call("verify", bundle).stdout


def test_a_damaged_bundle(bundle: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    path = copy / "plan.json"
    path.write_bytes(path.read_bytes()[:-100])
    ran = call("run", copy, "--prompt", "a")
    assert ran.code == 1 and "plan.json" in ran.stderr and "hint:" in ran.stderr


def test_an_estimate_says_what_fits(llama_folder: Path, call: Callable[..., Ran]) -> None:
    told = call("estimate", llama_folder, "--target", "cuda:l4", "--context-length", "128",
                "--json").json()  # fmt: skip
    assert told["fits"] and "NVIDIA L4" in told["why"] and "sequences" in told["why"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "cuda:sm70"), "no kernels are made for cuda:sm70"),
        (("--target", "cuda:sm80", "--quant", "fp8"), "sm80 has no FP8"),
        (("--target", "cuda:sm90", "--quant", "w8a16"), "do not take the scheme"),
        (("--target", "cuda:sm90", "--tensor-parallel", "3"), "can't be shared by 3"),
        (("--target", "cuda:sm90", "--override", "lm_head=w2_b32"), "no kinds of weights"),
        (("--target", "cpu", "--page", "16"), "no use for the option cuda.page"),
    ],
)
def test_what_is_refused(
    options: tuple[str, ...], message: str, llama_folder: Path, call: Callable[..., Ran]
) -> None:
    ran = call("compile", llama_folder, *options, "--context-length", "64")
    assert ran.code == 2 and message in ran.stderr and "hint:" in ran.stderr


@pytest.mark.parametrize("package", ["torch", "triton"])
def test_without_what_it_takes(
    package: str, llama_folder: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    absent = lambda name, *rest: None if name == package else found(name, *rest)  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", absent)
    monkeypatch.setattr("modelc.targets.cuda.choose_engine.find_spec", absent)
    ran = call("compile", llama_folder, *OPTIONS, "--quant", "bf16")
    assert ran.code == 3 and "pip install 'modelc[cuda]'" in ran.stderr

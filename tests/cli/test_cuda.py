"""A bundle for CUDA, as a user makes and runs it on a machine without a GPU."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.commands import Ran, modelc

from modelc.bundle.tokenizer import load_tokenizer

OPTIONS = ("--target", "cuda:sm90", "--context-length", "128", "--max-batch", "2",
           "--prefill-chunk", "32", "--page", "16")  # fmt: skip


@pytest.fixture(scope="module")
def bundle(
    llama_folder: Path, shared_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    made = tmp_path_factory.mktemp("cuda") / "bundle"
    ran = modelc("compile", llama_folder, *OPTIONS, "--quant", "bf16", "-o", made, "--json",
                 store=shared_store)  # fmt: skip
    assert ran.code == 0, ran.stderr
    return made


def test_what_is_in_a_bundle(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    memory = manifest["settings"]["cuda"]
    assert memory["kernels"]["sm90"] == len(list((bundle / "kernels" / "sm90").glob("*.cubin")))
    weights = sum(
        np.prod(tensor["shape"]) * {"bf16": 2, "fp32": 4}[tensor["type"]]
        for tensor in json.loads((bundle / "plan.json").read_text())["weights"].values()
    )
    assert memory["parameters"] == weights
    assert memory["operators"] == {}
    assert [graph["name"] for graph in manifest["graphs"]] == ["decode.1", "decode.2", "prefill.32"]
    assert "Every operator has a kernel." in (bundle / "report.md").read_text()


def test_it_generates_what_transformers_does(
    bundle: Path, llama_folder: Path, call: Callable[..., Ran]
) -> None:
    from transformers import AutoModelForCausalLM

    prompts = ["In the beginning", "The quick brown fox jumps over"]
    told = [word for prompt in prompts for word in ("--prompt", prompt)]
    answers = call("run", bundle, *told, "--max-new-tokens", "6", "--json").json()
    assert len(answers) == 2
    theirs = AutoModelForCausalLM.from_pretrained(llama_folder, dtype=torch.bfloat16)
    tokenizer = load_tokenizer(bundle)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([tokenizer.encode(prompt)])
        expected = theirs.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
        assert answer["text"] == tokenizer.decode(expected.tolist())


def test_the_kernels_themselves_give_the_same(bundle: Path, shared_store: Path) -> None:
    """In the interpreter, in a process of its own: Triton decides when it is imported."""
    words = ("--prompt", "In the beginning", "--max-new-tokens", "3", "--json")
    by_reference = modelc("run", bundle, *words, store=shared_store).json()
    interpreted = modelc("run", bundle, *words, "--engine", "interpreter", store=shared_store)
    assert interpreted.json()["text"] == by_reference["text"]


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

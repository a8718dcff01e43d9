"""The JSON that scripts rely on: one document on stdout, its keys and types, the exit status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.commands import Ran, modelc

METRICS = {
    "sqnr_db": float,
    "top1_agreement": float,
    "perplexity": {"reference": float, "bundle": float},
    "tokens": int,
}
VERIFICATION = {
    "target": str,
    "passed": bool,
    "metrics": METRICS,
    "checks": [{"name": str, "passed": bool, "detail": str}],
    "runtime": str,
}
COMPILED = {
    "bundle": str,
    "target": str,
    "recipe": dict,
    "steps": [{"name": str, "status": str, "seconds": float, "peak_mb": float}],
    "seconds": float,
    "peak_mb": float,
    "verify": VERIFICATION,
}
GENERATED = {
    "text": str,
    "token_ids": [int],
    "prompt_tokens": int,
    "prefill_tokens_per_s": float,
    "decode_tokens_per_s": float,
}
BENCHED = {
    "prefill_tokens_per_s": float,
    "decode_tokens_per_s": float,
    "load_seconds": float,
    "peak_mb": float,
}


def assert_form(value: Any, form: Any) -> None:
    """Check keys and types; further keys are fine."""
    if isinstance(form, dict):
        assert form.keys() <= value.keys()
        for key, inner in form.items():
            assert_form(value[key], inner)
    elif isinstance(form, list):
        assert value
        for item in value:
            assert_form(item, form[0])
    else:
        assert type(value) is form


def test_compile(compiled: tuple[Path, Ran]) -> None:
    bundle, ran = compiled
    document = ran.json()
    assert_form(document, COMPILED)
    assert Path(document["bundle"]) == bundle and (bundle / "manifest.json").is_file()
    assert document["target"] == "cpu" and document["recipe"]["quant"] == "gguf"
    assert {step["status"] for step in document["steps"]} == {"ran"}
    # Both are sampled, of the same process.
    assert document["peak_mb"] > 0.9 * max(step["peak_mb"] for step in document["steps"])
    assert document["verify"]["passed"] is True


def test_a_repeated_compile_is_cached(
    compiled: tuple[Path, Ran], llama_gguf: Path, shared_store: Path
) -> None:
    bundle, first = compiled
    again = modelc("compile", llama_gguf, "-t", "cpu", "-o", bundle, "--json", store=shared_store)
    document = again.json()
    assert {step["status"] for step in document["steps"]} == {"cached"}
    assert {step["peak_mb"] for step in document["steps"]} == {0}
    assert document["verify"] == first.json()["verify"]


def test_verify(compiled: tuple[Path, Ran], shared_store: Path) -> None:
    bundle, made = compiled
    document = modelc("verify", bundle, "--json", store=shared_store).json()
    assert_form(document, VERIFICATION)
    assert document["runtime"] == "onnxruntime"
    metrics, before = document["metrics"], made.json()["verify"]["metrics"]
    assert metrics["sqnr_db"] == pytest.approx(before["sqnr_db"])
    assert metrics["perplexity"] == pytest.approx(before["perplexity"])


def test_eval(compiled: tuple[Path, Ran], shared_store: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("In the beginning God created the heaven and the earth.")
    document = modelc("eval", compiled[0], "--text", text, "--json", store=shared_store).json()
    assert_form(document, {"perplexity": float, "tokens": int})
    assert document["perplexity"] > 1 and document["tokens"] > 5


def test_run(compiled: tuple[Path, Ran], shared_store: Path) -> None:
    arguments = ("run", compiled[0], "--prompt", "In the", "--max-new-tokens", 6, "--json")
    document = modelc(*arguments, store=shared_store).json()
    assert_form(document, GENERATED)
    assert len(document["token_ids"]) <= 6


def test_bench(compiled: tuple[Path, Ran], shared_store: Path) -> None:
    sizes = ("--prompt-tokens", 16, "--new-tokens", 4, "--runs", 3)
    document = modelc("bench", compiled[0], *sizes, "--json", store=shared_store).json()
    assert_form(document, BENCHED)
    assert all(document[key] > 0 for key in BENCHED)
    assert document["prompt_tokens"] == 16 and document["new_tokens"] == 4


def test_targets(shared_store: Path) -> None:
    rows = modelc("targets", "--json", store=shared_store).json()
    names = {"name": str, "family": str, "fp16": bool, "weight_sharing": bool}
    facts = {"soc_model", "htp_arch", "vtcm_mb"}
    for row in rows:
        assert_form(row, {**names, "aliases": list, "marketing_name": str})
        assert facts <= row.keys()
    by_name = {row["name"]: row for row in rows}
    assert len(by_name) == len(rows) and by_name["cpu"]["soc_model"] is None
    elite = next(row for row in rows if "snapdragon-8-elite" in (row["name"], *row["aliases"]))
    assert (elite["soc_model"], elite["htp_arch"], elite["vtcm_mb"]) == (69, "v79", 8)


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (("estimate",), {"parameters", "kv_per_token", "parts", "limit", "fits"}),
        (("compile", "--dry-run"), {"stages", "steps"}),
        (("explain",), {"step", "why", "details"}),
    ],
    ids=["estimate", "dry-run", "explain"],
)
def test_looking_at_a_source(
    arguments: tuple[str, ...], keys: set[str], llama_gguf: Path, call: Any
) -> None:
    command, *options = arguments
    document = call(command, llama_gguf, "-t", "cpu", *options, "--json").json()
    for row in document if isinstance(document, list) else [document]:
        assert keys <= row.keys()


def test_store_and_machine(compiled: tuple[Path, Ran], call: Any) -> None:
    listed = call("cache", "list", "--json").json()
    assert {"import", "canonical", "lower", "reference", "verify"} <= {
        row["step"] for row in listed
    }
    assert call("cache", "verify", "--json").json() == {"checked": len(listed), "damaged": []}
    assert {row["state"] for row in call("doctor", "--json").json()} <= {"ok", "note", "missing"}

"""Schemes that are not compiled: the numbers of the target's, by the steps of a compile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelc.api import Bundle
from modelc.api import compile as compile_model
from modelc.errors import BadInput
from modelc.pipeline.evaluation import evaluate_simulated, read_windows
from modelc.pipeline.events import Event, StepFinished
from modelc.pipeline.loss import tensor_losses
from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.remedy import measure_remedies
from modelc.pipeline.simulation import simulate
from modelc.pipeline.simulation_plan import settle_target, target_of
from modelc.pipeline.store import Store
from modelc.verify.metrics import perplexity, sqnr_db

TOKENS = np.random.default_rng(0).integers(3, 300, 60).tolist()
ANY = {"min_sqnr_db": -99.0, "min_top1": 0.0, "max_perplexity_ratio": 1e9}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("In the beginning God created the heaven and the earth. " * 6)
    return path


@pytest.mark.parametrize(
    ("scheme", "same"),
    [("fp32", 100), ("w4_b32", 100), ("q4_0", 35), ("w8_a8", 35), ("e4m3_e4m3", 20)],
)
def test_numbers_of_the_cpu(
    scheme: str, same: float, llama_folder: Path, store: Store, tmp_path: Path
) -> None:
    """With floats for activations to float32's arithmetic. Where tokens are rounded, a last bit of
    it makes another code now and then, and layers behind it more of them."""
    compile_model(
        llama_folder, target="cpu", quant=scheme, output=tmp_path / "b", store=store, verify=ANY
    )
    recipe = make_recipe(None, {"target": "cpu", "quant": scheme})
    with Bundle.open(tmp_path / "b") as bundle, simulate(llama_folder, recipe, store=store) as made:
        measured, found = bundle.logits(TOKENS), next(made.logits([TOKENS]))
        wanted = next(made.float_logits([TOKENS]))
    assert sqnr_db(measured, found) > same
    if scheme != "fp32":
        assert sqnr_db(wanted, measured) == pytest.approx(sqnr_db(wanted, found), abs=1.5)
        assert sqnr_db(wanted, measured) < sqnr_db(measured, found)


def test_nothing_is_made_twice(llama_folder: Path, store: Store) -> None:
    ran: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, StepFinished) and event.result.status == "ran":
            ran.append(event.result.name)

    recipe = make_recipe(None, {"target": "snapdragon-8-elite", "quant": "w4a16"})
    with simulate(llama_folder, recipe, store=store, events=watch):
        pass
    assert {"calibrate", "encodings"} <= set(ran)
    assert not [name for name in ran if name.startswith(("prepare", "quantize", "generate"))]
    ran.clear()
    raised = recipe.model_copy(update={"quant": "w8a16", "overrides": {"lm_head": "w16"}})
    with simulate(llama_folder, raised, store=store, events=watch) as made:
        assert made.kinds["lm_head"] == "w16"
    assert ran == []


def test_other_kinds_than_the_recipes(llama_folder: Path, store: Store, text: Path) -> None:
    recipe = make_recipe(None, {"target": target_of("w4a16"), "quant": "w4a16"})
    with simulate(llama_folder, recipe, store=store) as made:
        windows = read_windows(made.tokenizer, text, made.context_length, 64, None)
        four = evaluate_simulated(made, windows)
        better = dict.fromkeys(made.kinds, "w8") | {"model.embed_tokens": "w16"}
        eight = evaluate_simulated(made, windows, kinds=better)
        floats = list(made.float_logits(windows.sequences))
        again = list(made.float_logits(windows.sequences))
    assert four.float_model and eight.float_model
    assert eight.float_model.kl_divergence < four.float_model.kl_divergence / 4
    assert eight.float_model.sqnr_db > four.float_model.sqnr_db + 6
    assert all(one is other for one, other in zip(floats, again, strict=True))
    part = windows.parts[0]
    first = perplexity(floats[0][: part.stop - 1], windows.token_ids[1 : part.stop])
    assert np.isfinite(first) and len(windows.parts) > 1


@pytest.mark.parametrize("algorithms", [(), ("nearest",)])
def test_remedies_are_measured(
    algorithms: tuple[str, ...], llama_folder: Path, store: Store, text: Path
) -> None:
    options = {
        "target": "snapdragon-8-elite",
        "quant": "w4a16",
        "algorithms": algorithms,
        "calibration": {"samples": 2, "sequence_length": 32},
    }
    recipe = make_recipe(None, options)
    with simulate(llama_folder, recipe, store=store) as made:
        windows = read_windows(made.tokenizer, text, made.context_length, 64, 64)
        before = evaluate_simulated(made, windows).float_model
        losses = tensor_losses(made, windows)
        first, second, both = measure_remedies(made, windows, losses, 2, store)
        kind = dict.fromkeys(made.kinds, "w4") | {"lm_head": "w8", "model.embed_tokens": "w16"}
        assert made.kinds == kind
    assert before is not None
    assert dict(both.overrides) == {**first.overrides, **second.overrides}
    assert set(both.overrides.values()) == {"w8"}
    assert both.added_bytes == first.added_bytes + second.added_bytes > 0
    assert both.evaluation.float_model.sqnr_db > before.sqnr_db
    # What raising it by hand gives.
    raised = recipe.model_copy(update={"overrides": dict(first.overrides)})
    with simulate(llama_folder, raised, store=store) as made:
        assert evaluate_simulated(made, windows) == first.evaluation


def test_transforms_have_nothing_to_compare_with(
    llama_folder: Path, store: Store, text: Path
) -> None:
    options = {"target": "cpu", "quant": "w4_b32", "algorithms": ("rotate",)}
    with simulate(llama_folder, make_recipe(None, options), store=store) as made:
        windows = read_windows(made.tokenizer, text, made.context_length, 64, 64)
        assert evaluate_simulated(made, windows).float_model.sqnr_db > 5
        with pytest.raises(BadInput, match="make other tensors of the same model"):
            tensor_losses(made, windows)


def test_a_target_for_those_who_name_none(tmp_path: Path) -> None:
    assert settle_target(None, {}) == {"target": "cpu", "quant": "fp32"}
    assert settle_target(None, {"quant": "w4_b32"})["target"] == "cpu"
    assert settle_target(None, {"quant": "w4a16"})["target"].startswith("snapdragon")
    assert settle_target(None, {"target": "cpu", "quant": "w8"}) == {"target": "cpu", "quant": "w8"}
    file = tmp_path / "recipe.toml"
    file.write_text('target = "snapdragon-8-gen-3"\nquant = "w8a16"\n')
    assert settle_target(file, {"quant": "w4a16"}) == {"quant": "w4a16"}
    file.write_text('quant = "q4_0"\n')
    assert settle_target(file, {}) == {"target": "cpu"}
    with pytest.raises(BadInput, match="no quantisation scheme is called 'w4a61'"):
        target_of("w4a61")


@pytest.mark.parametrize(
    ("content", "window", "message"),
    [
        (b"", None, "the text has 1 tokens"),
        (b"\xff\xfe", None, "unreadable text"),
        (b"In the beginning", 4096, "a window of 4096 tokens doesn't fit"),
    ],
)
def test_texts_that_are_none(
    content: bytes,
    window: int | None,
    message: str,
    llama_folder: Path,
    store: Store,
    tmp_path: Path,
) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    recipe = make_recipe(None, {"target": "cpu", "quant": "fp32"})
    with (
        simulate(llama_folder, recipe, store=store) as made,
        pytest.raises(BadInput, match=message),
    ):
        read_windows(made.tokenizer, tmp_path / "text.txt", made.context_length, window, None)

"""Where loss comes from: noise is split into what is injected and what is inherited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx_ir as ir
import pytest
from support.htp_graphs import CONTEXT, TOKENS, encodings, make_source

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderSource, Experts
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline
from modelc.pipeline.evaluation import TextWindows
from modelc.pipeline.loss import BINS, TensorLoss, sparkline, tensor_losses
from modelc.pipeline.loss_plot import plot_losses
from modelc.reference.stream import StreamedReference
from modelc.verify.evaluate import Window
from modelc.verify.metrics import sqnr_db

TEXT = TextWindows(tuple(TOKENS), (Window(0, 12, 1), Window(6, len(TOKENS), 12)))
EIGHT_BITS = {"model": "w8", "lm_head": "w8", "model.embed_tokens": "w16"}
UP = "model.layers.0.mlp.up_proj"


@dataclass(frozen=True)
class Rounded:
    """What `tensor_losses` asks of a simulation."""

    source: DecoderSource
    settings: Mapping[str, Any]
    has_transforms: bool = False

    def float_model(self) -> ir.Model:
        return build_decoder(self.source, CONTEXT)

    def model(self) -> ir.Model:
        passes = build_pipeline("simulated", self.settings)
        return run_passes(self.float_model(), passes, graph="simulated")[0]


def losses_of(source: DecoderSource, **settings: Any) -> dict[str, TensorLoss]:
    return {loss.name: loss for loss in tensor_losses(Rounded(source, settings), TEXT)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DecoderSource:
    return make_source(tmp_path_factory.mktemp("source"), architecture="qwen2", biases=True)


@pytest.fixture(scope="module")
def settings(source: DecoderSource) -> dict[str, Any]:
    return {"encodings": encodings(source), "weights": EIGHT_BITS}


def seen(model: ir.Model) -> dict[str, np.ndarray]:
    """Every tensor, of both windows in a row."""
    found: dict[str, list[np.ndarray]] = {}
    reference = StreamedReference(model)
    reference.observe(TEXT.sequences, lambda name, x: found.setdefault(name, []).append(x.ravel()))
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def test_experts_are_compared_with_the_same_tokens(tmp_path: Path) -> None:
    experts = Experts(count=5, used=2, hidden=32, layers=(0, 1))
    source = make_source(tmp_path, architecture="mixtral", experts=experts)
    losses = losses_of(
        source, weights={"": "w2_b32", "model.embed_tokens": ""}, activations="float"
    )
    inside = [loss for loss in losses.values() if ".experts." in loss.name]
    assert inside and all(loss.inherited == 0 < loss.injected for loss in inside)
    assert losses["model.layers.1.self_attn.q_proj"].inherited > 0


def test_noise_is_what_two_runs_differ_by(source: DecoderSource, settings: dict[str, Any]) -> None:
    losses = losses_of(source, **settings)
    rounded = Rounded(source, settings)
    expanded, _ = run_passes(
        rounded.float_model(), build_pipeline("expanded", {}), graph="expanded"
    )
    wanted, found = seen(expanded), seen(rounded.model())
    for name in ("model.layers.0", UP, "present.1.value", "model.norm", "logits"):
        x, y = wanted[name], found[name]
        loss = losses[name]
        assert loss.sqnr_db == pytest.approx(sqnr_db(x[None], y[None]), abs=1e-3)
        assert (loss.low, loss.high) == (x.min(), x.max())
        counts, _ = np.histogram(x, BINS, (x.min(), x.max()))
        assert sum(loss.histogram) == x.size
        assert np.abs(np.cumsum(loss.histogram) - np.cumsum(counts)).max() <= 0.02 * x.size
        rounding = np.square(found[f"{name}.float"].astype(np.float64) - y).mean()
        assert loss.injected >= rounding * 0.5
        if not loss.by_weights:
            assert loss.injected == pytest.approx(rounding)


def test_masked_scores_count_where_they_are_seen(
    source: DecoderSource, settings: dict[str, Any]
) -> None:
    loss = losses_of(source, **settings)["model.layers.0.self_attn.masked"]
    assert abs(loss.low) < 100 and loss.sqnr_db > 20


def test_parts_nearly_add_up(source: DecoderSource, settings: dict[str, Any]) -> None:
    losses = losses_of(source, **settings)
    ratios = [
        (loss.injected + loss.inherited) / loss.noise for loss in losses.values() if loss.noise
    ]
    assert len(ratios) > 50
    assert np.median(ratios) == pytest.approx(1.0, abs=0.05)
    assert all(0.3 < ratio < 3 for ratio in ratios)


def test_one_rounded_matrix_injects_and_the_rest_inherits(source: DecoderSource) -> None:
    losses = losses_of(source, weights={UP: "w4"}, activations="float")
    (product,) = losses  # of its bias the sum is taken in floats: nothing is rounded there
    assert product == f"{UP}.product"
    loss = losses[product]
    assert loss.inherited == 0
    assert loss.injected == loss.noise == loss.by_weights > 0


def test_what_is_behind_inherits(source: DecoderSource) -> None:
    weights = {UP: "w2", "model.layers.1.mlp.up_proj": "w8"}
    losses = losses_of(source, weights=weights, activations="float")
    first, second = losses[f"{UP}.product"], losses["model.layers.1.mlp.up_proj.product"]
    assert first.inherited == 0
    assert second.inherited > 10 * second.injected > 0
    assert second.noise == pytest.approx(second.inherited, rel=0.3)


def test_tokens_that_are_rounded_count_where_they_are_multiplied(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    settings = {"weights": {UP: "w8"}, "activations": "e4m3_dynamic"}
    losses = losses_of(source, **settings)
    assert losses[UP].inherited == 0
    assert (
        losses[UP].sqnr_db < losses_of(source, weights={UP: "w8"}, activations="float")[UP].sqnr_db
    )


def test_worst_are_first(source: DecoderSource, settings: dict[str, Any]) -> None:
    losses = tensor_losses(Rounded(source, settings), TEXT)
    ratios = [loss.injected_db for loss in losses]
    assert ratios == sorted(ratios)
    assert {loss.place for loss in losses} == set(range(len(losses)))


def test_sparkline() -> None:
    assert sparkline((0, 1, 1000, 0, 30)) == " ▁█ ▄"
    assert sparkline((0, 0)) == "  "


def test_the_picture_is_xml_and_has_every_tensor(
    source: DecoderSource, settings: dict[str, Any]
) -> None:
    losses = tensor_losses(Rounded(source, settings), TEXT)
    losses[0] = replace(losses[0], name="<worst> & named", injected=0.0)
    picture = plot_losses(losses, "a <b>")
    assert picture == plot_losses(losses, "a <b>")
    root = ElementTree.fromstring(picture)
    titles = {title.text.partition(": ")[0] for title in root.iterfind(".//{*}title")}
    assert titles == {loss.name for loss in losses if loss.noise}
    assert "a <b>" in {text.text for text in root.iterfind(".//{*}text")}

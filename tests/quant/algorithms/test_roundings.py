"""Roundings lose less of a layer's outputs than rounding to nearest does, and their codes are
what their forms allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tiny_source import tiny_config
from tokenizers import Tokenizer

from modelc.decoder.builder import build_decoder
from modelc.errors import BadInput
from modelc.frontends import read_source
from modelc.ir.packing.coded_rows import CodedRows, dequantise_rows
from modelc.ir.packing.kinds import KINDS, FloatForm, Form, IntegerForm
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.quant.algorithms.adaround import AdaRound
from modelc.quant.algorithms.bias_correction import SHIFT, BiasCorrection
from modelc.quant.algorithms.gptq import Gptq
from modelc.quant.algorithms.layer import Algorithm, Floats, Layer
from modelc.quant.algorithms.mse import Mse
from modelc.quant.algorithms.nearest import Nearest
from modelc.quant.algorithms.seqmse import SequentialMse
from modelc.quant.algorithms.walk import walk
from modelc.quant.algorithms.weighted_mse import WeightedMse

INTEGERS = ["w4", "w4_b32", "w4_lpbq", "u4_b32", "u3", "w8", "w2_b16", "w8_tensor"]
FLOATS = ["mxfp4", "e4m3", "e4m3_channel", "e4m3_b128"]
ROUNDINGS: Sequence[Algorithm] = (
    Nearest(),
    Mse(),
    WeightedMse(),
    SequentialMse(candidates=16),
    Gptq(),
    AdaRound(iterations=60),
)
INFORMED = [rounding for rounding in ROUNDINGS if rounding.needs_inputs]
MODULE = "model.layers.0.mlp.up_proj"
SHIPPED = Path(__file__).parents[3] / "examples" / "tiny-llm"


def names(rounding: Algorithm) -> str:
    return rounding.name


def correlated(seed: int, tokens: int = 300, width: int = 64) -> Floats:
    """Inputs whose columns say much about each other, a few of them large."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(tokens, width)) @ random.normal(size=(width, width))
    return (mixed * random.lognormal(0, 1, width) + 0.3).astype(np.float32)


def matrix(seed: int, rows: int = 24, width: int = 64) -> Floats:
    return np.random.default_rng(seed).standard_t(4, (rows, width)).astype(np.float32)


def layer_of(weights: Floats, inputs: Floats, form: Form) -> Layer:
    return Layer(
        "model.layers.0",
        tiny_config(),
        {f"{MODULE}.weight": weights},
        {MODULE: form},
        {MODULE: "normed"},
        {"normed": inputs},
    )


def rounded(algorithm: Algorithm, weights: Floats, inputs: Floats, form: Form) -> CodedRows:
    layer = layer_of(weights, inputs, form)
    algorithm.apply(layer)
    return layer.coded[MODULE]


def lost(weights: Floats, coded: CodedRows, inputs: Floats) -> float:
    """The squared error of the outputs, in double precision."""
    errors = (weights - dequantise_rows(coded)).astype(np.float64)
    return float(np.square(inputs.astype(np.float64) @ errors.T).sum())


@pytest.mark.parametrize("kind", [*INTEGERS, *FLOATS])
@pytest.mark.parametrize("rounding", ROUNDINGS, ids=names)
def test_codes_are_what_the_form_allows(rounding: Algorithm, kind: str) -> None:
    form, weights, inputs = KINDS[kind], matrix(0), correlated(1)
    weights[3] = 0
    weights[5, 32:] = 0
    inputs[:, 7] = 0  # no sample uses it
    if isinstance(rounding, AdaRound) and isinstance(form, FloatForm):
        with pytest.raises(BadInput, match="gptq can"):
            rounded(rounding, weights, inputs, form)
        return
    coded = rounded(rounding, weights, inputs, form)
    wanted = quantise_rows(weights, form)
    for found, like in zip(_arrays(coded), _arrays(wanted), strict=True):
        assert (found is None) == (like is None)
        if found is not None and like is not None:
            assert (found.dtype, found.shape) == (like.dtype, like.shape)
    assert coded.block == wanted.block
    assert np.all(coded.scales > 0) and np.all(np.isfinite(coded.scales))
    if isinstance(form, IntegerForm):
        assert coded.codes.min() >= form.lowest and coded.codes.max() <= form.highest
        if form.scale_bits:
            assert coded.multiples is not None and coded.multiples.min() >= 1
            assert coded.multiples.max() < 1 << form.scale_bits
    elif form.power_scales:
        assert np.all(np.frexp(coded.scales)[0] == 0.5)
    np.testing.assert_array_equal(dequantise_rows(coded)[3], 0)
    again = rounded(rounding, weights, inputs, form)
    for one, other in zip(_arrays(coded), _arrays(again), strict=True):
        np.testing.assert_array_equal(one, other)


def _arrays(coded: CodedRows) -> tuple[np.ndarray | None, ...]:
    return coded.codes, coded.scales, coded.multiples, coded.zeros


@pytest.mark.parametrize("kind", ["w4", "w4_b32", "w4_lpbq", "u4_b32", "w3", "mxfp4"])
@pytest.mark.parametrize("rounding", INFORMED, ids=names)
def test_outputs_lose_less_than_by_rounding_to_nearest(rounding: Algorithm, kind: str) -> None:
    form = KINDS[kind]
    if isinstance(rounding, AdaRound) and isinstance(form, FloatForm):
        with pytest.raises(BadInput):
            rounded(rounding, matrix(0), correlated(0), form)
        return
    for seed in range(4):
        weights, inputs = matrix(seed), correlated(seed)
        found = lost(weights, rounded(rounding, weights, inputs, form), inputs)
        assert found < lost(weights, rounded(Nearest(), weights, inputs, form), inputs)


def test_what_looks_further_loses_less() -> None:
    """Output errors of GPTQ and AdaRound against searched scales; of refinement against none."""
    form = KINDS["w4"]
    for seed in range(4):
        weights, inputs = matrix(seed), correlated(seed)
        losses = [
            lost(weights, rounded(rounding, weights, inputs, form), inputs)
            for rounding in (Gptq(), Gptq(refinements=0), SequentialMse(), Mse())
        ]
        assert losses == sorted(losses)
        learned = lost(weights, rounded(AdaRound(), weights, inputs, form), inputs)
        assert learned < 0.9 * losses[2]


@pytest.fixture(scope="module")
def shipped() -> Layer:
    """The second layer of the model that ships, and its inputs for some of its text."""
    source = read_source(SHIPPED / "hf")
    modules = [f"model.layers.1.mlp.{name}_proj" for name in ("gate", "down")]
    found: list[Layer] = []

    class Keep(Nearest):
        needs_inputs = True

        def apply(self, layer: Layer) -> None:
            if layer.forms:
                found.append(replace(layer, coded={}))

    text = (SHIPPED / "calibration.txt").read_text(encoding="utf-8")[:8000]
    tokenizer = Tokenizer.from_file(str(SHIPPED / "hf" / "tokenizer.json"))
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    samples = [tokens[first : first + 256] for first in range(0, 1536, 256)]
    forms = dict.fromkeys(modules, KINDS["w4"])
    graph = build_decoder(source, 256)
    walk(graph, source.config, [Keep()], forms, samples, lambda *_: None)
    return found[0]


def test_a_real_layer_loses_less(shipped: Layer) -> None:
    """Of its outputs on text that the roundings did not see."""
    seen = {name: inputs[:1024] for name, inputs in shipped.inputs.items()}
    losses: dict[str, list[float]] = {}
    for rounding in ROUNDINGS:
        layer = replace(shipped, inputs=seen, coded={})
        rounding.apply(layer)
        losses[rounding.name] = [
            lost(layer.weights[f"{module}.weight"], coded, shipped.inputs_of(module)[1024:])
            for module, coded in layer.coded.items()
        ]
    for module, nearest in enumerate(losses["nearest"]):
        assert losses["gptq"][module] < 0.7 * losses["mse"][module]
        for name in ("weighted_mse", "seqmse", "adaround"):
            assert losses[name][module] < 0.85 * nearest


@pytest.mark.parametrize("kind", ["w4", "w4_b32", "u4_b32", "mxfp4"])
def test_with_inputs_that_are_not_correlated_gptq_rounds_to_nearest(kind: str) -> None:
    weights, form = matrix(2), KINDS[kind]
    coded = Gptq(refinements=0).round(weights, form, np.eye(64, dtype=np.float32))
    zeros = (coded.multiples, coded.zeros) if isinstance(form, IntegerForm) else ()
    wanted = quantise_rows(weights, form, coded.scales, *zeros)
    np.testing.assert_array_equal(coded.codes, wanted.codes)


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("kind", ["w4", "w4_b32", "u4_b32"])
def test_gptq_rounds_as_optimal_brain_quantisation(kind: str, act_order: bool) -> None:
    """Column by column with the inverse of what is left of H, as the paper derives it."""
    weights, inputs, form = matrix(4, rows=10), correlated(5), KINDS[kind]
    moments = (inputs.T @ inputs / 300).astype(np.float32)
    moments += np.eye(64, dtype=np.float32) * np.float32(0.05 * moments.diagonal().mean())
    coded = Gptq(act_order=act_order, refinements=0).round(weights, form, moments)
    wanted = _brain_surgery(weights, moments, coded, form, act_order)
    close = np.abs(dequantise_rows(coded) - wanted) < 1e-4
    assert close.mean() > 0.98  # float32 may round a tie the other way, and what follows


def _brain_surgery(
    weights: Floats, moments: Floats, coded: CodedRows, form: Form, act_order: bool
) -> np.ndarray:
    assert isinstance(form, IntegerForm)
    width = weights.shape[1]
    block = form.block or width
    left = list(np.argsort(-moments.diagonal(), kind="stable") if act_order else range(width))
    current, result = weights.astype(np.float64), np.empty(weights.shape)
    while left:
        column, inverse = left[0], np.linalg.inv(moments.astype(np.float64)[np.ix_(left, left)])
        scale = coded.scales[:, column // block].astype(np.float64)
        zero = 0.0 if coded.zeros is None else coded.zeros[:, column // block].astype(np.float64)
        code = np.clip(np.rint(current[:, column] / scale + zero), form.lowest, form.highest)
        result[:, column] = (code - zero) * scale
        error = (current[:, column] - result[:, column]) / inverse[0, 0]
        current[:, left] -= error[:, None] * inverse[0]
        left.pop(0)
    return result


def test_sequential_mse_finds_what_trying_each_scale_finds() -> None:
    weights, inputs = matrix(6, rows=5), correlated(7)
    coded = rounded(SequentialMse(candidates=10), weights, inputs, KINDS["w4"])
    for row, scale in zip(weights, coded.scales[:, 0], strict=True):
        losses = {}
        for shrink in np.linspace(1.1, 0.35, 10):
            step = np.float32(np.abs(row).max() * np.float32(shrink / 7))
            errors = row - np.clip(np.rint(row / step), -8, 7) * step
            losses[float(step)] = np.square(inputs.astype(np.float64) @ errors).sum()
        assert scale == pytest.approx(min(losses, key=losses.__getitem__), rel=1e-5)


def test_a_corrected_bias_leaves_no_mean_error() -> None:
    weights, inputs = matrix(8), correlated(9)
    layer = layer_of(weights, inputs, KINDS["w3"])
    bias = np.ones(len(weights), np.float32)
    layer.weights[f"{MODULE}.bias"] = bias
    Nearest().apply(layer)
    BiasCorrection().apply(layer)
    wanted = inputs @ weights.T + bias
    found = inputs @ dequantise_rows(layer.coded[MODULE]).T
    before = np.abs((found + bias - wanted).mean(0)).max()
    after = np.abs((found + layer.weights[f"{MODULE}.bias"] - wanted).mean(0)).max()
    assert after < 1e-3 * before
    assert np.all(bias == 1), "written into"
    assert layer.notes[MODULE][SHIFT] > 0


def test_a_module_without_a_bias_stays_and_says_so() -> None:
    layer = layer_of(matrix(8), correlated(9), KINDS["w3"])
    Nearest().apply(layer)
    BiasCorrection().apply(layer)
    assert set(layer.weights) == {f"{MODULE}.weight"}
    assert layer.notes[MODULE]["corrected"] == 0


@pytest.mark.parametrize(
    "rounding", [AdaRound(iterations=0), SequentialMse(candidates=0), Gptq(damping=0.0)], ids=names
)
def test_options_without_a_meaning_are_refused(rounding: Algorithm) -> None:
    with pytest.raises(BadInput, match=rounding.name):
        rounding.check(tiny_config())


@pytest.mark.parametrize("rounding", INFORMED, ids=names)
def test_inputs_that_are_not_finite_name_the_module(rounding: Algorithm) -> None:
    inputs = correlated(1)
    inputs[3, 5] = np.inf
    with np.errstate(invalid="ignore"), pytest.raises(BadInput, match=r"infinite.*up_proj"):
        rounded(rounding, matrix(1), inputs, KINDS["w4"])


def test_inputs_that_say_too_little_want_damping() -> None:
    inputs = np.repeat(correlated(1)[:, :1], 64, axis=1)
    with pytest.raises(BadInput, match=r"Cholesky.*up_proj"):
        rounded(Gptq(damping=1e-12), matrix(1), inputs, KINDS["w4"])

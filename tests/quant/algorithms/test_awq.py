"""What AWQ claims, on the model that ships: less of the outputs is lost at equal bits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rewritten import example, forms_of, loud, quality, watched

from modelc.errors import BadInput
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.kinds import KINDS, Form
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.quant.algorithms.awq import LEFT, Awq, output_error, spaced
from modelc.quant.algorithms.clip import clip_to_inputs
from modelc.quant.algorithms.layer import Floats, Layer

KEPT = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.down_proj",
)
"""Those whose outputs stay what they are; others' are divided by factors of their own."""


def lost(layer: Layer, modules: Iterable[str]) -> float:
    """Return the squared error of the outputs of rounded matrices."""
    total = 0.0
    for module in modules:
        matrix, inputs = layer.weights[f"{module}.weight"], layer.inputs_of(module)
        ones = np.ones(inputs.shape[1], np.float32)
        total += output_error(matrix, layer.forms[module], inputs, ones)
    return total


@pytest.mark.parametrize("kind", ["w4_b128", "w4"])
def test_outputs_lose_less(kind: str) -> None:
    made = example(4)
    forms = forms_of(made.model, kind)
    plain, scaled = watched(made, [], forms), watched(made, [Awq(steps=4, clip=False)], forms)
    before, after = (
        [lost(layer, map(layer.path, KEPT)) for layer in layers] for layers in (plain, scaled)
    )
    assert sum(after) < 0.995 * sum(before)


def test_loud_channels_cost_less(tmp_path: Path) -> None:
    made = loud(example(2), tmp_path)
    plain, worse = quality(made, [], "w4_b128", tmp_path)
    scaled, better = quality(made, [Awq(steps=3, clip=False)], "w4_b128", tmp_path)
    assert scaled > plain + 4
    assert better < worse


def test_important_channels_get_finer_steps() -> None:
    """A channel a hundred times as loud as the others, as large models have them."""
    layer = loud_layer()
    before = lost(layer, ["lm_head"])
    Awq().apply(layer)
    norm = layer.weights["model.norm.weight"]
    assert norm[7] < norm.min() * 1.001, "divided by the most"
    assert norm[7] < 0.7 * np.median(norm)
    after = lost(layer, ["lm_head"])
    assert after < 0.5 * before
    assert layer.notes["lm_head"][LEFT] == pytest.approx(after / before, rel=1e-3)


def loud_layer() -> Layer:
    """A head whose input number 7 is loud."""
    random = np.random.default_rng(0)
    width = 64
    weights = {
        "model.norm.weight": np.ones(width, np.float32),
        "lm_head.weight": random.standard_normal((48, width)).astype(np.float32),
    }
    inputs = random.standard_normal((200, width)).astype(np.float32)
    inputs[:, 7] *= 100
    return Layer(
        "lm_head",
        example().model.config,
        weights,
        {"lm_head": KINDS["w4_b32"]},
        {"lm_head": "model.norm"},
        {"model.norm": inputs},
    )


def test_what_is_not_rounded_is_not_scaled() -> None:
    made = example(4)
    plain, scaled = watched(made, []), watched(made, [Awq()], {})
    for before, after in zip(plain, scaled, strict=True):
        assert all(np.array_equal(before.weights[n], after.weights[n]) for n in before.weights)


@settings(max_examples=10)
@given(
    seed=st.integers(0, 99),
    width=st.sampled_from([32, 48, 96]),
    kind=st.sampled_from(["w4", "w4_b32", "u4_b32", "w3_b32", "w4_lpbq"]),
)
def test_clipping_loses_less(seed: int, width: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    form = KINDS[kind]
    if width % (getattr(form, "block", 0) or 1):
        width = 96  # this is about blocks, not about what is left of them
    matrix = random.standard_t(3, (12, width)).astype(np.float32)
    inputs = (random.standard_normal((64, width)) * random.lognormal(0, 1, width)).astype("f4")
    clipped = clip_to_inputs(matrix, inputs, form)
    assert (np.abs(clipped) <= np.abs(matrix)).all()
    assert mean_error(clipped, matrix, inputs, form) <= mean_error(matrix, matrix, inputs, form)


def mean_error(rounded: Floats, wanted: Floats, inputs: Floats, form: Form) -> float:
    """Return the error of blocks, each alone, as clipping looks at it."""
    difference = dequantise_rows(quantise_rows(rounded, form)) - wanted
    width = form.block or wanted.shape[1]
    parts = range(0, wanted.shape[1], width)
    products = [inputs[:, i : i + width] @ difference[:, i : i + width].T for i in parts]
    return float(sum(np.square(p, dtype=np.float64).sum() for p in products))


def test_the_last_block_may_be_narrower() -> None:
    random = np.random.default_rng(0)
    matrix = random.standard_t(2, (8, 80)).astype(np.float32)
    inputs = random.standard_normal((50, 80)).astype(np.float32)
    clipped = clip_to_inputs(matrix, inputs, KINDS["w4_b32"])
    assert clipped.shape == matrix.shape
    assert mean_error(clipped, matrix, inputs, KINDS["w4_b32"]) < mean_error(
        matrix, matrix, inputs, KINDS["w4_b32"]
    )


def test_rows_are_evenly_spaced() -> None:
    rows = np.arange(100, dtype=np.float32)[:, None]
    assert spaced(rows, 4)[:, 0].tolist() == [0, 33, 66, 99]
    assert spaced(rows, 200) is rows
    assert spaced(rows, 4, KINDS["w8_tensor"]) is rows, "they share a scale"


@pytest.mark.parametrize("field", ["steps", "tokens", "rows"])
def test_there_is_something_to_look_at(field: str) -> None:
    with pytest.raises(BadInput, match="at least 1"):
        Awq(**{field: 0})

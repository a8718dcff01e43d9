"""What QuaRot claims, on the model that ships: outliers go, and fewer bits suffice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.rewritten import example, loud, quality, watched, worked
from support.tiny_source import tiny_config

from modelc.errors import BadInput
from modelc.quant.algorithms.layer import Algorithm, Floats, Layer
from modelc.quant.algorithms.rotate import HADAMARD, Rotate

BEHIND_NORMS = ("self_attn.q_proj", "mlp.up_proj")


def kurtosis(values: Floats) -> float:
    """3 for a normal distribution, more for longer tails."""
    wide = values.astype(np.float64)
    return float((wide**4).mean() / (wide**2).mean() ** 2)


def peak_to_rms(values: Floats) -> float:
    return float((np.abs(values).max(axis=-1) / np.sqrt((values**2).mean(axis=-1))).mean())


def test_activations_lose_their_tails() -> None:
    made = example(4)
    plain, turned = watched(made, []), watched(made, [Rotate()])
    for before, after in zip(plain, turned, strict=True):
        for module in map(before.path, BEHIND_NORMS):
            old, new = before.inputs_of(module), after.inputs_of(module)
            assert kurtosis(new) < kurtosis(old), module
            assert peak_to_rms(new) < peak_to_rms(old), module
            assert kurtosis(new) < 3.3, module


def test_four_bits_for_a_channel_lose_less(tmp_path: Path) -> None:
    made = example(4)
    plain, _ = quality(made, [], "w4", tmp_path)
    turned, _ = quality(made, [Rotate()], "w4", tmp_path)
    assert turned > plain + 0.3


def test_loud_channels_cost_no_more_than_others(tmp_path: Path) -> None:
    made = loud(example(4), tmp_path)
    plain, worse = quality(made, [], "w4", tmp_path)
    turned, better = quality(made, [Rotate()], "w4", tmp_path)
    assert turned > plain + 5
    assert better < worse


def test_norms_multiply_by_nothing_and_the_head_is_its_own() -> None:
    made = example(4)
    turned = worked(made.graph, made.model, [Rotate()])
    norms = [weight for name, weight in turned.items() if name.endswith("norm.weight")]
    assert len(norms) == 2 * made.model.config.layers + 1
    assert all(np.array_equal(norm, np.ones_like(norm)) for norm in norms)
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= turned.keys()


def test_notes_say_what_kind_of_rotation_it_was() -> None:
    made = example(4)
    assert all(
        layer.notes[layer.path(name)][HADAMARD] == 1
        for layer in watched(made, [Rotate()])
        for name in BEHIND_NORMS
    )
    odd = tiny_config(hidden_size=6)
    weights = {"model.norm.weight": np.ones(6, "f4"), "lm_head.weight": np.ones((4, 6), "f4")}
    layer = Layer("lm_head", odd, weights, {})
    Rotate().apply(layer)
    assert layer.notes["lm_head"][HADAMARD] == 0


def test_what_was_seen_before_is_forgotten() -> None:
    made = example(4)
    fresh = watched(made, [Rotate()])
    seen = watched(made, [See(), Rotate()])
    for one, other in zip(fresh, seen, strict=True):
        module = one.path("self_attn.q_proj")
        assert np.array_equal(one.inputs_of(module), other.inputs_of(module))


class See(Algorithm):
    """Wants inputs, before another algorithm turns them."""

    name = "see"
    needs_inputs = True

    def apply(self, layer: Layer) -> None:
        pass


def test_norms_behind_linear_layers_are_refused() -> None:
    config = tiny_config(architecture="gemma2")
    with pytest.raises(BadInput, match="gemma2") as raised:
        Rotate().check(config)
    assert "rotate" in raised.value.hint
    Rotate(stream=False).check(config)
    Rotate().check(tiny_config())

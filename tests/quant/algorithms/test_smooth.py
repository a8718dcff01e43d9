"""What SmoothQuant claims, on the model that ships."""

from __future__ import annotations

import numpy as np
import pytest
from support.rewritten import example, watched

from modelc.errors import BadInput
from modelc.quant.algorithms.layer import Floats, Layer
from modelc.quant.algorithms.smooth import Smooth

MODULES = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)


def in_steps(values: Floats, axis: int | None) -> Floats:
    """Round to 8 bits over all (None), or for each row (-1)."""
    step = np.abs(values).max(axis=axis, keepdims=True) / 127
    return np.rint(values / step) * step


def error_db(layer: Layer, module: str) -> float:
    """Of the output with int8 inputs of one scale and int8 weights of one for each row."""
    inputs, matrix = layer.inputs_of(module), layer.weights[f"{module}.weight"]
    wanted = inputs @ matrix.T
    lost = in_steps(inputs, None) @ in_steps(matrix, -1).T - wanted
    return float(10 * np.log10(np.square(lost).sum() / np.square(wanted).sum()))


def test_int8_activations_lose_less() -> None:
    made = example(4)
    plain, smooth = watched(made, []), watched(made, [Smooth()])
    gains = {
        before.path(name): error_db(before, before.path(name)) - error_db(after, after.path(name))
        for before, after in zip(plain, smooth, strict=True)
        for name in MODULES
    }
    assert np.mean(list(gains.values())) > 0.5, gains


def test_half_of_the_range_moves() -> None:
    for layer in watched(example(4), [Smooth(alpha=0.5, linears=False)]):
        behind = [f"{layer.path(name)}.weight" for name in MODULES[:3]]
        columns = np.max([np.abs(layer.weights[name]).max(axis=0) for name in behind], axis=0)
        inputs = np.abs(layer.inputs_of(layer.path(MODULES[0]))).max(axis=0)
        assert np.allclose(columns, inputs, rtol=1e-4)


def test_all_of_it_moves() -> None:
    for layer in watched(example(4), [Smooth(alpha=1, linears=True)]):
        for name in ("self_attn.q_proj", "mlp.up_proj", "mlp.down_proj"):
            peaks = np.abs(layer.inputs_of(layer.path(name))).max(axis=0)
            assert np.allclose(peaks, 1, rtol=1e-4)


def test_inputs_are_what_the_layer_would_see() -> None:
    made = example(4)
    plain, smooth = watched(made, []), watched(made, [Smooth(linears=True)])
    for before, after in zip(plain, smooth, strict=True):
        for module in map(before.path, ("self_attn.k_proj", "self_attn.o_proj", "mlp.down_proj")):
            old, new = (
                layer.inputs_of(module) @ layer.weights[f"{module}.weight"].T
                for layer in (before, after)
            )
            assert np.allclose(old, new, atol=1e-3 * np.abs(old).max())
            assert not np.allclose(before.inputs_of(module), after.inputs_of(module))


def test_attention_and_feed_forward_keep_theirs() -> None:
    made = example(4)
    plain, smooth = watched(made, []), watched(made, [Smooth(linears=False)])
    module = plain[0].path("mlp.down_proj")
    assert np.allclose(plain[0].inputs_of(module), smooth[0].inputs_of(module))


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_alpha_is_a_share(alpha: float) -> None:
    with pytest.raises(BadInput, match="alpha"):
        Smooth(alpha=alpha)


def test_silent_channels_stay() -> None:
    config = example(4).model.config
    weights = {
        "model.norm.weight": np.ones(config.hidden_size, np.float32),
        "lm_head.weight": np.full((4, config.hidden_size), 4, np.float32),
    }
    weights["lm_head.weight"][:, 1] = 0
    inputs = np.full((3, config.hidden_size), 9, np.float32)
    inputs[:, 0] = 0
    layer = Layer("lm_head", config, weights, {}, {"lm_head": "model.norm"}, {"model.norm": inputs})
    Smooth().apply(layer)
    assert np.allclose(layer.weights["model.norm.weight"], [1, 1, *[2 / 3] * (len(inputs[0]) - 2)])

"""The float graphs: golden texts of their passes, and Genie's loop against the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.golden import check_golden
from support.htp_graphs import (
    CONTEXT,
    VARIANTS,
    generate,
    lower,
    make_source,
    op_types,
    reference,
    session,
)
from support.tiny_source import tiny_config, tiny_source

from modelc.decoder.config import Rope
from modelc.errors import BadInput
from modelc.ir.text import to_text

GOLDEN = Path(__file__).parent / "golden"
STEPS = ["ExpandComposites", "SpecialiseShapes", "GenieContract", "ScaleQueries"]


@pytest.mark.parametrize("step", STEPS)
def test_golden_text_after(step: str) -> None:
    """The text after one pass is the text before the next."""
    source = tiny_source(tiny_config(layers=1, rope=Rope(dim=4)))
    check_golden(GOLDEN / f"{step}.txt", to_text(lower(source, step)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_prefill_and_decode_equal_the_reference(variant: str, tmp_path: Path) -> None:
    source = make_source(tmp_path, **VARIANTS[variant])
    graphs = {
        ar: session(lower(source, "ScaleQueries", ar), tmp_path / f"ar{ar}.onnx") for ar in (4, 1)
    }
    expected = reference(source)
    found = generate(source, graphs)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_every_size_is_a_number() -> None:
    model = lower(tiny_source(tiny_config()), "SpecialiseShapes", ar=3)
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    assert all(value.shape.is_static() for value in values)
    caches = {tuple(value.shape) for value in model.graph.inputs if len(value.shape) == 4}
    assert caches == {(1, 2, CONTEXT - 3, 8)}


@pytest.mark.parametrize("ar", [0, CONTEXT, CONTEXT + 1])
def test_tokens_that_leave_no_past_are_refused(ar: int) -> None:
    with pytest.raises(BadInput, match=f"AR-{ar} doesn't fit"):
        lower(tiny_source(tiny_config()), "SpecialiseShapes", ar)


def test_genies_tensors() -> None:
    model = lower(tiny_source(tiny_config(rope=Rope(dim=4))), "GenieContract", ar=5)
    past = CONTEXT - 5
    inputs = {value.name: (value.dtype.name, tuple(value.shape)) for value in model.graph.inputs}
    caches = {
        f"past_{kind}_{layer}_in": ("FLOAT", sizes)
        for layer in (0, 1)
        for kind, sizes in (("key", (2, 1, 8, past)), ("value", (2, 1, past, 8)))
    }
    assert inputs == {
        "input_ids": ("INT32", (1, 5)),
        "attention_mask": ("FLOAT", (1, 1, 5, CONTEXT)),
        "position_ids_cos": ("FLOAT", (1, 1, 5, 2)),
        "position_ids_sin": ("FLOAT", (1, 1, 5, 2)),
        **caches,
    }
    outputs = {value.name: tuple(value.shape) for value in model.graph.outputs}
    assert outputs == {
        "logits": (1, 5, 40),
        "past_key_0_out": (2, 1, 8, 5),
        "past_value_0_out": (2, 1, 5, 8),
        "past_key_1_out": (2, 1, 8, 5),
        "past_value_1_out": (2, 1, 5, 8),
    }
    assert "model.layers.1.self_attn.probabilities" in to_text(model)
    assert not {"Where", "Range", "Shape", "Unsqueeze"} & set(op_types(model))


def test_a_window_within_the_context_is_refused() -> None:
    source = tiny_source(tiny_config(windows=(0, CONTEXT - 1)))
    with pytest.raises(BadInput, match=f"look back {CONTEXT - 1} positions") as caught:
        lower(source, "GenieContract")
    assert caught.value.hint == f"use --context-length {CONTEXT - 1} or less"


def test_the_scale_is_applied_to_queries() -> None:
    model = lower(tiny_source(tiny_config(layers=1)), "ScaleQueries", ar=4)
    scale = model.graph.initializers["model.layers.0.self_attn.scale"]
    (scaling,) = scale.consumers()
    assert tuple(scaling.outputs[0].shape) == (2, 2, 4, 8)
    assert "self_attn.scores" not in to_text(model)

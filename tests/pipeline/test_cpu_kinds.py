"""What a recipe with kinds of weights becomes on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelc.errors import BadInput
from modelc.pipeline.family_cpu import CPU
from modelc.pipeline.job import Job, make_job
from modelc.pipeline.make_recipe import make_recipe

SOURCE = Path(__file__).parents[2] / "examples" / "tiny-llm" / "hf"


def job(**options: Any) -> Job:
    return make_job(SOURCE, make_recipe(None, {"target": "cpu", **options}))


def lowering(made: Job) -> dict[str, Any]:
    return dict(CPU.steps(made)[-1].options)


def test_options_of_the_passes() -> None:
    overrides = {"layers.0.*.q_proj": "mxfp4"}
    options = lowering(job(quant="w4_b32_a8", overrides=overrides))
    assert options["weights"] == "kinds" and options["activations"] == "int8_dynamic"
    assert options["kinds"] == {
        "": "w4_b32",
        "lm_head": "w8",
        "model.layers.0.self_attn.q_proj": "mxfp4",
    }
    assert lowering(job(quant="q8_0"))["weights"] == "q8_0"
    with pytest.raises(BadInput, match="has no kinds of weights to override"):
        CPU.steps(job(quant="q8_0", overrides=overrides))


def test_an_alias_brings_its_algorithms() -> None:
    recipe = job(quant="q4f16_autoawq").recipe
    assert (recipe.quant, recipe.algorithms) == ("u4_b128", ("awq",))
    assert job(quant="q4f16_autoawq", algorithms="gptq").recipe.algorithms == ("gptq",)
    assert job(quant="q4f16_1").recipe.algorithms == ()


def test_activations_that_are_not_calibrated() -> None:
    with pytest.raises(BadInput, match="w4_b32_a8 has no ranges of activations"):
        job(quant="w4_b32_a8", calibration_samples=3)

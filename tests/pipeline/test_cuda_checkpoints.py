"""What came quantised is packed for CUDA's kernels as it is, by the scheme chosen for it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support import quantised_folders, random_models
from support.cuda_models import decibels, float_logits, opened, options
from support.quantised_folders import CASES, Case, float8

from modelc.frontends import read_model
from modelc.pipeline.cuda_plan import lower
from modelc.pipeline.job import make_job
from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.module_kinds import cuda_kinds, most_and_others
from modelc.targets.cuda.requantised import requantised

TOKENS = [int(n) for n in np.random.default_rng(1).integers(0, random_models.VOCAB, 30)]
WHOLE_BLOCKS = Case(CASES["fp8-block"].settings | {"weight_block_size": [128, 128]},
                    partial(float8, block=(128, 128), name="weight_scale_inv"))  # fmt: skip
KEPT = {
    "awq": (CASES["awq"], "u4f16_b32"),
    "gptq": (CASES["gptq"], "w4f16_b32"),
    "gptq-asymmetric": (CASES["gptq-asymmetric"], "u4f16_b32"),
    "packed-int4": (CASES["packed-int4"], "w4f16_b32"),
    "float8-tensor": (CASES["float8-tensor"], "fp8"),
    "float8-channel": (CASES["float8-channel"], "fp8_channel"),
    "fp8-blocks-of-128": (WHOLE_BLOCKS, "fp8_block"),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.make("llama-bias", tmp_path_factory.mktemp("plain") / "model")


@pytest.mark.parametrize("name", KEPT)
def test_codes_are_kept(name: str, plain: Path, tmp_path: Path) -> None:
    case, scheme = KEPT[name]
    quantised_folders.write(plain, tmp_path / "model", case)
    # Blocks as wide as these layers are would do for a tensor's one scale as well.
    asked = {"quant": scheme} if scheme == "fp8_block" else {}
    job = make_job(tmp_path / "model", make_recipe(None, {"target": "cuda:sm90", **asked}))
    assert job.scheme.name == scheme and not job.recipe.algorithms
    model = read_model(tmp_path / "model")
    # Floats are float32 here, so what is off would be codes or scales.
    kinds = most_and_others({**cuda_kinds(job, model), "lm_head": "float"})
    given = options(model) | {"kinds": kinds, "max_batch": 1}
    runtime = opened(model, tmp_path / "plan", given)
    from modelc.decoder.builder import build_decoder

    _, weights = lower(build_decoder(model, 96), given, 96)
    assert requantised(weights) == {}
    decode = np.concatenate(
        [runtime._executor.decode([_piece(n, t)]).numpy().copy() for n, t in enumerate(TOKENS)]
    )
    # Decoding multiplies codes by float activations: nothing at all is rounded.
    assert decibels(decode, float_logits(model, TOKENS)) > 60


def _piece(position: int, token: int):  # type: ignore[no-untyped-def]
    from modelc.targets.cuda.executor import Piece

    return Piece([token], position, range(2))


def test_codes_that_no_kernel_reads_are_said_to_change(plain: Path, tmp_path: Path) -> None:
    quantised_folders.write(plain, tmp_path / "model", CASES["nf4"])
    model = read_model(tmp_path / "model")
    from modelc.decoder.builder import build_decoder

    given = options(model, "w4_b32", act="fp16")
    _, weights = lower(build_decoder(model, 96), given, 96)
    changed = requantised(weights)
    assert changed and all(row["relative_error"] > 0 for row in changed.values())


def test_an_alias_runs_its_algorithm_only_where_there_is_something_to_quantise(
    plain: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(None, {"target": "cuda:sm90", "quant": "awq"})
    assert make_job(plain, recipe).recipe.algorithms == ("awq",)
    quantised_folders.write(plain, tmp_path / "model", CASES["awq"])
    assert make_job(tmp_path / "model", recipe).recipe.algorithms == ()

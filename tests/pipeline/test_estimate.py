"""What is estimated is what is compiled: compared with bundles and with transformers."""

from pathlib import Path

import pytest
from support import random_models
from support.commands import Ran

from modelc.errors import BadInput
from modelc.pipeline.compile import compile_source
from modelc.pipeline.estimate import HTP_LIMIT, Estimate, estimate_source
from modelc.pipeline.inspect import inspect_path
from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.store import Store
from modelc.quant.schemes import SCHEMES

# head_dim 16, 2 layers, 2 key heads.
KV_ELEMENTS = 2 * 2 * 2 * 16


def estimate(source: Path, **options: object) -> Estimate:
    return estimate_source(source, make_recipe(None, options))


def test_parameters_are_those_of_the_model(llama_folder: Path, llama_gguf: Path) -> None:
    count = sum(p.numel() for p in random_models.model("llama").parameters())
    assert estimate(llama_folder, target="cpu").parameters == count
    assert estimate(llama_gguf, target="cpu").parameters == count


def test_weights_are_those_of_the_bundle(llama_gguf: Path, compiled: tuple[Path, Ran]) -> None:
    found = estimate(llama_gguf, target="cpu")
    shipped = (compiled[0] / "model.onnx.data").stat().st_size
    assert found.parts[0].weights == pytest.approx(shipped, rel=0.15)  # rotary tables, alignment


@pytest.mark.parametrize(("target", "quant", "width"), [
    ("cpu", "fp32", 4), ("snapdragon-8-elite", "fp16", 2), ("snapdragon-8-elite", "w8a16", 1),
])  # fmt: skip
def test_cache_grows_with_the_context(
    target: str, quant: str, width: int, llama_folder: Path
) -> None:
    ar = {"ar": "16,1"} if target != "cpu" else {}
    for length in (192, 256):
        found = estimate(llama_folder, target=target, quant=quant, context_length=length, **ar)
        assert found.kv_per_token == KV_ELEMENTS * width
        assert found.parts[0].kv_cache == found.kv_per_token * length


def test_parameters_that_a_token_meets(tmp_path: Path) -> None:
    source = random_models.make("mixtral", tmp_path / "model")
    found = estimate(source, target="cpu")
    assert found.parameters == sum(p.numel() for p in random_models.model("mixtral").parameters())
    # Two of four experts in two layers stay idle.
    assert found.parameters - found.active_parameters == 2 * 2 * 3 * 64 * 128
    assert "M for each token)" in found.title
    facts = inspect_path(source).facts
    assert facts["parameters"] == found.parameters
    assert facts["active_parameters"] == found.active_parameters
    for options in ({"target": "snapdragon-8-elite", "ar": "16,1"}, {"target": "qaic:ai100"}):
        with pytest.raises(BadInput, match="mixtral is a mixture of experts"):
            estimate(source, **options)


def test_fewer_bits_take_less(llama_folder: Path) -> None:
    sizes = [
        estimate(llama_folder, target="cpu", quant=quant).parts[0].weights
        for quant in ("fp32", "q8_0", "q4_0")
    ]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


@pytest.mark.parametrize("quant", ["w4_b32", "u4_b128", "w4_b32_a8"])
def test_codes_are_those_of_the_bundle(llama_folder: Path, tmp_path: Path, quant: str) -> None:
    found = estimate(llama_folder, target="cpu", quant=quant)
    options = {"target": "cpu", "quant": quant, "verify_min_sqnr_db": 0, "verify_min_top1": 0}
    recipe = make_recipe(None, {**options, "verify_max_perplexity_ratio": 100})
    compile_source(llama_folder, recipe, tmp_path / "bundle", store=Store(tmp_path / "store"))
    shipped = (tmp_path / "bundle" / "model.onnx.data").stat().st_size
    # The head's eight bits are widened when they are loaded.
    head = 0 if quant.endswith("_a8") else 3 * random_models.VOCAB * 64
    assert found.parts[0].weights - head == pytest.approx(shipped, rel=0.15)


@pytest.mark.parametrize(
    "quant", [row.name for row in SCHEMES.values() if "cpu" in row.families and row.name != "gguf"]
)
def test_every_scheme_takes_no_more_than_floats(llama_folder: Path, quant: str) -> None:
    floats = estimate(llama_folder, target="cpu", quant="fp32").parts[0].weights
    assert 0 < estimate(llama_folder, target="cpu", quant=quant).parts[0].weights <= floats


def test_activations_are_at_least_a_product(llama_folder: Path) -> None:
    found = estimate(llama_folder, target="cpu")
    assert found.parts[0].activations >= found.new_tokens * 128 * 4  # an MLP's product


def test_the_verdict(llama_folder: Path) -> None:
    from dataclasses import replace

    found = estimate(llama_folder, target="snapdragon-8-elite", ar="16,1")
    assert found.limit == HTP_LIMIT and found.fits
    assert not replace(found, limit=found.largest - 1).fits
    document = found.document()
    assert document["fits"] is True
    part = document["parts"][0]
    assert part["total"] == part["weights"] + part["kv_cache"] + part["activations"]


def test_it_refuses_what_compile_refuses(llama_folder: Path) -> None:
    with pytest.raises(BadInput, match="longer than the model's 256"):
        estimate(llama_folder, target="cpu", context_length=1000)


def test_parts_add_up(llama_folder: Path) -> None:
    one, three = (
        estimate(llama_folder, target="snapdragon-8-elite", ar="16,1", splits=splits).parts
        for splits in (1, 3)
    )
    assert [part.holds for part in three] == ["embedding", "layer 0", "layer 1 + head"]
    assert sum(part.weights for part in three) == one[0].weights
    assert sum(part.kv_cache for part in three) == one[0].kv_cache

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.errors import BadInput
from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.recipe_sections import Calibration
from modelc.quant.observers import OBSERVERS

TOML = """
target = "snapdragon-8-elite"
quant = "w8a16"
ar = [1, 64]

[calibration]
text = "texts/calibration.txt"
samples = 4

[verify]
min_top1 = 0.8
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(TOML)
    return path


def test_defaults() -> None:
    recipe = make_recipe(None, {"target": "cpu"})
    assert recipe == Recipe(target="cpu")
    assert (recipe.ar, recipe.splits, recipe.gguf, recipe.quant) == (
        (128, 1),
        "auto",
        "exact",
        None,
    )


def test_file(recipe_file: Path) -> None:
    recipe = make_recipe(recipe_file, {})
    assert (recipe.target, recipe.quant, recipe.ar) == ("snapdragon-8-elite", "w8a16", (64, 1))
    assert recipe.calibration.text == recipe_file.parent / "texts" / "calibration.txt"
    assert (recipe.calibration.samples, recipe.verify.min_top1) == (4, 0.8)


def test_options_win_and_leave_the_rest(recipe_file: Path) -> None:
    options = {"quant": "fp16", "ar": "32,1", "splits": "2", "verify_text": Path("held.txt")}
    recipe = make_recipe(recipe_file, {**options, "calibration_samples": 9})
    assert (recipe.quant, recipe.ar, recipe.splits) == ("fp16", (32, 1), 2)
    assert (recipe.verify.text, recipe.verify.min_top1) == (Path("held.txt"), 0.8)
    assert recipe.calibration.samples == 9


def test_data_take_the_place_of_a_text(recipe_file: Path) -> None:
    recipe = make_recipe(recipe_file, {"calibration_data": Path("rows.jsonl")})
    assert (recipe.calibration.text, recipe.calibration.data) == (None, Path("rows.jsonl"))
    text = TOML.replace("text = ", "data = ", 1)
    recipe_file.write_text(text)
    recipe = make_recipe(recipe_file, {})
    assert recipe.calibration.data == recipe_file.parent / "texts" / "calibration.txt"
    recipe = make_recipe(recipe_file, {"calibration_text": Path("a.txt")})
    assert (recipe.calibration.text, recipe.calibration.data) == (Path("a.txt"), None)


def test_every_observer_can_be_asked_for() -> None:
    said = get_args(Calibration.model_fields["observer"].annotation)
    assert list(said) == list(OBSERVERS)


def test_all_problems_are_told_at_once(recipe_file: Path) -> None:
    recipe_file.write_text('quants = "q8_0"\nar = [128]\ngguf = "quick"\n[verify]\nmintop1 = 2\n')
    with pytest.raises(BadInput) as caught:
        make_recipe(recipe_file, {"context_length": 0, "splits": "many", "memory_limit": "much"})
    text = caught.value.message
    assert "target is not given" in text
    assert "no option is called quants" in text
    assert "no option is called verify.mintop1" in text
    assert "gguf: Input should be 'exact' or 'fast'" in text
    assert "memory_limit: a size such as 8G" in text
    assert "context_length: Input should be greater than or equal to 1" in text
    assert "splits: " in text
    assert "quants: did you mean quant" in caught.value.hint
    assert "mintop1: did you mean min_top1" in caught.value.hint
    assert caught.value.where.path == str(recipe_file)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ar": "128,x"}, "ar: "),
        ({"context_length": "512,"}, "context_length: "),
        ({"format": "genie,zip"}, "format: "),
        ({"kv_bits": 4}, "kv_bits: "),
        ({"ar": []}, "ar: "),
        ({"splits": 0}, "splits: "),
        ({"verify_tokens": 1}, "verify.tokens: "),
        ({"verify": 3}, "verify: "),
        ({"verify_min_sqnr_db": float("inf")}, "verify.min_sqnr_db: "),
        ({"target": ""}, "target: "),
        ({"calibration_observer": "max"}, "calibration.observer: "),
        ({"calibration_percentile": 101, "calibration_observer": "percentile"}, "percentile: "),
        ({"calibration_percentile": 99}, "min-max has no use for a percentile"),
        ({"calibration_text": "a", "calibration_data": "b"}, "text and data, of which"),
    ],
)
def test_wrong_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        make_recipe(None, {"target": "cpu", **options})
    assert message in caught.value.message


@pytest.mark.parametrize("data", [b"target = ", b"\xff\xfe", b"a = " + b"[" * 100_000])
def test_a_file_that_is_no_toml(recipe_file: Path, data: bytes) -> None:
    recipe_file.write_bytes(data)
    with pytest.raises(BadInput, match="no TOML"):
        make_recipe(recipe_file, {})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't be read"):
        make_recipe(tmp_path / "none.toml", {})


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@settings(max_examples=60)
@given(
    target=WORDS,
    quant=st.none() | WORDS,
    ar=st.sets(st.integers(2, 4096), max_size=3),
    splits=st.just("auto") | st.integers(1, 64),
    contexts=st.sets(st.integers(1, 4096), max_size=3),
    overrides=st.dictionaries(WORDS, WORDS, max_size=3),
    sqnr=st.none() | st.floats(-1e9, 1e9),
    ratio=st.none() | st.floats(1e-9, 1e9),
)
def test_a_recipe_can_be_repeated_from_its_toml(
    tmp_path_factory: pytest.TempPathFactory,
    target: str,
    quant: str | None,
    ar: set[int],
    splits: str | int,
    contexts: set[int],
    overrides: dict[str, str],
    sqnr: float | None,
    ratio: float | None,
) -> None:
    options = {"target": target, "quant": quant, "ar": [*ar, 1], "splits": splits}
    options |= {"context_length": [*contexts], "overrides": overrides}
    limits = {"verify_min_sqnr_db": sqnr, "verify_max_perplexity_ratio": ratio}
    recipe = make_recipe(None, {**options, **limits})
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8", newline="")
    assert make_recipe(path, {}) == recipe

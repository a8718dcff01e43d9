"""The table of tuned tiles: which row a variant gets, and what a stranger's table may hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.cuda_plans import tiny_plan

from modelc.errors import BadInput
from modelc.pipeline.fingerprint import fingerprints
from modelc.pipeline.job import make_job
from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.plans import make_plan, with_texts
from modelc.pipeline.sources import Sources
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps_cuda import KERNEL_FACTS, PLAN, compile_kernels
from modelc.pipeline.store import Store
from modelc.targets.cuda.candidates import candidates, fits
from modelc.targets.cuda.choices import CHOICES
from modelc.targets.cuda.gpus import ARCHES
from modelc.targets.cuda.kernel import Tile
from modelc.targets.cuda.kernel_table import KERNELS
from modelc.targets.cuda.plan import save_plan
from modelc.targets.cuda.tile_table import (
    TileTable,
    TunedTile,
    read_tiles,
    save_tiles,
    shipped,
    table_of,
    table_with,
)
from modelc.targets.cuda.tiles import launched_tokens, tiled
from modelc.targets.cuda.variant import Variant

TYPES = {"x": "bf16", "w": "bf16", "out": "bf16"}


def linear(n: int, k: int, **changes: Any) -> Variant:
    constants = {"N": n, "K": k, "activation": "none", **changes}
    return Variant("linear", TYPES, constants)


def row(n: int, k: int, width: int, tokens: tuple[int, int] = (512, 512)) -> TunedTile:
    """A made-up one, known by its BLOCK_N."""
    return TunedTile(
        kernel="linear", arch=90, types=TYPES,
        constants={"N": n, "K": k, "activation": "none"}, tokens=tokens,
        tile={"BLOCK_M": 64, "BLOCK_N": width, "BLOCK_K": 64}, warps=4, stages=3,
        microseconds=1.0, default_microseconds=2.0, gpu="a double", triton="3",
    )  # fmt: skip


def width(variant: Variant, table: TileTable, tokens: int = 512, arch: int = 90) -> int:
    return tiled(variant, arch, tokens=tokens, table=table).tile.values["BLOCK_N"]


def test_a_variant_gets_its_own_row_then_the_nearest_then_its_default() -> None:
    table = table_of([row(4096, 4096, 16), row(8192, 4096, 32), row(1024, 1024, 64)])
    assert width(linear(4096, 4096), table) == 16
    assert width(linear(7000, 4096), table) == 32
    assert width(linear(1024, 1500), table) == 64
    far = linear(128256, 128256)
    assert tiled(far, 90, table=table).tile == KERNELS["linear"].tile(far.constants, 90)


def test_rows_are_for_their_architecture_and_their_kind_of_kernel() -> None:
    table = table_of([row(4096, 4096, 16)])
    for variant, arch in ((linear(4096, 4096), 80), (linear(4096, 4096, activation="silu"), 90)):
        assert tiled(variant, arch, table=table).tile == variant.row.tile(variant.constants, arch)
    half = replace(linear(4096, 4096), types=dict.fromkeys(TYPES, "fp16"))
    assert width(half, table) == 16  # the same 16 bits
    exact = replace(half, types={**TYPES, "out": "fp32"})
    assert width(exact, table) != 16


def test_of_one_shape_the_row_of_its_tokens_counts() -> None:
    table = table_of([row(4096, 4096, 16, (17, 64)), row(4096, 4096, 32, (512, 512))])
    assert [width(linear(4096, 4096), table, n) for n in (64, 100, 400, 2048)] == [16, 16, 32, 32]


def test_what_may_not_be_chosen_is_the_variants_own() -> None:
    plan = tiny_plan()
    variant = next(one for one in plan.variants.values() if one.kernel == "rope_write")
    tuned = TunedTile(
        kernel="rope_write", arch=90, types=dict(variant.types),
        constants={k: v for k, v in variant.constants.items() if k != "epsilon"}, tokens=(1, 32),
        tile={"HEADS": 2}, warps=1, stages=1, microseconds=1.0, default_microseconds=1.0,
        gpu="a double", triton="3",
    )  # fmt: skip
    default = variant.row.tile(variant.constants, 90)
    found = tiled(variant, 90, table=table_of([tuned])).tile
    assert found == Tile({**default.values, "HEADS": 2}, 1, 1)
    assert found != default


def test_a_tile_that_would_cut_groups_apart_is_passed_over() -> None:
    constants = {
        "N": 64, "K": 512, "group": 128, "experts": 4, "used": 2, "block": 16,
        "activation": "none", "shared_input": True,
    }  # fmt: skip
    types = {"x": "bf16", "codes": "u8", "scales": "fp16", "out": "bf16"}
    tuned = TunedTile(
        kernel="expert_int4_linear", arch=90, types=types, constants=constants, tokens=(32, 32),
        tile={"BLOCK_N": 32, "GROUPS": 4}, warps=4, stages=2, microseconds=1.0,
        default_microseconds=1.0, gpu="a double", triton="3",
    )  # fmt: skip
    table = table_of([tuned])
    own = Variant("expert_int4_linear", types, constants)
    assert tiled(own, 90, table=table).tile.values["GROUPS"] == 4
    odd = Variant("expert_int4_linear", types, {**constants, "K": 640})
    assert tiled(odd, 90, table=table).tile == odd.row.tile(odd.constants, 90)


def test_what_modelc_ships_is_sound_and_the_users_own_comes_before_it(tmp_path: Path) -> None:
    save_tiles([row(4096, 4096, 16), row(64, 64, 32)], tmp_path / "own.json")
    assert (
        read_tiles(tmp_path / "own.json") == table_of([row(64, 64, 32), row(4096, 4096, 16)]).rows
    )
    both = table_with(tmp_path / "own.json")
    assert len(both.rows) >= len(shipped().rows)
    assert width(linear(4096, 4096), both) == 16
    again = table_of([*both.rows, row(4096, 4096, 64)])
    assert width(linear(4096, 4096), again) == 64
    assert len(again.rows) == len(both.rows)


def change(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: document["tiles"][0].update(changes)


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "format": lambda document: document.update(format=7),
    "no rows": lambda document: document.pop("tiles"),
    "kernel": change(kernel="liner"),
    "sampling has no tiles": change(kernel="sample_peak"),
    "architecture": change(arch=91),
    "fixed value": change(tile={"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "GROUP_M": 8}),
    "missing value": change(tile={"BLOCK_M": 64}),
    "zero": change(tile={"BLOCK_M": 0, "BLOCK_N": 64, "BLOCK_K": 64}),
    "negative": change(tile={"BLOCK_M": -64, "BLOCK_N": 64, "BLOCK_K": 64}),
    "no power of two": change(tile={"BLOCK_M": 96, "BLOCK_N": 64, "BLOCK_K": 64}),
    "absurd": change(tile={"BLOCK_M": 1 << 30, "BLOCK_N": 64, "BLOCK_K": 64}),
    "warps": change(warps=3),
    "many warps": change(warps=64),
    "stages": change(stages=0),
    "many stages": change(stages=10**9),
    "types": change(types={"x": "bf17"}),
    "tensors": change(types={"z": "bf16"}),
    "constants": change(constants={"N": 1, "K": 1, "activation": "none", "M": 1}),
    "shape": change(constants={"N": "many", "K": 1, "activation": "none"}),
    "huge shape": change(constants={"N": 1 << 60, "K": 1, "activation": "none"}),
    "tokens": change(tokens=[8, 4]),
    "no time": change(microseconds=0.0),
    "text for a number": change(warps="many"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_strangers_table_is_checked(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tiles.json"
    save_tiles([row(64, 64, 16)], path)
    document = json.loads(path.read_text())
    WRONG[name](document)
    path.write_text(json.dumps(document))
    with pytest.raises(BadInput) as caught:
        read_tiles(path)
    assert caught.value.hint


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("[" * 100000)
    for path in (tmp_path / "text", tmp_path / "absent", tmp_path):
        with pytest.raises(BadInput):
            read_tiles(path)


def test_choices_are_of_kernels_and_their_tiles() -> None:
    assert {name for name in KERNELS if name not in CHOICES} == {
        "sample", "sample_bins", "sample_groups", "sample_peak",
    }  # fmt: skip
    for name, choices in CHOICES.items():
        assert set(choices.values) <= set(KERNELS[name].tile_names)
        for values in choices.values.values():
            assert all(value > 0 and value & (value - 1) == 0 for value in values)


@pytest.mark.parametrize("kind", ["float", "w4_b32", "e4m3_b128"])
def test_the_default_comes_first_and_all_suit(kind: str) -> None:
    plan = tiny_plan(kinds={"": kind})
    # Kernels that choose tokens have one tile.
    free = [variant for variant in plan.variants.values() if variant.kernel in CHOICES]
    for variant in free:
        for arch in ARCHES:
            if variant.row.since <= arch:
                first, *others = candidates(variant, arch)
                assert first.tile == variant.row.tile(variant.constants, arch)
                assert all(fits(variant, one.tile) for one in (first, *others))
                assert len({one.key for one in others}) == len(others) <= 120


def test_tokens_are_those_of_the_functions_that_launch_it() -> None:
    plan = tiny_plan()
    tokens = {plan.variants[key].kernel: span for key, span in launched_tokens(plan).items()}
    assert tokens["rms_norm"] == (1, 32)
    assert tokens["attention_prefill"] == (32, 32)
    assert tokens["attention_decode"] == (1, 2)


def test_a_table_enters_the_kernels_key_alone_and_goes_into_the_bundle(
    llama_folder: Path, tmp_path: Path
) -> None:
    def keys(width: int) -> dict[str, str]:
        save_tiles([row(64, 64, width)], tmp_path / "own.json")
        (tmp_path / "recipe.toml").write_text('[cuda]\ntiles = "own.json"\n')
        recipe = make_recipe(tmp_path / "recipe.toml", {"target": "cuda:sm90"})
        job = make_job(llama_folder, recipe)
        sources = Sources(Store(tmp_path / "store"), job.sources)
        resolved, files = with_texts(job.recipe, sources, 64)
        assert resolved.cuda.tiles == Path("tiles.json")
        assert "tiles.json" in files
        found = fingerprints(make_plan(job), sources.digests)
        return {name: one.key for name, one in found.items()}

    first, again, other = keys(16), keys(16), keys(32)
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {"kernels.sm90"}


def test_a_wrong_table_ends_a_compile_before_it_begins(llama_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text("{}")
    recipe = make_recipe(None, {"target": "cuda:sm90", "cuda_tiles": str(tmp_path / "own.json")})
    with pytest.raises(BadInput, match="no table of tiles"):
        make_plan(make_job(llama_folder, recipe))


def test_kernels_are_compiled_with_the_tiles_of_the_table(tmp_path: Path) -> None:
    plan = tiny_plan()
    key, variant = next((k, v) for k, v in plan.variants.items() if v.kernel == "rms_norm")
    functions = tuple(
        replace(
            one,
            calls=tuple(call for call in one.calls if call.kernel == key),
            greedy=(),
            sampled=(),
        )
        for one in plan.functions
    )
    (tmp_path / "lower").mkdir()
    save_plan(
        replace(plan, variants={key: variant}, functions=functions), tmp_path / "lower" / PLAN
    )
    tuned = TunedTile(
        kernel="rms_norm", arch=90, types=dict(variant.types), constants={"width": 64},
        tokens=(1, 32), tile={}, warps=2, stages=1, microseconds=1.0, default_microseconds=2.0,
        gpu="a double", triton="3",
    )  # fmt: skip
    save_tiles([tuned], tmp_path / "own.json")
    folders = {name: tmp_path / name for name in ("out", "scratch", "partial")}
    for folder in folders.values():
        folder.mkdir()
    context = StepContext(
        inputs={"lower": tmp_path / "lower"}, options={"arch": 90},
        sources={"tiles": tmp_path / "own.json"}, **folders,
    )  # fmt: skip
    compile_kernels(context)
    facts = json.loads((tmp_path / "out" / KERNEL_FACTS).read_text())
    assert variant.row.tile(variant.constants, 90).warps == 1
    assert facts["kernels"][key]["warps"] == 2

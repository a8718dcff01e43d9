"""Tuning, up to what only a GPU can measure."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import random_models
from support.commands import Ran
from support.cuda_plans import tiny_plan

from modelc.errors import BadInput, ToolFailed
from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.tune import ToTune, tune_all, tune_source
from modelc.targets.cuda import tune as tuning
from modelc.targets.cuda.engine import CpuEngine, reference_engine
from modelc.targets.cuda.interpret import interpret
from modelc.targets.cuda.kernel import Tile
from modelc.targets.cuda.kernels_file import load_kernels
from modelc.targets.cuda.plan import Call, Function, LaunchPlan
from modelc.targets.cuda.random_tensors import random_call
from modelc.targets.cuda.tile_table import read_tiles, table_of
from modelc.targets.cuda.tiles import tiled
from modelc.targets.cuda.trials import Trial, try_tiles
from modelc.targets.cuda.tune import Subject, choose, compile_tiles, measure_on_gpu, subjects, tune
from modelc.targets.cuda.variant import Variant

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


def calls_of(plan: LaunchPlan) -> list[tuple[Function, Call]]:
    """The first launch of each kernel in each function."""
    found = {
        (function.name, call.kernel): (function, call)
        for function in plan.functions
        for call in function.calls
        if call.kernel
    }
    return list(found.values())


def check_references(plan: LaunchPlan) -> None:
    """Every launch of a plan runs on random tensors, and writes finite numbers."""
    torch.manual_seed(0)
    engine = reference_engine()
    for function, call in calls_of(plan):
        sizes, tensors = random_call(plan, function, call, "cpu")
        variant = plan.variants[call.kernel]
        engine._run(variant, {p: tensors[n] for p, n in call.tensors.items()}, sizes.symbols)
        for tensor in variant.row.tensors:
            if (tensor.written or tensor.updated) and tensor.name in call.tensors:
                result = tensors[call.tensors[tensor.name]].float()
                assert bool(result.isfinite().all()), (variant.kernel, tensor.name)
                assert result.abs().max() > 0, (variant.kernel, tensor.name)


@pytest.mark.parametrize("kind", ["float", "w4_b32", "e4m3_b128"])
def test_random_tensors_are_what_references_take(kind: str) -> None:
    check_references(tiny_plan(kinds={"": kind}, act="bf16", kv="bf16"))


@pytest.fixture(scope="module")
def experts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.make("qwen3_moe", tmp_path_factory.mktemp("moe"))


@pytest.mark.parametrize("scheme", ["bf16", "w4bf16_b32", "fp8"])
def test_random_tensors_send_tokens_to_experts(scheme: str, experts_folder: Path) -> None:
    given = {"target": "cuda:sm90", "quant": scheme, "context_length": "64", "cuda_max_batch": 20}
    plan = tune_source(experts_folder, make_recipe(None, given)).plan
    check_references(plan)
    kernels = {variant.kernel for variant in plan.variants.values()}
    assert len([name for name in kernels if name.startswith("expert_")]) == 2


def test_decoding_is_tried_with_whole_sequences() -> None:
    plan = tiny_plan()
    function, call = next(
        (f, c) for f, c in calls_of(plan)
        if f.name == "decode.2" and plan.variants[c.kernel].kernel == "attention_decode"
    )  # fmt: skip
    sizes, tensors = random_call(plan, function, call, "cpu")
    assert sizes.symbols == {"tokens": 2, "sequences": 2, "rows": 2, "max_pages": 4}
    assert tensors["lengths"].tolist() == [64, 64]
    assert tensors["block_tables"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


class Doubled(CpuEngine):
    """Runs each tile in Triton's interpreter, and what some tiles give wrongly."""

    def __init__(self, wrong: Callable[[Variant], bool]) -> None:
        def run(variant: Variant, tensors: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
            interpret(variant, tensors, sizes)
            if wrong(variant):
                tensors["out"][0, 0] += 2

        super().__init__("a double", run)


@needs_triton
def test_a_tile_counts_only_if_it_gives_what_the_default_gives() -> None:
    plan = tiny_plan()
    for kernel, values in (("linear", {"BLOCK_N": 32}), ("attention_prefill", {"BLOCK_N": 16})):
        key, variant = next((k, v) for k, v in plan.variants.items() if v.kernel == kernel)
        default = replace(variant, tile=variant.row.tile(variant.constants, 90))
        other = replace(
            default, tile=replace(default.tile, values={**default.tile.values, **values})
        )
        wrong = replace(default, tile=replace(default.tile, stages=5))
        engine = Doubled(lambda one: one.tile.stages == 5)
        runs: list[int] = []

        def timer(run: Callable[[], None], runs: list[int] = runs) -> float:
            run()
            runs.append(len(runs))
            return 1.0 + len(runs)

        trials = try_tiles(engine, plan, key, ["prefill.32"], [default, other, wrong], timer)
        assert trials[0] == Trial((2.0,))
        assert trials[1] == Trial((3.0,))
        assert not trials[2].microseconds
        assert "off by" in trials[2].problem
        assert len(runs) == 2


@needs_triton
def test_what_cant_be_compiled_or_loaded_is_dropped(tmp_path: Path) -> None:
    variant = Variant(
        "linear", {"x": "bf16", "w": "bf16", "out": "bf16"},
        {"N": 4096, "K": 4096, "activation": "none"},
    )  # fmt: skip

    def with_blocks(m: int, n: int, k: int, stages: int) -> Variant:
        values = {"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k, "GROUP_M": 8}
        return replace(variant, tile=Tile(values, 8, stages))

    good, uneven, large = (
        with_blocks(64, 64, 32, 3), with_blocks(48, 64, 32, 3), with_blocks(128, 128, 64, 5),
    )  # fmt: skip
    cubins, dropped = compile_tiles([good, uneven, large], 89, tmp_path / "sm89", workdir=tmp_path)
    assert set(cubins) == {good.key}
    assert dropped == {"doesn't compile": 1, "wants more shared memory than there is": 1}
    assert cubins[good.key].path.read_bytes()[:4] == b"\x7fELF"


def test_the_fastest_over_all_sizes_is_chosen() -> None:
    assert choose([Trial((10.0, 10.0)), Trial((5.0, 30.0)), Trial((9.0, 9.0))]) == 2
    assert choose([Trial((10.0,)), Trial((9.95,))]) == 0  # noise
    assert choose([Trial((10.0,)), Trial(problem="out differs"), Trial((8.0,))]) == 2
    assert choose([Trial(problem="crashes"), Trial((8.0,))]) is None


@dataclass
class Stopwatch:
    """A double of the GPU: the tile of some warps is the fastest; remembers what it was given."""

    warps: int
    asked: list[str]

    def __call__(
        self, subject: Subject, tiles: Sequence[Variant], kernels: Path
    ) -> tuple[list[Trial], str]:
        self.asked.append(subject.default.kernel)
        launches = load_kernels(next(kernels.glob("sm*")) / "kernels.json")
        assert set(launches) == {tile.key for tile in tiles}
        times = [5.0 if tile.tile.warps == self.warps else 10.0 for tile in tiles]
        return [Trial((time,) * len(subject.functions)) for time in times], "a double"


def norms_of(plan: LaunchPlan) -> LaunchPlan:
    """A plan of its first norm alone: few tiles to compile."""
    key = next(key for key, one in plan.variants.items() if one.kernel == "rms_norm")
    functions = tuple(
        replace(
            one,
            calls=tuple(call for call in one.calls if call.kernel == key),
            greedy=(),
            sampled=(),
        )
        for one in plan.functions
    )
    return replace(plan, variants={key: plan.variants[key]}, functions=functions)


@needs_triton
def test_rows_go_into_the_table_and_kernels_get_them(tmp_path: Path) -> None:
    plan, watch, table = norms_of(tiny_plan()), Stopwatch(8, []), tmp_path / "tiles.json"
    told: list[tuple[int, int]] = []
    tuned = tune_all(
        ToTune(plan, (90,)), table, arch=90, measure=watch,
        tell=lambda done, count, one: told.append((done, count)),
    )  # fmt: skip
    assert watch.asked == ["rms_norm"]
    assert told == [(1, 1)]
    (row,) = read_tiles(table)
    assert (row.warps, row.microseconds, row.default_microseconds, row.gpu) == (
        8, 5.0, 10.0, "a double",
    )  # fmt: skip
    assert row.tokens == (1, 32)
    assert tuning.speedup(tuned) == pytest.approx(2)
    (variant,) = plan.variants.values()
    assert tiled(variant, 90, table=table_of([row])).tile.warps == 8
    tune_all(ToTune(plan, (90,)), table, arch=90, measure=Stopwatch(4, []))
    assert [one.warps for one in read_tiles(table)] == [4]  # the newer row, in its place


def test_a_file_that_is_no_table_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text("mine")
    with pytest.raises(BadInput, match="no table of tiles"):
        tune_all(ToTune(norms_of(tiny_plan()), (90,)), path, arch=90, measure=Stopwatch(8, []))
    assert path.read_text() == "mine"


def test_a_kernel_whose_default_cant_be_used_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (subject,) = subjects(norms_of(tiny_plan()), 90)
    monkeypatch.setattr(tuning, "compile_tiles", lambda *given, **more: ({}, {"bad": 1}))
    with pytest.raises(ToolFailed, match="default tile of rms_norm"):
        tune(subject, 90, Stopwatch(8, []), triton="3", workdir=tmp_path)


def test_tiles_that_crash_are_found_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (subject,) = subjects(norms_of(tiny_plan()), 90)
    jobs: list[int] = []

    def worker(module: str, job: Mapping[str, Any], **given: Any) -> dict[str, Any]:
        jobs.append(len(job["tiles"]))
        if any(document["warps"] == 16 for document in job["tiles"]):
            raise ToolFailed("crashed")
        times = [{"microseconds": [float(d["warps"])], "problem": ""} for d in job["tiles"]]
        return {"trials": times, "gpu": "a double"}

    monkeypatch.setattr(tuning, "run_worker", worker)
    measure = measure_on_gpu(tmp_path / "plan.json", tmp_path)
    trials, gpu = measure(subject, subject.tiles, tmp_path)
    assert gpu == "a double"
    crashed = [
        one for one, tile in zip(trials, subject.tiles, strict=True) if tile.tile.warps == 16
    ]
    assert [one.problem for one in crashed] == ["crashes"]
    assert sum(bool(one.microseconds) for one in trials) == len(subject.tiles) - 1
    assert jobs == [5, 1, 2, 2, 2, 2]


def test_the_command_lists_what_it_would_try(llama_folder: Path, call: Callable[..., Ran]) -> None:
    rows = call("tune", llama_folder, "-t", "cuda:sm89,sm90", "--dry-run", "--json").json()
    assert {row["arch"] for row in rows} == {89, 90}
    linears = [row for row in rows if row["kernel"] == "linear" and row["arch"] == 90]
    assert all(len(row["tiles"]) > 8 for row in linears)
    assert linears[0]["functions"] == ["prefill.256"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_command_says_so(
    llama_folder: Path, call: Callable[..., Ran], tmp_path: Path
) -> None:
    ran = call("tune", llama_folder, "-t", "cuda:h100", "-o", tmp_path / "tiles.json")
    assert ran.code == 3
    assert "--dry-run" in ran.stderr
    assert not (tmp_path / "tiles.json").exists()


def test_what_has_no_tiles_is_refused(
    llama_folder: Path, compiled: tuple[Path, Ran], call: Callable[..., Ran]
) -> None:
    assert call("tune", llama_folder, "-t", "cpu", "--dry-run").code == 2
    bundle, _ = compiled
    assert "no tiles" in call("tune", bundle, "--dry-run").stderr
    refused = call("tune", bundle, "-t", "cuda:h100", "--dry-run")
    assert refused.code == 2
    assert "--target" in refused.stderr
    assert json.loads((bundle / "manifest.json").read_text())["target"] == "cpu"

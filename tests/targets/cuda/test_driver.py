"""A launch plan through CUDA's driver, whose double runs what it is given."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cuda.bindings import driver as real
from support.cuda_driver_double import GpuDouble, write_described
from support.cuda_plans import TinyPlan, written_plan

from modelc.errors import Damaged, Missing, ModelcError, ToolFailed
from modelc.targets.cuda.aot import compile_variants
from modelc.targets.cuda.choose_engine import choose_engine
from modelc.targets.cuda.driver import GpuEngine, open_gpu
from modelc.targets.cuda.engine import interpreter_engine
from modelc.targets.cuda.executor import Choice, Executor, Piece
from modelc.targets.cuda.kernel import Extent
from modelc.targets.cuda.kernels_file import FILE
from modelc.targets.cuda.lower import Sizes
from modelc.targets.cuda.requests import Batch
from modelc.targets.cuda.staging import Staging
from modelc.targets.cuda.tiles import tiled
from modelc.targets.cuda.variant import Variant
from modelc.targets.runtime import Sampling

TOKENS = [3, 1, 4, 1, 5, 9, 2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyPlan:
    folder = tmp_path_factory.mktemp("plan")
    sizes = Sizes(context_length=16, max_batch=2, prefill_chunk=8, page=16)
    made = written_plan(
        folder, sizes=sizes, act="fp16", few=False, layers=1, head_dim=16, heads=2, kv_heads=1
    )
    write_described(made.plan, folder / "kernels")
    return made


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> GpuDouble:
    return GpuDouble(monkeypatch)


def open_double(gpu: GpuDouble, folder: Path) -> GpuEngine:
    return replace(open_gpu(folder), device="cpu")


def load(tiny: TinyPlan, gpu: GpuDouble, folder: Path | None = None) -> Executor:
    executor = tiny.executor(open_double(gpu, folder or tiny.folder / "kernels"))
    gpu.driver.know(executor.memory)
    return executor


def pieces(past: int, tokens: list[int]) -> list[Piece]:
    return [Piece(tokens, past, [0], range(len(tokens)))]


def close(measured: torch.Tensor, expected: Any) -> None:
    """fp16's rounding, as the operators and the kernels do it at different places."""
    assert np.abs(measured.numpy() - np.asarray(expected)).max() < 0.02


def test_logits_are_those_of_the_reference_and_of_the_float_model(
    tiny: TinyPlan, gpu: GpuDouble
) -> None:
    executor, reference = load(tiny, gpu), tiny.executor()
    logits = executor.prefill(pieces(0, TOKENS))
    close(logits, reference.prefill(pieces(0, TOKENS)))
    close(logits, tiny.logits(TOKENS))
    following = executor.decode(pieces(len(TOKENS), [6]))
    close(following, tiny.logits([*TOKENS, 6])[-1:])
    assert executor.engine.name == "a double"


def test_decoding_is_captured_after_two_runs_and_sees_new_inputs(
    tiny: TinyPlan, gpu: GpuDouble
) -> None:
    executor = load(tiny, gpu)
    executor.prefill(pieces(0, TOKENS[:1]))
    expected, graphs = tiny.logits(TOKENS), []
    for past, token in enumerate(TOKENS[1:6], start=1):
        close(executor.decode(pieces(past, [token])), expected[past : past + 1])
        graphs.append(sum(graph.replays for graph in gpu.graphs))
    assert graphs == [0, 0, 1, 2, 3]
    assert len(gpu.graphs) == 1


def test_each_batch_and_each_way_to_choose_has_a_graph(tiny: TinyPlan, gpu: GpuDouble) -> None:
    executor = load(tiny, gpu)
    prompts = [TOKENS[:3], TOKENS[3:]]
    options = [Sampling(), Sampling(temperature=0.9, seed=3)]
    batch, reference = Batch(executor), Batch(tiny.executor())
    requests = [
        [one.add(prompt, sampling, 6 - 2 * index, ()) for one in (batch, reference)]
        for index, (prompt, sampling) in enumerate(zip(prompts, options, strict=True))
    ]
    batch.run()
    reference.run()
    for mine, theirs in requests:
        assert mine.new == theirs.new
    assert set(executor.bound) == {
        ("prefill.8", "sampled"),
        ("decode.2", "sampled"),
        ("decode.1", "greedy"),
    }
    # Three steps of two sequences, of which the third is captured; two of one, which are not.
    assert [graph.replays for graph in gpu.graphs] == [1]
    assert gpu.driver.launches.count("sample") == 6


def test_rows_that_are_not_wanted_are_not_written(tiny: TinyPlan) -> None:
    """The head is launched for the wanted rows, not for all tokens."""
    executor = tiny.executor(interpreter_engine())
    function = tiny.plan.function_for("prefill", 8)
    every = executor.memory.tensor(
        function, function.result, {**function.most, "rows": function.most["rows"]}
    )
    every.fill_(77)
    logits = executor.prefill([Piece(TOKENS, 0, [0], [6])])
    close(logits, tiny.logits(TOKENS)[-1:])
    head = next(call for call in function.calls if call.tensors.get("out") == function.result)
    assert head.counts == "rows"
    assert every[1:].eq(77).any(1).all()


def test_a_gpu_that_the_bundle_has_no_kernels_for(
    tiny: TinyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arch in ((8, 9), (9, 1), (10, 0)):
        GpuDouble(monkeypatch, arch)
        with pytest.raises(Missing, match="has them for sm90") as caught:
            open_gpu(tiny.folder / "kernels")
        assert caught.value.hint == f"compile it with --target cuda:sm{10 * arch[0] + arch[1]}"
        assert caught.value.exit_code == 3


def test_kernels_of_an_older_ampere_run_on_a_later_one(
    tiny: TinyPlan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_described(tiny.plan, tmp_path, arch=80)
    executor = load(tiny, GpuDouble(monkeypatch, (8, 6)), tmp_path)
    close(executor.prefill(pieces(0, TOKENS)), tiny.logits(TOKENS))


def test_the_driver_s_words_are_passed_on(tiny: TinyPlan, gpu: GpuDouble) -> None:
    gpu.driver.answers["cuModuleLoadData"] = real.CUresult.CUDA_ERROR_INVALID_IMAGE
    with pytest.raises(ToolFailed, match="CUDA_ERROR_INVALID_IMAGE: what it means"):
        open_gpu(tiny.folder / "kernels")
    gpu.driver.answers.clear()
    executor = load(tiny, gpu)
    gpu.driver.answers["cuLaunchKernel"] = real.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(ToolFailed, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        executor.prefill(pieces(0, TOKENS))


def test_shared_memory_is_asked_for(tiny: TinyPlan, gpu: GpuDouble, tmp_path: Path) -> None:
    write_described(tiny.plan, tmp_path / "much", shared=100 << 10)
    load(tiny, gpu, tmp_path / "much").prefill(pieces(0, TOKENS[:1]))
    assert set(gpu.driver.shared.values()) == {100 << 10}
    write_described(tiny.plan, tmp_path / "more", shared=228 << 10)
    with pytest.raises(Missing, match="bytes of shared memory"):
        open_gpu(tmp_path / "more")


def test_the_cache_gets_what_memory_there_is(tiny: TinyPlan, gpu: GpuDouble) -> None:
    engine = open_double(gpu, tiny.folder / "kernels")
    assert engine.pages(tiny.plan, 2) == 2
    gpu.free = 1 << 20
    with pytest.raises(Missing, match="less than the model takes"):
        engine.pages(tiny.plan, 2)


def _without_a_kernel(document: dict[str, Any]) -> None:
    document["kernels"].pop(next(key for key in document["kernels"] if key.startswith("sample-")))


def _of(change: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    return lambda document: next(iter(document["kernels"].values())).update(change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_of({"warps": 33}), "warps"),
        (_of({"shared": -1}), "memory"),
        (_of({"cubin": "../x.cubin"}), "the file"),
        (_of({"cubin": "absent.cubin"}), "no kernel: "),
        (_of({"sizes": ["heads"]}), "sizes"),
        (_of({"grid": [{"symbol": "rows", "per": 0}, {}, {}]}), "the grid"),
        (_of({"grid": [{}]}), "no kernels: "),
        (_of({"tensors": ["x"]}), "that takes what the plan gives"),
        (_without_a_kernel, "that takes what the plan gives"),
        (lambda document: document.pop("kernels"), "no kernels: "),
    ],
)
def test_kernels_json_that_is_damaged(
    tiny: TinyPlan, gpu: GpuDouble, tmp_path: Path, change: Any, words: str
) -> None:
    write_described(tiny.plan, tmp_path)
    path = tmp_path / "sm90" / FILE
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(Damaged, match=words):
        executor = load(tiny, gpu, tmp_path)
        function = tiny.plan.function_for("decode", 1)
        executor.engine.bind(tiny.plan, function, executor.memory, "sampled")
        executor.engine.bind(tiny.plan, function, executor.memory, "greedy")


def test_a_grid_that_cuda_does_not_take(tiny: TinyPlan, gpu: GpuDouble) -> None:
    executor = load(tiny, gpu)
    engine = executor.engine
    assert isinstance(engine, GpuEngine)
    wide = (Extent(), Extent(65536), Extent())
    launches = {key: replace(launch, grid=wide) for key, launch in engine.launches.items()}
    executor.engine = replace(engine, launches=launches)
    with pytest.raises(ToolFailed, match="on \\[1, 65536, 1\\] blocks"):
        executor.prefill(pieces(0, TOKENS))


def test_without_a_gpu_the_engine_is_missing(tiny: TinyPlan) -> None:
    with pytest.raises(ModelcError, match="no CUDA GPU"):
        choose_engine("cuda", tiny.folder / "kernels")


def test_inputs_are_not_rewritten_before_the_device_has_them(tiny: TinyPlan) -> None:
    """Copies from pinned memory run later than they are asked for."""
    done: list[str] = []

    class Event:
        def synchronize(self) -> None:
            done.append("wait")

        def record(self) -> None:
            done.append("copy")

    executor = tiny.executor()
    staging = executor.memory.staging
    noted: Staging = replace(staging, copied=Event())
    executor.memory = replace(executor.memory, staging=noted)
    executor.prefill(pieces(0, TOKENS))
    assert done == ["wait", "copy"]
    done.clear()
    executor.choose("decode", pieces(7, [1]), [Choice(temperature=1.0)])
    assert done[0] == "wait"
    assert done[-1] == "copy"


def _parameter_sizes(cubin: bytes, entry: str) -> list[int]:
    """Bytes of each parameter, in order, as the driver finds them in an ELF: section .nv.info of
    the kernel, attribute KPARAM_INFO (0x17)."""
    start, size, count, names = struct.unpack_from("<Q", cubin, 40) + struct.unpack_from(
        "<HHH", cubin, 58
    )
    sections = [struct.unpack_from("<IIQQQQ", cubin, start + size * i) for i in range(count)]
    texts = sections[names][4]
    wanted = f".nv.info.{entry}".encode()
    (found,) = [s for s in sections if cubin[texts + s[0] :].split(b"\0", 1)[0] == wanted]
    data, at, sizes = cubin[found[4] : found[4] + found[5]], 0, {}
    while at < len(data):
        form, attribute, length = struct.unpack_from("<BBH", data, at)
        at += 4
        if form == 4:
            if attribute == 0x17:
                _, ordinal, _, bits = struct.unpack_from("<IHHI", data, at)
                sizes[ordinal] = bits >> 18
            at += length
    return [sizes[ordinal] for ordinal in sorted(sizes)]


def test_compiled_kernels_take_what_is_packed(tiny: TinyPlan, tmp_path: Path) -> None:
    """Pointers, then sizes, then two pointers of Triton's; what is left out has no place."""
    variants = [
        tiled(one, 90)
        for one in tiny.plan.variants.values()
        if one.kernel in ("select_rows", "sample_peak")
    ]
    cubins = compile_variants(variants, 90, tmp_path, workdir=tmp_path)
    assert len(variants) == 3
    for variant in variants:
        expected = [8] * len(variant.types) + [4] * len(variant.row.sizes) + [8, 8]
        assert _sizes(cubins[variant.key].path, variant) == expected
        assert cubins[variant.key].scratch == 0


def _sizes(path: Path, variant: Variant) -> list[int]:
    return _parameter_sizes(path.read_bytes(), variant.kernel)

"""How near decoding and prefill on a GPU come to what it can do, and to what torch does.

    python benchmarks/cuda_decode.py [--shapes llama-3.1-8b] [--schemes bf16] [--tiles FILE]

Llama 3.1 8B's and Qwen3 30B A3B's shapes with random weights. All figures are ratios of what is
measured in the same run: a decode step against the bandwidth of a copy, and against transformers'
model under torch.compile with a static cache; the FP8 product in blocks against torch's; a prefill
against torch's bf16 product; what is allocated against the estimate; and how long the first token
takes from the start of a process. Needs a GPU, torch, transformers and cuda-bindings; `--small`
goes through all of it that a CPU can, on tiny shapes, with the reference operators.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cuda_bounds import (
    bytes_of_decode,
    clock,
    copy_bandwidth,
    matmul_rate,
    operations_of_prefill,
)
from cuda_models import Setting, compile_kernels, load, make_plan
from cuda_rivals import compiled_decode, scaled_mm
from tables import machine, show

from modelc.targets.cuda.choose_engine import choose_engine, gpu_name
from modelc.targets.cuda.estimate import memory_of
from modelc.targets.cuda.executor import Executor, Piece
from modelc.targets.cuda.plan import LaunchPlan, save_plan
from modelc.targets.cuda.trials import gpu_timer, try_tiles
from modelc.targets.cuda.variant import Variant

SCHEMES: Final = {"bf16": 0.80, "fp8_block": 0.70, "w4bf16_b32": 0.60}
"""And how near to the bandwidth a step of one sequence is to come."""
AGAINST_TORCH: Final = 1.3
AGAINST_SCALED_MM: Final = 0.9
OF_MATMUL: Final = 0.55
OF_ESTIMATE: Final = 0.05
FIRST_TOKEN_S: Final = 5.0
STEPS: Final = 50
MISSING: Final = 3  # exit status


@dataclass(frozen=True)
class Figure:
    """One row of the table; without a measured number, what it needs."""

    name: str
    measured: float | None = None
    aim: float | None = None
    at_most: bool = False
    told: str = ""

    def row(self) -> tuple[str, ...]:
        measured = "needs a GPU" if self.measured is None else f"{self.measured:.3f}"
        if self.aim is None:
            return self.name, "", measured, "", self.told
        aim = f"{'at most ' if self.at_most else ''}{self.aim:.2f}"
        verdict = ""
        if self.measured is not None:
            met = self.measured <= self.aim if self.at_most else self.measured >= self.aim
            verdict = "met" if met else "MISSED"
        return self.name, aim, measured, verdict, self.told


@dataclass(frozen=True)
class Device:
    """What all is measured on, and what it can do (0: not measured)."""

    name: str
    arch: int
    bandwidth: float = 0.0
    rate: float = 0.0
    steps: int = STEPS

    @property
    def is_gpu(self) -> bool:
        return self.name != "cpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", nargs="+", default=["llama-3.1-8b", "qwen3-30b-a3b"])
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--tiles", type=Path, help="a table that modelc tune wrote")
    parser.add_argument("--small", action="store_true", help="tiny shapes, on a CPU")
    parser.add_argument("--first-token", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first_token is not None:
        first_token(options.first_token)
        return
    device = small_device() if options.small else gpu_device()
    if options.small:
        options.shapes, options.batches, options.context = (
            ["llama-small", "qwen3-small"],
            [1, 2],
            64,
        )
    print(machine())
    if device.is_gpu:
        print(f"{gpu_name()}: copies {device.bandwidth / 1e12:.2f} TB/s, "
              f"bf16 matrices {device.rate / 1e12:.0f} TFLOP/s")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="cuda-decode-") as folder:
        for shape in options.shapes:
            rivals = {
                batch: compiled_decode(shape, batch, options.context, device.name, device.steps)
                for batch in options.batches
            }
            collect()
            for scheme in options.schemes:
                setting = Setting(
                    shape, scheme, options.context, max(options.batches), options.context,
                    options.tiles,
                )  # fmt: skip
                rows = [
                    figure.row()
                    for figure in figures(Path(folder), setting, device, options.batches, rivals)
                ]
                show(f"{shape}, {scheme}", ("", "aim", "measured", "", ""), rows)
                collect()


def small_device() -> Device:
    return Device("cpu", 90, steps=2)


def gpu_device() -> Device:
    if not gpu_name():
        print("error: torch finds no CUDA GPU", file=sys.stderr)
        print(" hint: --small goes through what a CPU can", file=sys.stderr)
        sys.exit(MISSING)
    import torch

    major, minor = torch.cuda.get_device_capability(0)
    name = "cuda:0"
    found = Device(name, 10 * major + minor, copy_bandwidth(name), matmul_rate(name))
    collect()
    return found


def figures(
    folder: Path, setting: Setting, device: Device, batches: Sequence[int], rivals: dict[int, float]
) -> Iterator[Figure]:
    plan = make_plan(folder, setting, device.arch)
    kernels = Path(tempfile.mkdtemp(dir=folder))
    variants: dict[str, Variant] = {}
    if device.is_gpu:
        variants = compile_kernels(plan, device.arch, kernels, setting)
    engine = choose_engine("cuda" if device.is_gpu else "reference", kernels)
    before = allocated(device)
    executor = load(plan, engine, setting.max_batch * setting.pages, folder)
    held = allocated(device) - before if device.is_gpu else executor.memory.nbytes
    yield from decode_figures(executor, setting, device, batches, rivals)
    yield prefill_figure(executor, setting, device)
    estimate = memory_of(plan).total
    yield Figure(
        "memory: off the estimate by", abs(held / estimate - 1), OF_ESTIMATE, at_most=True,
        told=f"{held / 1e9:.3f} GB against {estimate / 1e9:.3f} GB",
    )  # fmt: skip
    if setting.scheme == "fp8_block":
        yield from product_figures(plan, variants, engine, device)
    if setting.scheme == "bf16" and "llama" in setting.shape:
        yield first_token_figure(executor, kernels, device)


def decode_figures(
    executor: Executor,
    setting: Setting,
    device: Device,
    batches: Sequence[int],
    rivals: dict[int, float],
) -> Iterator[Figure]:
    plan = executor.plan
    for batch in batches:
        pieces = [
            Piece([7 + number], setting.context - 1, pages_of(setting, number))
            for number in range(batch)
        ]
        seconds = clock(lambda pieces=pieces: executor.decode(pieces), device.name, device.steps)
        told = f"{1000 * seconds:.2f} ms, {batch / seconds:.0f} tokens/s"
        bound = None
        if device.is_gpu:
            function = plan.function_for("decode", batch)
            asked = bytes_of_decode(plan, function, batch, setting.context)
            bound = asked / device.bandwidth / seconds
        aim = SCHEMES[setting.scheme] if batch == 1 else None
        yield Figure(f"decode, batch {batch}: of the bandwidth", bound, aim, told=told)
        ratio = rivals[batch] / seconds if device.is_gpu else None
        yield Figure(
            f"decode, batch {batch}: times as fast as torch.compile in bf16", ratio,
            AGAINST_TORCH if setting.scheme == "bf16" else None,
            told=f"theirs {1000 * rivals[batch]:.2f} ms",
        )  # fmt: skip


def prefill_figure(executor: Executor, setting: Setting, device: Device) -> Figure:
    plan, tokens = executor.plan, setting.prefill
    ids = [number % plan.vocabulary for number in range(tokens)]
    piece = Piece(ids, 0, pages_of(setting, 0), [tokens - 1])
    seconds = clock(lambda: executor.prefill([piece]), device.name, max(device.steps // 5, 1))
    operations = operations_of_prefill(plan, plan.function_for("prefill", tokens), tokens)
    told = f"{1000 * seconds:.1f} ms, {operations / 1e12:.3f} TFLOP"
    share = operations / seconds / device.rate if device.is_gpu else None
    return Figure(f"prefill of {tokens}: of the bf16 rate", share, OF_MATMUL, told=told)


def product_figures(
    plan: LaunchPlan, variants: dict[str, Variant], engine: Any, device: Device
) -> Iterator[Figure]:
    """The products of the prefill, each alone; an activation's gate counts as rows."""
    function = next(one for one in plan.functions if one.kind == "prefill")
    tokens = function.most["tokens"]
    for key in dict.fromkeys(call.kernel for call in function.calls):
        variant = plan.variants.get(key)
        if variant is None or variant.kernel != "fp8_block_linear":
            continue
        constants = variant.constants
        rows = int(constants["N"]) * (1 if constants["activation"] == "none" else 2)
        inputs, ratio, told = int(constants["K"]), None, ""
        if device.is_gpu:
            timer = gpu_timer(device.name)
            (trial,) = try_tiles(engine, plan, key, [function.name], [variants[key]], timer)
            theirs = timer(scaled_mm(tokens, rows, inputs, device.name))
            ratio = theirs / trial.microseconds[0]
            told = f"{trial.microseconds[0]:.0f} us, theirs {theirs:.0f} us"
        name = f"FP8 in blocks, {tokens} x {inputs} by {rows}: times as fast as torch._scaled_mm"
        yield Figure(name, ratio, AGAINST_SCALED_MM, told=told)


def first_token_figure(executor: Executor, kernels: Path, device: Device) -> Figure:
    """From the start of a process that loads plan, weights and kernels; the second such process,
    whose files are in the page cache."""
    name = "seconds to the first token"
    if not device.is_gpu:
        return Figure(name, None, FIRST_TOKEN_S, at_most=True)
    from safetensors.torch import save_file

    save_plan(executor.plan, kernels / "plan.json")
    save_file({k: v.cpu() for k, v in executor.memory.weights.items()},
              kernels / "weights.safetensors")  # fmt: skip
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        command = [sys.executable, __file__, "--first-token", str(kernels)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            line = child.stdout.readline()
            seconds = time.perf_counter() - start
        if not line.strip().isdecimal():
            raise SystemExit(f"the child gave no token: {line!r}")
    return Figure(name, seconds, FIRST_TOKEN_S, at_most=True)


def first_token(folder: Path) -> None:
    """Be the child: load a plan, and print the token that follows a short prompt."""
    from modelc.targets.cuda.loading import load_executor
    from modelc.targets.cuda.ranks import Ranks

    executor = load_executor(folder / "plan.json", "cuda", folder, Ranks())
    page = executor.plan.cache.page
    logits = executor.prefill([Piece(list(range(16)), 0, range(-(-16 // page)), [15])])
    print(int(logits[0].argmax()), flush=True)


def pages_of(setting: Setting, number: int) -> range:
    return range(number * setting.pages, (number + 1) * setting.pages)


def allocated(device: Device) -> int:
    import torch

    return int(torch.cuda.memory_allocated(device.name)) if device.is_gpu else 0


def collect() -> None:
    """Give back what nothing holds."""
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch._dynamo.reset()  # which holds on to what it compiled
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()

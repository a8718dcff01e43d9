"""What a GPU can do at most, and what a call of a plan asks of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from modelc.targets.cuda.plan import Function, LaunchPlan


def clock(run: Callable[[], object], device: str, runs: int, warm_up: int = 4) -> float:
    """Return the median seconds of a run, by the host's clock, the device being done."""
    import torch

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize(device)

    for _ in range(warm_up):
        run()
    times = []
    for _ in range(runs):
        wait()
        start = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def copy_bandwidth(device: str) -> float:
    """Bytes per second that are read and written when 4 GiB are copied."""
    import torch

    source = torch.empty(4 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / clock(lambda: target.copy_(source), device, 20)


def matmul_rate(device: str) -> float:
    """Operations per second of torch's bf16 matrix product of 8192 by 8192."""
    import torch

    side = 8192
    left, right = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    return 2 * side**3 / clock(lambda: left @ right, device, 20)


def bytes_of_decode(plan: LaunchPlan, function: Function, batch: int, context: int) -> float:
    """Return the bytes that a step has to read: weights once, of experts those that `batch` tokens
    are expected to go to if all are as likely, and the cache of every sequence."""
    total = float(batch * context * plan.cache.per_token)
    seen: set[str] = set()
    experts = {
        int(plan.variants[call.kernel].constants["experts"])
        for call in function.calls
        if call.kernel and plan.variants[call.kernel].kernel == "route"
    }
    for call in function.calls:
        variant = plan.variants.get(call.kernel)
        for parameter, name in call.tensors.items():
            if name not in plan.weights or name in seen or parameter in ("cos", "sin", "table"):
                continue  # of tables, a row for each token
            seen.add(name)
            share = 1.0
            if variant is not None and variant.kernel.startswith("expert_"):
                used, (count,) = int(variant.constants["used"]), tuple(experts)
                share = 1 - (1 - used / count) ** batch
            total += share * plan.weights[name].size
    return total


def operations_of_prefill(plan: LaunchPlan, function: Function, tokens: int) -> float:
    """Return the operations of the matrices and of attention for one prompt from its start, whose
    last token's logits alone are wanted."""
    total = 0.0
    for call in function.calls:
        variant = plan.variants.get(call.kernel)
        if variant is None:
            continue
        constants: dict[str, Any] = dict(variant.constants)
        if variant.kernel == "attention_prefill":
            total += 2 * tokens**2 * constants["heads"] * constants["head_dim"]
        elif "linear" in variant.kernel:
            rows = constants["N"] * (1 if constants["activation"] == "none" else 2)
            count = 1 if call.tensors["out"] == function.result else tokens
            total += 2 * count * rows * constants["K"] * constants.get("used", 1)
    return total

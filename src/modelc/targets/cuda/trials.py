"""Tries tiles of one kernel: each must give what the default gives, then it is timed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from modelc.targets.cuda.engine import Engine
from modelc.targets.cuda.memory import Memory
from modelc.targets.cuda.plan import Call, Function, LaunchPlan
from modelc.targets.cuda.random_tensors import random_call
from modelc.targets.cuda.seen import Seen
from modelc.targets.cuda.staging import Staging
from modelc.targets.cuda.variant import Variant

if TYPE_CHECKING:
    import torch

Timer = Callable[[Callable[[], None]], float]
"""Returns the median microseconds of a run."""

TOLERANCE: Final = 2.0**-5
"""Of the largest magnitude: sums in another order, rounded to 8 bits or to codes of 4."""
_RUNS: Final = 20
_WARM_UP: Final = 3
_FLUSHED: Final = 256 << 20  # bytes; several times the L2 cache of any GPU


@dataclass(frozen=True)
class Trial:
    """How a tile did.

    Attributes:
        microseconds: of each size that was measured; empty if it doesn't count.
        problem: why it doesn't.
    """

    microseconds: tuple[float, ...] = ()
    problem: str = ""


def try_tiles(
    engine: Engine,
    plan: LaunchPlan,
    key: str,
    functions: Sequence[str],
    tiles: Sequence[Variant],
    timer: Timer,
) -> list[Trial]:
    """Return how tiles of a plan's variant did, in the calls of some functions.

    Args:
        engine: has a kernel for each tile, by its own key.
        key: of the variant.
        functions: names of those that launch it.
        tiles: the default first, which the others are held against.
    """
    found: list[Trial] = [Trial() for _ in tiles]
    for name in functions:
        function = next(one for one in plan.functions if one.name == name)
        call = next(one for one in function.calls if one.kernel == key)
        for place, trial in enumerate(_try_call(engine, plan, function, call, tiles, timer)):
            before = found[place]
            if before.problem or trial.problem:
                found[place] = Trial(problem=before.problem or trial.problem)
            else:
                found[place] = Trial((*before.microseconds, *trial.microseconds))
    return found


def _try_call(
    engine: Engine,
    plan: LaunchPlan,
    function: Function,
    call: Call,
    tiles: Sequence[Variant],
    timer: Timer,
) -> list[Trial]:
    sizes, tensors = random_call(plan, function, call, engine.device)
    row = plan.variants[call.kernel].row
    written = [call.tensors[t.name] for t in row.tensors if t.written and t.name in call.tensors]
    updated = [call.tensors[t.name] for t in row.tensors if t.updated and t.name in call.tensors]
    before = {name: tensors[name].clone() for name in updated}
    expected: dict[str, torch.Tensor] = {}
    trials = []
    for tile in tiles:
        run = _bound(engine, plan, function, call, tile, tensors, sizes.symbols)
        for name in written:
            _bytes(tensors[name]).fill_(0xFF)  # a NaN, or a number that no kernel gives
        for name in updated:
            tensors[name].copy_(before[name])
        run()
        results = {name: tensors[name].clone() for name in (*written, *updated)}
        expected = expected or results
        problem = _difference(results, expected)
        trials.append(Trial(problem=problem) if problem else Trial((timer(run),)))
    return trials


def _bound(
    engine: Engine,
    plan: LaunchPlan,
    function: Function,
    call: Call,
    tile: Variant,
    tensors: Mapping[str, torch.Tensor],
    sizes: Mapping[str, int],
) -> Callable[[], None]:
    """Return what launches one kernel, as the engine would in a plan of this call alone. Nothing
    is captured: launching is hidden behind what the timer lets the GPU do before."""
    import torch

    alone = replace(
        function, kind="prefill", buffers={}, calls=(replace(call, kernel=tile.key),), arena=0
    )
    nothing = torch.empty(0, dtype=torch.int32)
    memory = Memory(
        weights=tensors,
        caches={},
        staging=Staging(nothing, nothing, {}, {}, None),
        seen=Seen(nothing),
        arena=nothing,
        pages=0,
    )
    whole = replace(plan, variants={tile.key: tile}, functions=(alone,))
    run = engine.bind(whole, alone, memory, "logits")
    return lambda: run(sizes)


def _difference(results: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> str:
    """Say where results are not what was expected, "" if they are."""
    import torch

    for name, want in expected.items():
        have = results[name]
        if torch.equal(_bytes(have), _bytes(want)):
            continue  # caches are large: float32 of them would be larger
        if not want.dtype.is_floating_point:
            return f"{name} differs"
        wide, wanted = have.float(), want.float()
        if not bool((wide.isnan() == wanted.isnan()).all()):
            return f"{name} has other NaNs"
        wide, wanted = wide.nan_to_num(), wanted.nan_to_num()
        off, most = float((wide - wanted).abs().max()), float(wanted.abs().max())
        # A code of 4 bits that rounds the other way is off by one part in eight of itself.
        allowed = 0.13 if want.dtype.itemsize == 1 else TOLERANCE
        if not off <= allowed * most:
            return f"{name} is off by {off:.3g} of {most:.3g}"
    return ""


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return tensor.view(-1).view(torch.uint8)


def gpu_timer(device: str) -> Timer:
    """Return a timer by CUDA's events; before each run the L2 cache is flushed."""
    import torch

    flushed = torch.empty(_FLUSHED, dtype=torch.uint8, device=device)

    def timed(run: Callable[[], None]) -> float:
        for _ in range(_WARM_UP):
            run()
        pairs = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
            for _ in range(_RUNS)
        ]
        for start, end in pairs:
            flushed.zero_()
            start.record()
            run()
            end.record()
        torch.cuda.synchronize(device)
        times = [float(start.elapsed_time(end)) for start, end in pairs]
        return 1000 * statistics.median(times)

    return timed

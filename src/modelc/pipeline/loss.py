"""Where a scheme's loss comes from: the float and the rounded graph run side by side, and what
every tensor is off by split into what was lost before it and what is lost in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from modelc.decoder.expert_modules import is_expert
from modelc.errors import BadInput
from modelc.ir.provenance import module_of
from modelc.ir.weights import StoredWeight
from modelc.pipeline.evaluation import Progress, TextWindows
from modelc.pipeline.simulation import Simulated
from modelc.quant.histogram import Histogram
from modelc.verify.metrics import decibels
from modelc.verify.report import finite

BINS: Final = 32
_HIDDEN: Final = 1e30  # what is beyond is a mask's
_BARS: Final = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class TensorLoss:
    """One tensor of the float model, x, against the same of the rounded model, y.

    With z for what the operator makes, in floats, of the rounded model's inputs, y - x is the sum
    of y - z, which is lost here, and z - x, which was lost before. Their powers add up to the whole
    but for how alike the two are, which is little as long as rounding is like noise. Of an expert
    x is z, and nothing is inherited: the tokens that go to it in the float model may be others.

    Attributes:
        name: of the tensor in the expanded graph.
        module: path of the module that makes it.
        place: of it among all, in the graph's order.
        signal, noise: mean squares of x and of y - x.
        injected: mean square of y - z; of it `by_weights` is what rounded weights alone lose, the
            rest is lost by rounding the tensor itself.
        inherited: mean square of z - x.
        low, high, histogram: x's range, and how many of its values lie in `BINS` equal parts of it.
    """

    name: str
    module: str
    place: int
    signal: float
    noise: float
    injected: float
    by_weights: float
    inherited: float
    low: float
    high: float
    histogram: tuple[int, ...]

    @property
    def sqnr_db(self) -> float:
        return decibels(self.signal, self.noise)

    @property
    def injected_db(self) -> float:
        """Signal to what is lost here."""
        return decibels(self.signal, self.injected)

    @property
    def by_weights_db(self) -> float:
        return decibels(self.signal, self.by_weights)

    @property
    def inherited_db(self) -> float:
        return decibels(self.signal, self.inherited)

    @property
    def sparkline(self) -> str:
        """The histogram as one line; bars are logarithmic, so that outliers are seen."""
        return sparkline(self.histogram)

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        ratios = ("sqnr_db", "injected_db", "by_weights_db", "inherited_db")
        return {
            "tensor": self.name,
            "module": self.module,
            **{name: finite(getattr(self, name)) for name in ratios},
            "range": [self.low, self.high],
            "histogram": list(self.histogram),
        }


def tensor_losses(
    simulated: Simulated, text: TextWindows, progress: Progress = lambda done, total: None
) -> list[TensorLoss]:
    """Return every tensor that is rounded, those first of which most of the signal is lost in them.

    Raises:
        BadInput: the recipe's algorithms make other tensors of the same model.
    """
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline
    from modelc.reference.side_by_side import run_side_by_side

    _refuse_transforms(simulated)
    float_model, _ = run_passes(
        simulated.float_model(), build_pipeline("expanded", {}), graph="float"
    )
    weights = {
        name: value.const_value
        for name, value in float_model.graph.initializers.items()
        if isinstance(value.const_value, StoredWeight)
    }
    beside = build_pipeline("exact", {"exact": weights})
    rounded, _ = run_passes(simulated.model(), beside, graph="rounded")
    modules = {str(v.name): module_of(node) for node in float_model.graph for v in node.outputs}
    sums = {name: _Sums() for name in modules}

    def compare(wanted: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> None:
        for name in wanted.keys() & sums.keys() & found.keys():
            if f"{name}.float" in found or f"{name}.exact" in found:
                raw = found.get(f"{name}.float", found[name])
                exact = found.get(f"{name}.exact", raw)
                own = exact if is_expert(modules[name]) else wanted[name]
                sums[name].add(own, found[name], raw, exact)

    run_side_by_side(float_model, rounded, text.sequences, compare, progress)
    measured = [name for name in modules if sums[name].count]
    losses = [sums[name].loss(name, modules[name], at) for at, name in enumerate(measured)]
    return sorted(losses, key=lambda loss: (loss.injected_db, loss.name))


class _Sums:
    """What is added up of one tensor over sequences."""

    def __init__(self) -> None:
        self.count = 0
        self._squares = np.zeros(5)
        self._histogram: Histogram | None = None
        self._low, self._high = math.inf, -math.inf

    def add(self, x: np.ndarray, y: np.ndarray, raw: np.ndarray, exact: np.ndarray) -> None:
        seen = np.abs(x) < _HIDDEN
        if not seen.all():
            x, y, raw, exact = (array[seen] for array in (x, y, raw, exact))
        if not x.size:
            return
        self.count += x.size
        parts = (x, y - x, y - exact, raw - exact, exact - x)
        self._squares += [float(np.square(part, dtype=np.float64).sum()) for part in parts]
        self._low, self._high = min(self._low, float(x.min())), max(self._high, float(x.max()))
        histogram = Histogram.of(x)
        self._histogram = self._histogram.merged(histogram) if self._histogram else histogram

    def loss(self, name: str, module: str, place: int) -> TensorLoss:
        assert self._histogram is not None
        counts = _in_bins(self._histogram, self._low, self._high)
        signal, noise, injected, by_weights, inherited = (self._squares / self.count).tolist()
        return TensorLoss(
            name=name,
            module=module,
            place=place,
            signal=signal,
            noise=noise,
            injected=injected,
            by_weights=by_weights,
            inherited=inherited,
            low=self._low,
            high=self._high,
            histogram=counts,
        )


def _in_bins(histogram: Histogram, low: float, high: float) -> tuple[int, ...]:
    """Return the counts in equal parts of a range; a fine bin counts where its middle is."""
    width = (high - low) / BINS or 1.0
    places = np.clip((histogram.centres - low) / width, 0, BINS - 1).astype(np.int64)
    return tuple(np.bincount(places, histogram.counts, BINS).astype(int).tolist())


def sparkline(counts: tuple[int, ...]) -> str:
    """Return counts as one line of bars, as high as their logarithms; none where nothing is."""
    most = math.log1p(max(counts, default=0)) or 1.0
    heights = (math.ceil(math.log1p(count) / most * len(_BARS)) for count in counts)
    return "".join(_BARS[height - 1] if height else " " for height in heights)


def _refuse_transforms(simulated: Simulated) -> None:
    if simulated.has_transforms:
        raise BadInput(
            f"of {', '.join(simulated.job.recipe.algorithms)}, some make other tensors of the same "
            "model: there is nothing to compare them with one by one",
            hint="leave them out to see where the loss is; `modelc eval` measures the whole",
        )

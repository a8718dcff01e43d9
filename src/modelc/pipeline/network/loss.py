"""Where a network's quantisation loses: the float and the quantised graph side by side, tensor by
tensor, on ONNX Runtime's CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelc.errors import BadInput
from modelc.ir.arrays import load_sequence
from modelc.ir.provenance import module_of
from modelc.pipeline.events import Events, ignore
from modelc.pipeline.execute import execute
from modelc.pipeline.network.job import make_network_job
from modelc.pipeline.network.plan import leading_to, network_plan
from modelc.pipeline.network.steps import GRAPH, SAMPLES, load_network
from modelc.pipeline.plan import Plan
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.store import Store
from modelc.quant.network.cuts import cut_of

if TYPE_CHECKING:
    import onnx_ir as ir

MOST: Final = 8  # samples; more change little
BACK: Final = ".dequantised"
"""Ends the name of what a tensor's codes stand for."""


@dataclass(frozen=True)
class NetworkLoss:
    """How far a tensor of the quantised graph is from the float one.

    Attributes:
        sqnr_db: of the tensor as those that read it get it.
        inherited_db: the least SQNR among what its node reads; None if that is exact.
        dtype: of its codes, "float32" where it has none.
    """

    tensor: str
    op_type: str
    module: str
    dtype: str
    sqnr_db: float
    inherited_db: float | None

    @property
    def lost_db(self) -> float:
        """What is lost here, not before: how much noise there is beside what was inherited."""
        return (200.0 if self.inherited_db is None else self.inherited_db) - self.sqnr_db

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "lost_db": self.lost_db}


def network_losses(
    source: Path, recipe: Recipe, store: Store | None = None, events: Events = ignore
) -> list[NetworkLoss]:
    """Return every tensor's loss, in the order in which they are made; without those that have
    codes only for what a Relu or Clip behind them lets through.

    Raises:
        BadInput: as `make_network_job`, or the scheme is float.
    """
    floats = recipe.network.model_copy(update={"boundary": "float"})  # as the float graph has them
    job = make_network_job(source, recipe.model_copy(update={"network": floats}))
    if not job.scheme.is_quantised:
        raise BadInput(
            f"the scheme {job.scheme.name} quantises nothing",
            hint="give one that does, such as --quant w8a8",
        )
    whole, store = network_plan(job), store or Store()
    needed = {step.name for name in ("reference", "quantize") for step in leading_to(whole, name)}
    steps = tuple(step for step in whole.steps if step.name in needed)
    with store.in_use():
        plan = Plan(whole.target, steps, ("reference", "lower", "quantize"))
        results = execute(plan, store, job.sources, events)
        folders = {result.name: result.path for result in results if result.entry}
        samples = load_sequence(folders["reference"] / SAMPLES)
        exact, coded = (load_network(folders[n] / GRAPH) for n in ("lower", "quantize"))
        return measure_losses(exact, coded, list(islice(samples, MOST)))


def measure_losses(
    exact: ir.Model, coded: ir.Model, samples: list[dict[str, np.ndarray]]
) -> list[NetworkLoss]:
    """Run both graphs on samples and compare tensors of one name."""
    from modelc.reference.network import NetworkReference

    codes = {str(value.name): value for node in coded.graph for value in node.outputs}
    # Whoever reads a quantised tensor gets what its codes stand for.
    seen_as = {f"{name}{BACK}": name for name in map(_name, _made(exact))}
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    references = NetworkReference(exact), NetworkReference(coded)
    for sample in samples:
        kept: dict[str, np.ndarray] = {}

        def keep(name: str, values: np.ndarray, kept: dict[str, np.ndarray] = kept) -> None:
            kept[name] = values.copy()

        references[0].observe(sample, keep)

        def compare(name: str, values: np.ndarray, kept: Mapping[str, np.ndarray] = kept) -> None:
            own = seen_as.get(name, name)
            if own == name and f"{name}{BACK}" in codes:
                return
            wanted = kept.get(own)
            if wanted is None or wanted.dtype.kind != "f" or wanted.shape != values.shape:
                return
            real = wanted.astype(np.float64)
            shown = np.isfinite(real) & np.isfinite(values)
            strength = np.square(np.where(shown, real, 0.0)).sum()
            signal[own] = signal.get(own, 0.0) + float(strength)
            gap = np.where(shown, real - values, 0.0)
            noise[own] = noise.get(own, 0.0) + float(np.square(gap).sum())

        references[1].observe(sample, compare)
    found = {name: _decibels(signal[name], noise[name]) for name in signal}
    return [
        NetworkLoss(name, node.op_type, module_of(node), _dtype(codes, name), found[name],
                    _inherited(node, found))
        for node in exact.graph
        for value in node.outputs
        if (name := _name(value)) in found and cut_of(value) is None
    ]  # fmt: skip


def _made(model: ir.Model) -> list[ir.Value]:
    return [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]


def _name(value: ir.Value) -> str:
    return str(value.name)


def _inherited(node: ir.Node, found: Mapping[str, float]) -> float | None:
    read = [found[str(v.name)] for v in node.inputs if v is not None and str(v.name) in found]
    return min(read, default=None)


def _dtype(codes: Mapping[str, ir.Value], name: str) -> str:
    value = codes.get(f"{name}.codes")
    return "float32" if value is None or value.dtype is None else value.dtype.name.lower()


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return 200.0
    return float(10 * np.log10(max(signal, 1e-300) / noise))

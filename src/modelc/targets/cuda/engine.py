"""What runs a launch plan: the GPU, the reference operators, or Triton's interpreter."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from modelc.targets.cuda.interpret import interpret
from modelc.targets.cuda.kernel_table import KERNELS
from modelc.targets.cuda.memory import Memory
from modelc.targets.cuda.plan import Call, Function, LaunchPlan, Mode
from modelc.targets.cuda.torch_operators import run_operator
from modelc.targets.cuda.variant import Variant

if TYPE_CHECKING:
    import torch

Sizes = Mapping[str, int]
Bound = Callable[[Sizes], None]
"""Runs a function for a call's sizes; its inputs are in memory before, its result after."""


class Engine(Protocol):
    """One way of running."""

    name: str
    device: str

    def bind(self, plan: LaunchPlan, function: Function, memory: Memory, mode: Mode) -> Bound:
        """Return what runs a function on these tensors, up to logits or chosen tokens."""

    def pages(self, plan: LaunchPlan, full: int) -> int:
        """Return how many pages the cache is to have, `full` being enough for all sequences."""


class CpuEngine:
    """Runs every launch on the CPU, one after the other, on the plan's own arena."""

    device = "cpu"

    def __init__(self, name: str, run: Callable[[Variant, Mapping[str, Any], Sizes], None]) -> None:
        self.name = name
        self._run = run

    def bind(self, plan: LaunchPlan, function: Function, memory: Memory, mode: Mode) -> Bound:
        def bound(sizes: Sizes) -> None:
            for call in function.calls_for(mode):
                tensors = {
                    parameter: memory.tensor(function, name, sizes)
                    for parameter, name in call.tensors.items()
                }
                if call.operator:
                    run_call(call, tensors)
                else:
                    self._run(plan.variants[call.kernel], tensors, call.sizes(sizes))

        return bound

    def pages(self, plan: LaunchPlan, full: int) -> int:
        return full


def run_call(call: Call, tensors: Mapping[str, torch.Tensor]) -> None:
    """Run one of torch's operators."""
    inputs = [tensors[str(place)] for place in range(len(tensors) - 1)]
    run_operator(call.operator, inputs, tensors["out"], call.attributes)


def reference_engine() -> CpuEngine:
    """The reference operators in torch."""
    return CpuEngine("reference operators (CPU)", _run_reference)


def interpreter_engine() -> CpuEngine:
    """The kernels as they are written, in Triton's interpreter: for small models, and slowly."""
    return CpuEngine("Triton's interpreter (CPU)", _interpret)


def _run_reference(variant: Variant, tensors: Mapping[str, Any], sizes: Sizes) -> None:
    name = variant.kernel
    function = getattr(importlib.import_module(f"modelc.targets.cuda.reference.{name}"), name)
    given = {tensor.name: tensors.get(tensor.name) for tensor in KERNELS[name].tensors}
    function(**given, **variant.constants)


def _interpret(variant: Variant, tensors: Mapping[str, Any], sizes: Sizes) -> None:
    tile = variant.row.tile(variant.constants, 90)
    tiled = Variant(variant.kernel, variant.types, variant.constants, tile)
    interpret(tiled, tensors, sizes)

"""What a launch plan takes of a GPU's memory, known before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from modelc.targets.cuda.gpus import Gpu
from modelc.targets.cuda.memory_sizes import input_bytes
from modelc.targets.cuda.plan import LaunchPlan

CONTEXT: Final = 768 << 20
"""Bytes that the driver's context, torch and loaded kernels take, about."""
SPARE: Final = 0.05
"""Of a GPU's memory, left alone."""


@dataclass(frozen=True)
class MemoryUse:
    """Bytes on each GPU.

    Attributes:
        parameters: weights as they are packed.
        cache: the KV cache of all sequences at their longest.
        cache_per_token: of one position in all layers.
        activations: the arena of the largest function, attention's workspace in it.
        inputs: token ids, block tables, options of sampling and the like.
        functions: the arena of each function and its launches up to the logits.
    """

    parameters: int
    cache: int
    cache_per_token: int
    activations: int
    inputs: int
    functions: tuple[Mapping[str, Any], ...]

    @property
    def total(self) -> int:
        """All that is allocated."""
        return self.parameters + self.cache + self.activations + self.inputs

    def __str__(self) -> str:
        parts = {
            "weights": self.parameters,
            "KV cache": self.cache,
            "activations": self.activations + self.inputs,
        }
        each = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in parts.items())
        return f"{self.total / 1e6:.1f} MB ({each})"

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "total": self.total}


@dataclass(frozen=True)
class Largest:
    """The longest context for a plan's batch, and the most sequences for its context; 0: none."""

    context_length: int
    sequences: int


def usable(gpu: Gpu) -> int:
    """Return the bytes of a GPU that a model can have."""
    return int(gpu.memory * (1 - SPARE)) - CONTEXT


def largest(plan: LaunchPlan, limit: int) -> Largest:
    """Return what fits into `limit` bytes beside weights and activations, in whole pages.

    What goes with the number of sequences in activations and inputs is small beside their cache
    and taken as it is.
    """
    memory, page = memory_of(plan), plan.cache.page
    room = limit - memory.parameters - memory.activations - memory.inputs
    pages = max(room, 0) // (plan.cache.layers * plan.cache.page_size)
    each = -(-plan.context_length // page)
    return Largest(int(pages // plan.max_batch) * page, int(pages // each))


def memory_of(plan: LaunchPlan) -> MemoryUse:
    """Return what a plan takes, for its greatest batch at its full context."""
    facts = plan.cache
    pages = plan.max_batch * -(-plan.context_length // facts.page)
    functions = tuple(
        {"name": one.name, "arena": one.arena, "launches": len(one.calls)} for one in plan.functions
    )
    return MemoryUse(
        parameters=plan.weight_bytes,
        cache=pages * facts.layers * facts.page_size,
        cache_per_token=facts.per_token,
        activations=plan.arena,
        inputs=input_bytes(plan),
        functions=functions,
    )

"""How much of the machine an execution may take."""

from __future__ import annotations

from dataclasses import dataclass, field

from modelc.errors import BadInput
from modelc.pipeline.free_memory import free_memory
from modelc.process import usable_cores


@dataclass(frozen=True)
class Limits:
    """What the steps that run at the same time may take together.

    Attributes:
        jobs: steps at once; as many as the process has cores if nothing is said.
        memory_bytes: what the steps say that they need, added up; what the machine has free now if
            nothing is said. A step that needs more than this by itself runs alone.

    Raises:
        BadInput: one of them is below 1.
    """

    jobs: int = field(default_factory=usable_cores)
    memory_bytes: int = field(default_factory=free_memory)

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise BadInput(f"{self.jobs} jobs at once can't do anything", hint="use 1 or more")
        if self.memory_bytes < 1:
            raise BadInput(f"a memory limit of {self.memory_bytes} bytes", hint="use more")

"""Several devices that run one model together: the first one says what, the others follow."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelc.errors import ToolFailed
from modelc.targets.cuda.kernel import SYMBOLS
from modelc.targets.cuda.memory import Memory
from modelc.targets.cuda.plan import MODES, Function, LaunchPlan, Mode

if TYPE_CHECKING:
    import torch

_NUMBERS: Final = 2 + len(SYMBOLS)  # of a message: function, mode, sizes
_END: Final = -1
_WORKER: Final = "modelc.targets.cuda.rank_worker"


@dataclass
class Ranks:
    """The devices of a plan; one that is alone has nobody to tell."""

    rank: int = 0
    count: int = 1
    followers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def tell(
        self,
        plan: LaunchPlan,
        function: Function,
        sizes: Mapping[str, int],
        mode: Mode,
        memory: Memory,
    ) -> None:
        """Tell the others which function is run, and on what."""
        if self.count > 1:
            index = [one.name for one in plan.functions].index(function.name)
            self._send([index, MODES.index(mode), *(sizes[name] for name in SYMBOLS)])
            _broadcast(memory.staging.host)

    def hear(
        self, plan: LaunchPlan, memory: Memory
    ) -> tuple[Function, dict[str, int], Mode] | None:
        """Return what the first device runs, its inputs filled in; None when it ends."""
        import torch

        numbers = torch.zeros(_NUMBERS, dtype=torch.int32)
        _broadcast(numbers)
        index, mode, *sizes = numbers.tolist()
        if index == _END:
            return None
        memory.staging.wait()
        _broadcast(memory.staging.host)
        return plan.functions[index], dict(zip(SYMBOLS, sizes, strict=True)), MODES[mode]

    def least(self, number: int) -> int:
        """Return the least of a number that each device has."""
        import torch
        import torch.distributed as dist

        if self.count == 1:
            return number
        least = torch.tensor(number, dtype=torch.int64)
        dist.all_reduce(least, op=dist.ReduceOp.MIN)
        return int(least)

    def end(self) -> None:
        """Let the others end."""
        import torch.distributed as dist

        if self.count == 1 or not dist.is_initialized():
            return
        with suppress(RuntimeError):  # they may be gone already
            self._send([_END] + [0] * (_NUMBERS - 1))
        for follower in self.followers:
            try:
                follower.wait(30)
            except subprocess.TimeoutExpired:
                follower.kill()
        dist.destroy_process_group()

    def _send(self, numbers: list[int]) -> None:
        import torch

        for follower in self.followers:
            if follower.poll() is not None:
                raise ToolFailed(
                    f"a device's process ended with status {follower.returncode}",
                    hint="see its words above",
                )
        _broadcast(torch.tensor(numbers, dtype=torch.int32))


def start_ranks(plan_file: Path, count: int, engine: str, kernels: Path | None) -> Ranks:
    """Start a process for each further device, and meet them."""
    if count == 1:
        return Ranks()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    followers = [
        subprocess.Popen(
            [
                sys.executable, "-m", _WORKER, str(plan_file), str(rank), str(count), engine,
                str(kernels or ""),
            ],
            stdin=subprocess.PIPE,
        )
        for rank in range(1, count)
    ]  # fmt: skip
    try:
        meet(0, count, engine)
    except BaseException:  # Ctrl-C as well: they would wait for the first device for ever
        for follower in followers:
            follower.kill()
        raise
    return Ranks(0, count, followers)


def meet(rank: int, count: int, engine: str) -> None:
    """Join the group of all devices: on GPUs NCCL adds up, what is told goes over the CPU."""
    import torch
    import torch.distributed as dist

    backend = "gloo"
    if engine == "cuda" or (engine == "auto" and torch.cuda.is_available()):
        torch.cuda.set_device(rank)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, rank=rank, world_size=count)


def _broadcast(tensor: torch.Tensor) -> None:
    import torch.distributed as dist

    dist.broadcast(tensor, src=0)

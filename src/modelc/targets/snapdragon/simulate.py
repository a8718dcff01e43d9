"""The HTP simulator: what a device would compute, without one. It says nothing about speed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.errors import BadInput, Where
from modelc.ir.arrays import load_sequence, save_sequence
from modelc.process import run_worker
from modelc.targets.runtime import Generation, OnToken, Sampling
from modelc.targets.snapdragon import graph_names
from modelc.targets.snapdragon.rotary import Rotary
from modelc.targets.snapdragon.tokens_file import follow

_WORKER: Final = "modelc.targets.snapdragon.simulate_worker"
_CRASH: Final = "if it crashed, the binary is damaged or of another QAIRT: compile it again"


class Simulator:
    """A decoder in the simulator (`Runtime`). Every call loads the binaries anew, in a child.

    Args:
        wrappers: the wrapper of every graph's twin, all AR lengths, context lengths and parts, in
            any order; each twin's binary lies beside it with the same stem.
        rotary: the model's rotary embedding.
        timeout_s: for one call.

    Attributes:
        context_lengths: of every context, the shortest first; context_length is the longest.
    """

    name = "htp-simulator"

    def __init__(
        self, wrappers: Sequence[Path], rotary: Rotary, *, workdir: Path, timeout_s: float
    ) -> None:
        keys = [graph_names.parse(wrapper.stem) for wrapper in wrappers]
        graph_names.check_complete(keys)
        self.context_lengths = sorted({key.context_length for key in keys})
        self.context_length = self.context_lengths[-1]
        self._workdir = workdir.resolve()
        self._timeout_s = timeout_s
        self._job = {
            "wrappers": [str(wrapper.resolve()) for wrapper in wrappers],
            "rotary": asdict(rotary),
        }

    def logits(self, token_ids: Sequence[int], *, measured: bool = False) -> np.ndarray:
        """Return float32 [len(token_ids), vocab]: the logits after each token of one sequence.

        Args:
            measured: in the calls of `Decoder.measured_calls`, not all as a prompt.
        """
        if not token_ids:
            raise BadInput("the sequence has no tokens")
        self._workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="logits-", dir=self._workdir) as scratch:
            outputs = Path(scratch, "logits.npy")
            job = {"tokens": list(token_ids), "outputs": str(outputs), "measured": measured}
            self._run("logits", job)
            result: np.ndarray = np.load(outputs)
            return result

    def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        on_token: OnToken | None = None,
    ) -> Generation:
        """Generate until a stop token, `max_new_tokens` or the end of the context."""
        if not prompt_ids:
            raise BadInput("the prompt has no tokens")
        self._workdir.mkdir(parents=True, exist_ok=True)
        stream = self._workdir / "tokens"
        job = {
            "tokens": list(prompt_ids),
            "sampling": asdict(sampling),
            "max_new_tokens": max_new_tokens,
            "stop_ids": list(stop_ids),
            "stream": str(stream),
        }
        with follow(stream, on_token):
            reply = self._run("generate", job)
        return Generation(
            token_ids=tuple(reply["token_ids"]),
            prompt_tokens=len(prompt_ids),
            prefill_seconds=reply["prefill_seconds"],
            decode_seconds=reply["decode_seconds"],
        )

    def close(self) -> None:
        """Nothing is held between calls."""

    def _run(self, task: str, job: Mapping[str, Any]) -> dict[str, Any]:
        return run_worker(
            _WORKER,
            {"task": task, **self._job, **job},
            workdir=self._workdir,
            timeout_s=self._timeout_s,
            where=Where(step="simulate"),
            hint=_CRASH,
        )


def run_graph(
    wrapper: Path,
    feeds: Sequence[Mapping[str, np.ndarray]],
    *,
    workdir: Path,
    timeout_s: float,
) -> list[dict[str, np.ndarray]]:
    """Run a compiled graph in the simulator on each feed and return the outputs of each.

    Tensors are as the graph has them: quantised graphs take and give codes.

    Raises:
        Damaged: the binary can't be read.
        ToolFailed: the simulator crashed or ran out of time.
    """
    workdir = workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="feeds-", dir=workdir) as scratch:
        inputs, outputs = Path(scratch, "inputs.npz"), Path(scratch, "outputs.npz")
        save_sequence(inputs, feeds)
        job = {
            "task": "run_graph",
            "wrapper": str(wrapper.resolve()),
            "inputs": str(inputs),
            "outputs": str(outputs),
        }
        run_worker(
            _WORKER,
            job,
            workdir=workdir,
            timeout_s=timeout_s,
            where=Where(step="simulate", graph=wrapper.stem),
            hint=_CRASH,
        )
        return load_sequence(outputs)

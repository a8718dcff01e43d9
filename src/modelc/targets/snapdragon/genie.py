"""Genie, the runtime that a device uses, on the HTP simulator: the bundle as it will be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Where
from modelc.process import run_worker
from modelc.targets.runtime import Generation, OnToken, Sampling
from modelc.targets.snapdragon import graph_names
from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.genie_config import (
    EXTENSION_FILE,
    GenieModel,
    extension_config,
    genie_config,
)
from modelc.targets.snapdragon.room import longest_prompt, longest_text
from modelc.targets.snapdragon.tokens_file import follow

_WORKER: Final = "modelc.targets.snapdragon.genie_worker"
_MICROSECONDS: Final = 1e-6


class Genie:
    """A compiled decoder in Genie. Every call loads the binaries anew, in a child.

    Attributes:
        longest_prompt: how many tokens Genie reads.

    Args:
        model: what the shipped configuration is made of.
        twins: the twin binaries of all parts, AR lengths and context lengths, which stand in for
            `model.binaries`; each is called after its graph.
        tokenizer: path of tokenizer.json.
        timeout_s: for one call.
    """

    name = "genie"

    def __init__(
        self,
        model: GenieModel,
        chipset: Chipset,
        twins: Sequence[Path],
        tokenizer: Path,
        *,
        workdir: Path,
        timeout_s: float,
    ) -> None:
        keys = [graph_names.parse(twin.stem) for twin in twins]
        graph_names.check_complete(keys)
        ars = {key.ar for key in keys}
        self.longest_prompt = longest_prompt(ars, model.context_length)
        self._longest_text = longest_text(ars, model.context_length)
        self._model = replace(
            model,
            binaries=tuple(str(twin.resolve()) for twin in twins),
            tokenizer=str(tokenizer.resolve()),
        )
        self._extension = {
            "extension_file": EXTENSION_FILE,
            "extension": extension_config(chipset),
        }
        self._workdir = workdir.resolve()
        self._timeout_s = timeout_s

    def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        on_token: OnToken | None = None,
    ) -> Generation:
        """Generate until a stop token, `max_new_tokens` or the end of the context.

        The prompt is read as it is: Genie adds no token to it.
        """
        if not prompt_ids:
            raise BadInput("the prompt has no tokens")
        if len(prompt_ids) > self.longest_prompt:
            raise BadInput(
                f"a prompt of {len(prompt_ids)} tokens does not fit: Genie reads at most "
                f"{self.longest_prompt} in a context of {self._model.context_length}",
                hint="use a shorter prompt, or compile for a longer context or a shorter AR",
            )
        # If it ran into the context's end, Genie would keep its figures to itself.
        room = self._longest_text - len(prompt_ids)
        eos_ids = tuple(stop_ids) or self._model.eos_ids
        model = replace(self._model, bos_id=None, eos_ids=eos_ids)
        self._workdir.mkdir(parents=True, exist_ok=True)
        stream = self._workdir / "tokens"
        job = {
            "config": genie_config(
                model, sampling, max_new_tokens=min(max_new_tokens, room), poll=False
            ),
            "tokens": list(prompt_ids),
            "stream": str(stream),
        }
        with follow(stream, on_token):
            reply = self._run("generate", job)
        figures = reply["profile"]
        return Generation(
            token_ids=tuple(reply["token_ids"]),
            prompt_tokens=len(prompt_ids),
            prefill_seconds=figures.get("time-to-first-token", 0.0) * _MICROSECONDS,
            decode_seconds=figures.get("token-generation-time", 0.0) * _MICROSECONDS,
        )

    def chat(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        max_new_tokens: int,
        stop_sequences: Sequence[str] = (),
    ) -> list[str]:
        """Return the answers to the turns of one dialog.

        Genie tokenises, and adds BOS before and EOS after turns (`GenieModel`).
        """
        config = genie_config(
            self._model,
            sampling,
            max_new_tokens=max_new_tokens,
            stop_sequences=stop_sequences,
            poll=False,
        )
        answers: list[str] = self._run("chat", {"config": config, "prompts": list(prompts)})[
            "answers"
        ]
        return answers

    def close(self) -> None:
        """Nothing is held between calls."""

    def _run(self, task: str, job: Mapping[str, Any]) -> dict[str, Any]:
        return run_worker(
            _WORKER,
            {"task": task, **self._extension, **job},
            workdir=self._workdir,
            timeout_s=self._timeout_s,
            where=Where(step="genie"),
            hint="if it crashed, a binary is damaged or of another QAIRT: compile it again",
        )


def check_genie_config(config: Mapping[str, Any], *, workdir: Path, timeout_s: float = 60) -> None:
    """Let Genie itself validate a configuration.

    Raises:
        BadInput: it rejects it.
    """
    run_worker(
        _WORKER,
        {"task": "check", "config": config},
        workdir=workdir.resolve(),
        timeout_s=timeout_s,
        where=Where(step="genie config"),
    )

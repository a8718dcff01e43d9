"""Runs a decoder compiled for the card: on it, or its ONNX on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.errors import BadInput
from modelc.targets.qaic.engine import CallShapes, Engine
from modelc.targets.qaic.engine_card import CardEngine
from modelc.targets.qaic.engine_onnx import OnnxEngine
from modelc.targets.qaic.engine_parts import PartsEngine
from modelc.targets.qaic.loop import Loop
from modelc.targets.qaic.sampled import SAMPLER_INPUT, CardSampling
from modelc.targets.runtime import Finding, Generation, OnToken, Sampling
from modelc.targets.sampling import Sampler

# A wrong position, mask or state gives about 0 dB; the card's fp16 and mxint8 states round.
MIN_AGREEMENT_DB: Final = 20.0
OnBatchToken = Callable[[int, int], None]
"""Called with a prompt's number and its new token."""


def open_runtime(files: Mapping[str, Path], settings: Mapping[str, Any]) -> CardRuntime:
    """Load a compiled decoder.

    Args:
        files: "qpc", the folder of a compiled program; "model", its ONNX; or "parts", the same to
            be run layer by layer, so that memory never holds all of it.
        settings: fields of `CallShapes`; `max_top_k` of a program that chooses tokens; `adapter`,
            the number of the LoRA adapter that all sequences get (0: none); `devices` (of the
            card) or `threads` (0: one for each physical core).

    Raises:
        BadInput: no such program or graph.
        Missing: there is a QPC, but not the card's SDK.
    """
    sizes: dict[str, Any] = {
        name: tuple(settings[name]) if name.endswith("_lengths") else settings[name]
        for name in CallShapes.__dataclass_fields__
        if name in settings
    }
    shapes = CallShapes(**sizes)
    engine: Engine
    if "qpc" in files:
        engine = CardEngine(files["qpc"], settings.get("devices", ()))
    elif "parts" in files:
        engine = PartsEngine(files["parts"], shapes, settings.get("threads", 0))
    else:
        engine = OnnxEngine(files["model"], shapes, settings.get("threads", 0))
    return CardRuntime(engine, shapes, settings.get("adapter", 0), settings.get("max_top_k", 0))


class CardRuntime:
    """A decoder under the card's contract (`Runtime`)."""

    def __init__(
        self, engine: Engine, shapes: CallShapes, adapter: int = 0, max_top_k: int = 0
    ) -> None:
        if adapter and "lora_ids" not in engine.inputs:
            raise BadInput(f"the program has no adapters, so none of number {adapter}")
        self.name = engine.name
        self._engine = engine
        self._shapes = shapes
        self._most = max_top_k
        self._samples = SAMPLER_INPUT in engine.inputs
        self._adapters = dict.fromkeys(range(shapes.sequences), adapter)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return float32 [len(token_ids), vocab]: as the contract gives the last token's only, all
        are fed one after the other.

        Raises:
            BadInput: the card gives the tokens that it chose, and no logits.
        """
        return self._loop().each(token_ids)

    def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        on_token: OnToken | None = None,
    ) -> Generation:
        """Generate until a stop token, `max_new_tokens` or the end of the context."""
        told = None if on_token is None else lambda _, token: on_token(token)
        return self.generate_all([prompt_ids], sampling, max_new_tokens, stop_ids, told)[0]

    def generate_all(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        on_token: OnBatchToken | None = None,
    ) -> list[Generation]:
        """Generate for several prompts side by side. With continuous batching a prompt takes the
        place of one that has ended; without, the next batch starts when all of one have.

        Returns:
            One of each prompt: its time to the first token, from when its prefill began, and the
            time from then to its last one, in which other prompts may have been fed.
        """
        told = on_token or (lambda prompt, token: None)
        stops = frozenset(stop_ids)
        loop = self._loop(sampling if self._samples else None)
        choose = None if self._samples else sampling
        rows = []
        for number, ids in enumerate(prompts):
            # The last token's logits need no position of their own.
            room = min(max_new_tokens, self._shapes.context_length - len(ids) + 1)
            sampler = Sampler(choose) if choose else None
            rows.append(_Sequence(number, [*ids], sampler, room, stops, told))
        waiting, running = [*rows], dict[int, _Sequence]()
        while waiting or running:
            self._start(loop, waiting, running)
            for slot in [slot for slot, row in running.items() if row.ended]:
                del running[slot]
            if running:
                _step(loop, running)
        return [row.result() for row in rows]

    def findings(self, token_ids: Sequence[int], logits: np.ndarray) -> Sequence[Finding]:
        """Check that prompts in padded chunks give the logits of tokens one by one."""
        lengths = sorted({len(token_ids), (len(token_ids) + 1) // 2})
        if self._shapes.half == "decode":
            return []
        loop = self._loop()
        found = np.stack([loop.prefill({0: token_ids[:n]})[0] for n in lengths])
        expected = logits[[n - 1 for n in lengths]]
        noise = np.square(found - expected, dtype=np.float64).sum()
        signal = np.square(expected, dtype=np.float64).sum()
        agreement = 10 * np.log10(signal / noise) if noise else np.inf
        return [
            Finding(
                "prefill agrees with decode",
                bool(agreement >= MIN_AGREEMENT_DB),
                f"SQNR {agreement:.1f} dB after prompts of {' and '.join(map(str, lengths))}",
            )
        ]

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def _loop(self, sampling: Sampling | None = None) -> Loop:
        """Return the loop for new sequences; `sampling` is what the card shall do."""
        loop = Loop(self._engine, self._shapes, self._adapters)
        if self._samples:
            loop.sampling = CardSampling(sampling or Sampling(), self._most)
            loop.takes_tokens = sampling is not None
        return loop

    def _start(self, loop: Loop, waiting: list[_Sequence], running: dict[int, _Sequence]) -> None:
        """Prefill prompts into free slots, as many as a decoding call takes."""
        if running and not self._shapes.continuous_batching:
            return
        room = self._shapes.decode_rows - len(running)
        free = [slot for slot in range(self._shapes.sequences) if slot not in running][:room]
        starting = {slot: waiting.pop(0) for slot in free[: len(waiting)]}
        groups = [starting]
        if self._shapes.continuous_batching:
            groups = [{slot: row} for slot, row in starting.items()]
        for group in filter(None, groups):
            begun = time.perf_counter()
            if loop.sampling:
                for slot in group:
                    loop.sampling.start(slot)
            logits = loop.prefill({slot: row.tokens for slot, row in group.items()})
            for row, own in zip(group.values(), logits, strict=True):
                row.begin(begun, own)
        running |= starting


def _step(loop: Loop, running: Mapping[int, _Sequence]) -> None:
    tokens = {slot: row.tokens[-1:] for slot, row in running.items()}
    past = {slot: len(row.tokens) - 1 for slot, row in running.items()}
    for row, answers in zip(running.values(), loop.decode(tokens, past), strict=True):
        row.take(answers[0])


@dataclass
class _Sequence:
    """One prompt, and what was generated after it (`tokens`: both); no sampler where the card
    chooses."""

    number: int
    tokens: list[int]
    sampler: Sampler | None
    room: int
    stops: frozenset[int]
    told: OnBatchToken
    new: list[int] = field(default_factory=list)
    ended: bool = False
    begun: float = 0.0
    first: float = 0.0
    last: float = 0.0

    def begin(self, begun: float, answer: np.ndarray) -> None:
        self.take(answer)
        self.begun, self.first = begun, self.last

    def take(self, answer: np.ndarray) -> None:
        """Choose a token of logits, or take the chosen one; a stop token, or no room for another,
        is the end."""
        token = -1
        if self.room > 0:
            token = self.sampler.choose(answer, self.tokens) if self.sampler else int(answer[0])
        self.ended = self.room <= 0 or token in self.stops
        if not self.ended:
            self.new.append(token)
            self.tokens.append(token)
            self.told(self.number, token)
            self.ended = len(self.new) >= self.room
        self.last = time.perf_counter()

    def result(self) -> Generation:
        prompt = len(self.tokens) - len(self.new)
        return Generation(tuple(self.new), prompt, self.first - self.begun, self.last - self.first)

"""Runs calls of a launch plan: which tokens of which sequences, to their logits or next tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from modelc.targets.cuda.engine import Bound, Engine
from modelc.targets.cuda.memory import Memory
from modelc.targets.cuda.plan import Function, LaunchPlan, Mode
from modelc.targets.cuda.ranks import Ranks

if TYPE_CHECKING:
    import torch

_LARGEST: Final = 1e38  # of a float32, about


@dataclass(frozen=True)
class Piece:
    """New tokens of one sequence.

    Attributes:
        past: positions that are in the cache before them.
        pages: those of the sequence, enough for its new tokens.
        wanted: which of the tokens' logits are wanted.
    """

    token_ids: Sequence[int]
    past: int
    pages: Sequence[int]
    wanted: Sequence[int] = ()


@dataclass(frozen=True)
class Choice:
    """How the token behind a piece is chosen; as it stands, it is the likeliest.

    Attributes:
        draw: uniform in [0, 1).
        history: all tokens of the sequence, in a list that grows and stays the same object.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    penalty: float = 1.0
    draw: float = 0.0
    history: Sequence[int] = ()

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0.0 and self.penalty == 1.0


@dataclass
class Executor:
    """A loaded plan on a device."""

    plan: LaunchPlan
    memory: Memory
    engine: Engine
    ranks: Ranks = field(default_factory=Ranks)
    bound: dict[tuple[str, Mode], Bound] = field(default_factory=dict)

    def decode(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """Run one new token of each sequence; returns float32 [sequences, vocabulary], which the
        next call overwrites."""
        function = self.plan.function_for("decode", len(pieces))
        return self._run(function, pieces, [[0]] * len(pieces))

    def prefill(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """Run new tokens of several sequences; returns float32 [wanted, vocabulary], which the
        next call overwrites."""
        function = self.plan.function_for("prefill", _count(pieces))
        return self._run(function, pieces, [piece.wanted for piece in pieces])

    def choose(
        self,
        kind: Literal["decode", "prefill"],
        pieces: Sequence[Piece],
        choices: Sequence[Choice],
    ) -> list[int]:
        """Run new tokens of several sequences, and choose the next one of each on the device."""
        function = self.plan.function_for(kind, _count(pieces))
        mode: Mode = "greedy" if all(one.is_greedy for one in choices) else "sampled"
        if mode == "sampled":
            self._fill_choices(choices)
        wanted = [[len(piece.token_ids) - 1] for piece in pieces]
        chosen: list[int] = self._run(function, pieces, wanted, mode, choices).tolist()
        return chosen

    def follow(self, function: Function, sizes: Mapping[str, int], mode: Mode) -> None:
        """Run a function on what is in the host's inputs."""
        self.memory.staging.upload()
        self._launch(function, sizes, mode)

    def _run(
        self,
        function: Function,
        pieces: Sequence[Piece],
        wanted: Sequence[Sequence[int]],
        mode: Mode = "logits",
        choices: Sequence[Choice] = (),
    ) -> torch.Tensor:
        sizes = {
            "tokens": _count(pieces),
            "sequences": len(pieces),
            "rows": sum(len(places) for places in wanted),
            "max_pages": function.most["max_pages"],
        }
        assert all(sizes[name] <= most for name, most in function.most.items()), sizes
        staging = self.memory.staging
        self._fill(pieces, wanted)
        self.ranks.tell(self.plan, function, sizes, mode, self.memory)
        staging.upload()
        if mode == "sampled":
            latest = staging.inputs["input_ids"][: len(pieces) if function.kind == "decode" else 0]
            histories = [None if one.penalty == 1.0 else one.history for one in choices]
            self.memory.seen.update(histories, latest)
        self._launch(function, sizes, mode)
        result = function.result if mode == "logits" else function.chosen
        return self.memory.tensor(function, result, sizes)

    def _launch(self, function: Function, sizes: Mapping[str, int], mode: Mode) -> None:
        key = (function.name, mode)
        if key not in self.bound:
            self.bound[key] = self.engine.bind(self.plan, function, self.memory, mode)
        self.bound[key](sizes)

    def _fill(self, pieces: Sequence[Piece], wanted: Sequence[Sequence[int]]) -> None:
        self.memory.staging.wait()
        page = self.plan.cache.page
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        rows: list[int] = []
        starts, lengths = [0], []
        tables = self.memory.staging.filled["block_tables"]
        for index, (piece, places) in enumerate(zip(pieces, wanted, strict=True)):
            rows += [len(ids) + place for place in places]
            ids += piece.token_ids
            for position in range(piece.past, piece.past + len(piece.token_ids)):
                positions.append(position)
                slots.append(piece.pages[position // page] * page + position % page)
            starts.append(len(ids))
            lengths.append(piece.past + len(piece.token_ids))
            tables[index, : len(piece.pages)] = piece.pages
            tables[index, len(piece.pages) :] = -1
        self._put(
            {"input_ids": ids, "position_ids": positions, "slots": slots, "wanted": rows,
             "starts": starts, "lengths": lengths}
        )  # fmt: skip

    def _fill_choices(self, choices: Sequence[Choice]) -> None:
        self.memory.staging.wait()
        self._put(
            {
                "temperature": [min(one.temperature, _LARGEST) for one in choices],
                "top_k": [min(one.top_k, self.plan.vocabulary) for one in choices],
                "top_p": [one.top_p for one in choices],
                "penalty": [min(one.penalty, _LARGEST) for one in choices],
                "draw": [one.draw for one in choices],
            }
        )

    def _put(self, given: Mapping[str, Sequence[float]]) -> None:
        for name, numbers in given.items():
            self.memory.staging.filled[name][: len(numbers)] = numbers


def _count(pieces: Sequence[Piece]) -> int:
    return sum(len(piece.token_ids) for piece in pieces)

"""Runs calls of a launch plan: which tokens of which sequences, to their logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelc.targets.cuda.engine import Bound, Engine
from modelc.targets.cuda.memory import Memory
from modelc.targets.cuda.plan import Function, LaunchPlan
from modelc.targets.cuda.ranks import Ranks

if TYPE_CHECKING:
    import torch


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


@dataclass
class Executor:
    """A loaded plan on a device."""

    plan: LaunchPlan
    memory: Memory
    engine: Engine
    ranks: Ranks = field(default_factory=Ranks)
    bound: dict[str, Bound] = field(default_factory=dict)

    def decode(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """Run one new token of each sequence; returns float32 [sequences, vocabulary], which the
        next call overwrites."""
        function = self.plan.function_for("decode", len(pieces))
        return self._run(function, pieces, len(pieces))

    def prefill(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """Run new tokens of several sequences; returns float32 [wanted, vocabulary], which the
        next call overwrites."""
        count = sum(len(piece.token_ids) for piece in pieces)
        function = self.plan.function_for("prefill", count)
        return self._run(function, pieces, sum(len(piece.wanted) for piece in pieces))

    def _run(self, function: Function, pieces: Sequence[Piece], rows: int) -> torch.Tensor:
        sizes = {
            "tokens": sum(len(piece.token_ids) for piece in pieces),
            "sequences": len(pieces),
            "rows": rows,
            "max_pages": function.most["max_pages"],
        }
        assert all(sizes[name] <= most for name, most in function.most.items()), sizes
        self._fill(pieces, sizes["max_pages"])
        self.ranks.tell(self.plan, function, sizes, self.memory)
        self.follow(function, sizes)
        return self.memory.tensor(function, function.result, sizes)

    def follow(self, function: Function, sizes: Mapping[str, int]) -> None:
        """Run a function on what is in the host's inputs."""
        self.memory.staged.copy_(self.memory.host, non_blocking=True)
        if function.name not in self.bound:
            self.bound[function.name] = self.engine.bind(self.plan, function, self.memory)
        self.bound[function.name](sizes)

    def _fill(self, pieces: Sequence[Piece], max_pages: int) -> None:
        page = self.plan.cache.page
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        wanted: list[int] = []
        starts, lengths, tables = [0], [], []
        for piece in pieces:
            wanted += [len(ids) + place for place in piece.wanted]
            ids += piece.token_ids
            for position in range(piece.past, piece.past + len(piece.token_ids)):
                positions.append(position)
                slots.append(piece.pages[position // page] * page + position % page)
            starts.append(len(ids))
            lengths.append(piece.past + len(piece.token_ids))
            tables.append([*piece.pages, *[-1] * (max_pages - len(piece.pages))])
        given: dict[str, Sequence[object]] = {
            "input_ids": ids, "position_ids": positions, "slots": slots, "wanted": wanted,
            "starts": starts, "lengths": lengths, "block_tables": tables,
        }  # fmt: skip
        for name, numbers in given.items():
            if numbers:
                self.memory.filled[name][: len(numbers)] = numbers

"""Which tokens each sequence has, kept on the device for those that are penalised for repetition.

A row of `seen` is of the sequence that stands there in a call. While it stays there, each step adds
the one token that the call is given anyway; a sequence that comes to a row brings all of its
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass
class Seen:
    """Rows u8 [sequences, vocabulary]; not 0: seen.

    Attributes:
        owners: of each row, the list of tokens it was made of, and how many of them are in it.
    """

    rows: torch.Tensor
    owners: dict[int, tuple[Sequence[int], int]] = field(default_factory=dict)

    def update(self, histories: Sequence[Sequence[int] | None], latest: torch.Tensor) -> None:
        """Make the rows those of a call.

        Args:
            histories: all tokens of each sequence, in a list that grows and is the same object in
                every call; None if it is not penalised.
            latest: int32, on the device: the last token of each sequence in turn, or nothing.
        """
        if all(history is None for history in histories):
            return
        for row, history in enumerate(histories):
            owner, known = self.owners.pop(row, (None, 0))
            if history is None:
                continue
            if owner is not history:
                self.rows[row].zero_()
                known = 0
            if len(history) > known + len(latest[row : row + 1]):
                self._mark(row, history[known:])
            self.owners[row] = (history, len(history))
        count = min(len(latest), len(histories))
        if count:
            self.rows[:count].scatter_(1, latest[:count, None].long(), 1)

    def _mark(self, row: int, tokens: Sequence[int]) -> None:
        import torch

        self.rows[row, torch.tensor(tokens, device=self.rows.device)] = 1

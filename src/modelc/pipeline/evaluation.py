"""A scheme's perplexity on a text and its distance from the float model, without compiling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelc.bundle.tokenizer import Tokenizer
from modelc.errors import BadInput, Where
from modelc.pipeline.simulation import Simulated
from modelc.verify.evaluate import NO_METRICS, Evaluation, Metric, Window, evaluate_windows, windows

Progress = Callable[[int, int], None]

# Where nothing is said: attention takes the square of it, and more context changes little.
DEFAULT_WINDOW: Final = 512


@dataclass(frozen=True)
class TextWindows:
    """A text as tokens, cut into windows that overlap by half."""

    token_ids: tuple[int, ...]
    parts: tuple[Window, ...]

    @property
    def sequences(self) -> list[tuple[int, ...]]:
        return [self.token_ids[part.start : part.stop] for part in self.parts]


def read_windows(
    tokenizer: Tokenizer, text: Path, context_length: int, window: int | None, tokens: int | None
) -> TextWindows:
    """Cut a UTF-8 text, or its first `tokens`, into windows; None for the longest that the context
    holds.

    Raises:
        BadInput: no such text, fewer than two tokens, or a window longer than the context.
    """
    where = Where(path=str(text))
    try:
        token_ids = tokenizer.encode(text.read_text(encoding="utf-8"))[:tokens]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"unreadable text: {error}", where=where) from error
    if len(token_ids) < 2:
        raise BadInput(
            f"the text has {len(token_ids)} tokens, which is no text to measure on",
            where=where,
            hint="give a longer --text",
        )
    length = context_length if window is None else window
    if not 2 <= length <= context_length:
        raise BadInput(
            f"a window of {length} tokens doesn't fit the context of {context_length}",
            hint=f"use --window {context_length} or less, at least 2",
        )
    parts = windows(len(token_ids), length, max(1, length // 2))
    return TextWindows(tuple(token_ids), tuple(parts))


def evaluate_simulated(
    simulated: Simulated,
    text: TextWindows,
    metrics: Mapping[str, Metric] = NO_METRICS,
    kinds: Mapping[str, str] | None = None,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Return how a scheme does on a text, and how far it is from the float model there.

    Args:
        kinds: module -> kind of its weights, in place of the recipe's.
    """
    sequences: Sequence[Sequence[int]] = text.sequences
    return evaluate_windows(
        text.token_ids,
        text.parts,
        simulated.logits(sequences, kinds),
        simulated.float_logits(sequences),
        metrics,
        progress,
    )

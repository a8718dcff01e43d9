"""Output channels whose weights are all zero: right as they are, but seldom meant."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


class ZeroChannels:
    """Looks at matrices [out, in] one by one and counts their channels of zeros."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, int]] = {}

    def look(self, name: str, weight: np.ndarray) -> None:
        """Take in one weight; what is no matrix, and an embedding's rows of unused tokens, are
        passed over."""
        if weight.ndim == 2 and not name.startswith("model.embed_tokens"):
            empty = int(np.count_nonzero(~weight.any(axis=1)))
            if empty:
                self._found[name] = (empty, weight.shape[0])

    def lines(self) -> Iterator[str]:
        """Yield a warning for each matrix that has such channels, in the order of names."""
        for name, (empty, channels) in sorted(self._found.items()):
            yield f"{name}: the weights of {empty} of {channels} output channels are all zero"

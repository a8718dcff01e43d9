"""The range of a tensor that its codes are to cover."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both finite.

    Attributes:
        clips_low, clips_high: an observer has weighed what lies beyond this end, and left it out.
    """

    low: float
    high: float
    clips_low: bool = False
    clips_high: bool = False

    @property
    def limit(self) -> float:
        return max(abs(self.low), abs(self.high))

    def widened(self, factor: float) -> Range:
        """Return the range with each end `factor` times as far out, unless it clips there: what the
        calibration's text did not show is then taken for as unimportant as what it did."""
        low = self.low if self.clips_low else self.low * factor
        high = self.high if self.clips_high else self.high * factor
        return Range(low, high, self.clips_low, self.clips_high)

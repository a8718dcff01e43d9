"""How far an observation of many sequences came, kept on the disk so that it can go on there.

    observed.npz    what was gathered in the units of work done, and how many these are
    states.N.npz    what the parts behind unit N read, of every sequence

`observed.npz` is what counts: it is written last, and names the states that go with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from modelc.files import DAMAGED_ZIP, whole_file
from modelc.ir.arrays import load_arrays, load_sequence, save_arrays, save_sequence

_OBSERVED: Final = "observed.npz"
_UNITS: Final = "units"

State = dict[str, np.ndarray]
"""What the parts behind read of one sequence, by name."""


class Gatherer(Protocol):
    """What an observation gathers into: it can say, and be told, all that it keeps."""

    def arrays(self) -> Mapping[str, np.ndarray]: ...

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Raises KeyError or ValueError for what `arrays` doesn't give."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """A folder for one observation: always the same graph, sequences and gatherer."""

    folder: Path
    gatherer: Gatherer

    def save(self, units: int, states: Sequence[State] | None = None) -> None:
        """Keep what was gathered in so many units of work, and the states behind them; None if
        they are those that were given last."""
        if states is not None:
            with whole_file(self._states(units)) as name, name.open("wb") as stream:
                save_sequence(stream, states)
        with whole_file(self.folder / _OBSERVED) as name, name.open("wb") as stream:
            save_arrays(stream, {_UNITS: np.array(units), **self.gatherer.arrays()})
        if states is not None:
            self._states(units - 1).unlink(missing_ok=True)

    def load(self, most: int) -> tuple[int, list[State]] | None:
        """Give the gatherer what was gathered, and return the units done and the states that were
        given last; None if nothing whole is kept.

        Args:
            most: of the units, behind which there are no new states.
        """
        try:
            arrays = load_arrays(self.folder / _OBSERVED)
            units = int(arrays.pop(_UNITS))
            states = load_sequence(self._states(min(units, most)))
            self.gatherer.restore(arrays)
        except (*DAMAGED_ZIP, KeyError, IndexError):
            return None  # none yet, or torn by a loss of power: it is made again
        return units, states

    def _states(self, units: int) -> Path:
        return self.folder / f"states.{units}.npz"

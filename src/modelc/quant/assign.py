"""From what each matrix costs in each kind to the kinds of all: a path of assignments from the most
precise to the smallest, each the cheapest of its size.

Costs are taken to add up. Then the assignments that are cheapest for some price of a byte are found
matrix by matrix: each goes down the lower convex hull of its own kinds, and the steps of all are
taken in the order of what they cost per byte saved (Shoham and Gersho, "Efficient bit allocation
for an arbitrary set of quantizers", 1988). No assignment of the size of a point of the path, or
smaller, costs less than it; between two points a better one may be found, by less than one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise


@dataclass(frozen=True)
class Option:
    """One way to store a matrix: its kind, bytes, and what it costs (not negative)."""

    kind: str
    size: int
    cost: float


@dataclass(frozen=True)
class Move:
    """A step of the path: a module's matrix goes to a smaller option."""

    module: str
    option: Option
    saved: int
    cost: float

    @property
    def price(self) -> float:
        """What it costs per byte saved."""
        return self.cost / self.saved


@dataclass(frozen=True)
class AssignmentPath:
    """Assignments in order of falling size; point 0 is before the first move.

    Attributes:
        start: module -> option of least cost.
    """

    start: Mapping[str, Option]
    moves: tuple[Move, ...]

    def __len__(self) -> int:
        return len(self.moves) + 1

    def without(self, point: int) -> AssignmentPath:
        """Return the path that leaves the module of the move behind a point as it is there: for
        whom that move is too much, but not those behind it."""
        module, moves = self.moves[point].module, self.moves
        others = tuple(move for move in moves[point:] if move.module != module)
        return AssignmentPath(self.start, moves[:point] + others)

    def kinds(self, point: int) -> dict[str, str]:
        """Return the kind of every module at a point."""
        moved = {move.module: move.option for move in self.moves[:point]}
        return {module: option.kind for module, option in {**self.start, **moved}.items()}

    def sizes(self) -> list[int]:
        """Return the bytes of all matrices at every point."""
        first = sum(option.size for option in self.start.values())
        return list(accumulate((-move.saved for move in self.moves), initial=first))

    def costs(self) -> list[float]:
        """Return what all matrices cost together at every point."""
        first = sum(option.cost for option in self.start.values())
        return list(accumulate((move.cost for move in self.moves), initial=first))


def within_size(
    path: AssignmentPath, size: int, rounds: int = 4
) -> tuple[AssignmentPath, int] | None:
    """Return the path and the point on it of the least cost that was found within a size; None if
    nothing is as small.

    A large matrix may take a path from far above the size to far below: the paths on which up to
    `rounds` such matrices stay as they are, and others go on, are looked at as well.
    """
    found: list[tuple[float, AssignmentPath, int]] = []
    for _ in range(rounds):
        point = next((n for n, total in enumerate(path.sizes()) if total <= size), None)
        if point is None:
            break
        found.append((path.costs()[point], path, point))
        if not point:
            break
        path = path.without(point - 1)
    return min(found, key=lambda one: one[0])[1:] if found else None


def assignment_path(options: Mapping[str, Sequence[Option]]) -> AssignmentPath:
    """Return the path through the options of every module, of which each has one at least."""
    hulls = {module: _hull(choice) for module, choice in options.items()}
    moves = [
        Move(module, after, before.size - after.size, after.cost - before.cost)
        for module, hull in hulls.items()
        for before, after in pairwise(hull)
    ]
    # Stable: the moves of one module stay in order where their prices are equal.
    ordered = sorted(moves, key=lambda move: move.price)
    return AssignmentPath({module: hull[0] for module, hull in hulls.items()}, tuple(ordered))


def _hull(options: Sequence[Option]) -> list[Option]:
    """Return the lower convex hull of cost over size, from the least cost to the least size."""
    left = sorted(options, key=lambda option: (option.cost, option.size, option.kind))
    hull = [left[0]]
    while smaller := [option for option in left if option.size < hull[-1].size]:
        last = hull[-1]
        prices = [(option.cost - last.cost) / (last.size - option.size) for option in smaller]
        least = min(prices)
        near = [option for option, price in zip(smaller, prices, strict=True) if price == least]
        hull.append(min(near, key=lambda option: option.size))
    return hull

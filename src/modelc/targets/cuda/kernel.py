"""What a kernel is: its arguments, the constants that it is compiled for, its grid and its tiles.

A kernel's function takes, in this order: its tensors, its sizes, its constants, its tile's values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

ElementType = Literal["act", "kv", "bf16", "fp16", "fp32", "i32", "i64", "u8", "e4m3"]
"""`act` is what the model computes in (bf16 or fp16), `kv` what its cache holds (that, or e4m3)."""

Constant = int | float | bool | str
Constants = Mapping[str, Constant]

SYMBOLS: Final = ("tokens", "sequences", "rows", "max_pages")
"""What differs from call to call: new tokens, sequences that they belong to, tokens whose logits
are wanted, width of the block table."""


@dataclass(frozen=True)
class Extent:
    """times * ceil(symbol / per) + plus: a side of a grid or of a tensor; without a symbol
    `times` + `plus`."""

    times: int = 1
    symbol: str = ""
    per: int = 1
    plus: int = 0

    def of(self, sizes: Mapping[str, int]) -> int:
        """Return the number that it is for these sizes.

        Raises:
            KeyError: its symbol is not among them.
        """
        if not self.symbol:
            return self.times + self.plus
        return self.times * -(-sizes[self.symbol] // self.per) + self.plus


Grid = tuple[Extent, Extent, Extent]


@dataclass(frozen=True)
class Tensor:
    """An argument that is a pointer; its tensor lies in rows, 16-byte aligned.

    Attributes:
        written: the kernel writes it (all of it, unless it is `updated`).
        updated: the kernel changes some of it and leaves the rest: a cache, a workspace of counts.
        optional: the kernel is compiled without it where there is none.
    """

    name: str
    type: ElementType
    written: bool = False
    updated: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Tile:
    """How a kernel divides its work: the values of its tile parameters, by name, and Triton's
    warps and stages."""

    values: Mapping[str, int] = field(default_factory=dict)
    warps: int = 4
    stages: int = 3


@dataclass(frozen=True)
class Kernel:
    """One row.

    Attributes:
        name: of the function, and of the module of `kernels` and `reference` that it lies in.
        tensors: its pointers.
        sizes: symbols that it takes as int32 at run time.
        constants: names of what it is compiled for, from the graph.
        tile_names: names of its tile parameters.
        grid: from constants and tile values to its grid.
        tile: from constants and the architecture (80, 89, 90, 100) to the tile used where no tuned
            one is known.
        since: the first architecture that has what it uses.
    """

    name: str
    tensors: tuple[Tensor, ...]
    sizes: tuple[str, ...]
    constants: tuple[str, ...]
    tile_names: tuple[str, ...]
    grid: Callable[[Constants, Mapping[str, int]], Grid]
    tile: Callable[[Constants, int], Tile]
    since: int = 80

    @property
    def parameters(self) -> Sequence[str]:
        """Names of all parameters of its function, in order."""
        tensors = [tensor.name for tensor in self.tensors]
        return [*tensors, *self.sizes, *self.constants, *self.tile_names]


ONE: Final = Extent()


def blocks(count: int, per: int) -> Extent:
    """ceil(count / per), known when compiling."""
    return Extent(-(-count // per))


def power_of_two(count: int) -> int:
    """The least power of two that is not less."""
    return 1 << max(count - 1, 0).bit_length()

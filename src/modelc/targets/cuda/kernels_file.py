"""What launching the cubins of one architecture takes: kernels.json beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from modelc.errors import Damaged, Where
from modelc.targets.cuda.aot import Cubin
from modelc.targets.cuda.kernel import SYMBOLS, Extent
from modelc.targets.cuda.variant import Variant

FILE: Final = "kernels.json"


@dataclass(frozen=True)
class Launch:
    """One kernel, ready to be launched.

    Attributes:
        cubin: name of its file.
        grid: its sides, by the sizes of a call.
        tensors, sizes: that it takes, in order.
        shared: bytes of dynamic shared memory.
        scratch: bytes of global scratch for each block.
    """

    cubin: str
    entry: str
    grid: tuple[Extent, Extent, Extent]
    tensors: tuple[str, ...]
    sizes: tuple[str, ...]
    warps: int
    shared: int
    scratch: int


def save_kernels(variants: Mapping[str, Variant], cubins: Mapping[str, Cubin], path: Path) -> None:
    """Write what launching takes.

    Args:
        variants: by the plan's key, with their tiles.
        cubins: by the keys of these.
    """
    kernels = {key: asdict(_launch(one, cubins[one.key])) for key, one in variants.items()}
    document = {"kernels": kernels, "tiles": {k: one.document() for k, one in variants.items()}}
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def load_kernels(path: Path) -> dict[str, Launch]:
    """Return the kernels by the plan's keys.

    Raises:
        Damaged: the file is something else, or names a file that is not beside it.
    """
    from pydantic import TypeAdapter

    try:
        document = json.loads(path.read_bytes())
        kernels = TypeAdapter(dict[str, Launch]).validate_python(document["kernels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"no kernels: {error}", where=Where(path=str(path))) from error
    for key, launch in kernels.items():
        if problem := _problem(launch):
            raise Damaged(f"{problem} of kernel {key}", where=Where(path=str(path)))
    return kernels


def _problem(launch: Launch) -> str:
    """Say what no kernel has: the file may come from anyone."""
    if Path(launch.cubin).name != launch.cubin:
        return f"the file {launch.cubin!r}"
    if not 0 < launch.warps <= 32 or min(launch.shared, launch.scratch) < 0:
        return "warps or memory"
    if not set(launch.sizes) <= set(SYMBOLS):
        return "sizes"
    for side in launch.grid:
        if side.symbol not in ("", *SYMBOLS) or side.times < 0 or side.per < 1:
            return "the grid"
    return ""


def _launch(variant: Variant, cubin: Cubin) -> Launch:
    row = variant.row
    return Launch(
        cubin.path.name,
        cubin.entry,
        row.grid(variant.constants, variant.tile.values),
        tuple(tensor.name for tensor in row.tensors if tensor.name in variant.types),
        row.sizes,
        cubin.warps,
        cubin.shared,
        cubin.scratch,
    )

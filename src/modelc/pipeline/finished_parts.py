"""What algorithms made of each part of a model, kept while they work on the next, so that a run
that was killed goes on where it was.

    PART.safetensors   the weights of a part that changed
    part.N.json        what the Nth part is called, what was written of it, and what it lost
    states.N.npz       what the next part reads of each sample
    done.json          N; it is written last
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.decoder.expert_modules import is_router
from modelc.errors import BadInput
from modelc.files import whole_file, write_atomic
from modelc.ir.arrays import load_sequence, save_sequence
from modelc.ir.coded_file import Written, write_weights
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.quant.algorithms.layer import Floats, Layer
from modelc.quant.algorithms.walk import Checkpoint

_DONE: Final = "done.json"


@dataclass(frozen=True)
class FinishedPart:
    """One part's row.

    Attributes:
        file: its weights' file; None if none changed.
        coded: modules whose matrices are codes.
        written: names of all weights in the file.
        errors: module -> figures of what rounding lost.
    """

    file: Path | None
    coded: tuple[str, ...]
    written: tuple[str, ...]
    errors: Mapping[str, Mapping[str, float | None]]


def keep_part(
    folder: Path, layer: Layer, changed: Mapping[str, Floats], checkpoint: Checkpoint
) -> None:
    """Write what became of a part, and where to go on from."""
    done = checkpoint.done
    weights: dict[str, Written] = {
        f"{module}.weight": (coded, layer.forms[module]) for module, coded in layer.coded.items()
    }
    weights |= {name: _narrowed(name, array) for name, array in changed.items()}
    if weights:
        with whole_file(folder / f"{layer.name}.safetensors") as name:
            write_weights(name, weights)
    row = {
        "name": layer.name,
        "coded": sorted(layer.coded),
        "written": sorted(weights),
        "errors": {
            module: {"sqnr_db": _sqnr(layer, module), **layer.notes.get(module, {})}
            for module in sorted(layer.coded)
        },
    }
    _write(folder / f"part.{done}.json", row)
    with whole_file(folder / f"states.{done}.npz") as name, name.open("wb") as stream:
        save_sequence(stream, checkpoint.states)
    _write(folder / _DONE, done)
    (folder / f"states.{done - 1}.npz").unlink(missing_ok=True)


def resume(folder: Path) -> Checkpoint | None:
    """Return where an earlier run stood; None if there was none, or its files are damaged."""
    try:
        done = int(json.loads((folder / _DONE).read_text()))
        states = load_sequence(folder / f"states.{done}.npz")
        for part in finished_parts(folder, done):
            if part.file and not part.file.is_file():
                return None
    except (OSError, ValueError, KeyError, EOFError):
        return None
    return Checkpoint(done, states)


def finished_parts(folder: Path, count: int) -> Iterator[FinishedPart]:
    """Yield the first `count` parts' rows."""
    for index in range(1, count + 1):
        row: dict[str, Any] = json.loads((folder / f"part.{index}.json").read_text())
        file = folder / f"{row['name']}.safetensors" if row["written"] else None
        yield FinishedPart(file, tuple(row["coded"]), tuple(row["written"]), row["errors"])


def _write(path: Path, document: Any) -> None:
    write_atomic(path, json.dumps(document).encode(), durable=False)


def _narrowed(name: str, array: Floats) -> np.ndarray:
    """Tables lie in 16 bits, vectors and routers of experts in 32.

    Raises:
        BadInput: a number is too large for 16 bits.
    """
    if array.ndim == 1 or is_router(name.removesuffix(".weight")):
        return array
    with np.errstate(over="ignore"):
        halves = array.astype(np.float16)
    if not np.isfinite(halves).all():
        raise BadInput("a table of weights has numbers that 16 bits can't hold")
    return halves


def _sqnr(layer: Layer, module: str) -> float | None:
    """Return signal over what rounding changed of a matrix, in dB; None if there is none."""
    values = layer.weights[f"{module}.weight"]
    lost = values - dequantise_rows(layer.coded[module])
    signal, noise = (float(np.square(each, dtype=np.float64).sum()) for each in (values, lost))
    return round(10 * float(np.log10(signal / noise)), 2) if signal and noise else None

"""NumPy's .npz: one array for each input, samples along the first axis."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from modelc.errors import BadInput, Where, nearest
from modelc.files import DAMAGED_ZIP
from modelc.quant.feeds.inputs import Feed, InputSpec, fit_feed

MAX_BYTES: Final = 8 << 30
"""Of all arrays unpacked; they are in memory together."""


def fits(path: Path, start: bytes) -> bool:
    """Whether a file is a .npz, by its name or as the ZIP file that it is."""
    return path.suffix.lower() == ".npz" or start.startswith(b"PK\x03\x04")


def read(path: Path, specs: Sequence[InputSpec]) -> Iterator[Feed]:
    """Yield the samples of all arrays together.

    An array is [samples, *shape of the input], or where the input has a batch axis in front
    [samples * batch, ...]; one of the input's own shape is one sample.

    Raises:
        BadInput: the file is damaged, an array is missing or does not fit, or they hold different
            numbers of samples.
    """
    where = Where(path=str(path))
    arrays = _arrays(path, specs)
    samples = {spec.name: _samples(arrays[spec.name], spec, where) for spec in specs}
    counts = {name: len(array) for name, array in samples.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise BadInput(f"the arrays hold different numbers of samples: {listed}", where=where)
    for index in range(next(iter(counts.values()))):
        sample = {name: array[index] for name, array in samples.items()}
        yield fit_feed(sample, specs, f"sample {index}", where)


def _arrays(path: Path, specs: Sequence[InputSpec]) -> dict[str, np.ndarray]:
    where = Where(path=str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise BadInput(
                f"{size:,} bytes are more than a .npz may hold",
                where=where,
                hint="give raw files by an input list, which are read one after the other",
            )
        with np.load(path, allow_pickle=False) as saved:
            found = {spec.name: saved[spec.name] for spec in specs if spec.name in saved.files}
            names = list(saved.files)
    except (*DAMAGED_ZIP, MemoryError) as error:  # or a header claims more than there is
        raise BadInput(f"not a .npz file: {error}", where=where) from error
    if missing := [spec.name for spec in specs if spec.name not in found]:
        raise BadInput(
            f"it has no array {missing[0]!r}",
            where=where,
            hint=nearest(missing[0], names) if names else "it is empty",
        )
    return found


def _samples(array: np.ndarray, spec: InputSpec, where: Where) -> np.ndarray:
    """Return an array as [samples, *shape]."""
    shape = spec.shape
    if array.shape == shape:
        return array[None]
    if array.ndim == len(shape) + 1 and array.shape[1:] == shape and len(array):
        return array
    batched = shape and array.ndim == len(shape) and array.shape[1:] == shape[1:]
    if batched and len(array) and len(array) % shape[0] == 0:
        return array.reshape(-1, *shape)
    raise BadInput(
        f"the array of {spec} is {list(array.shape)}",
        where=where,
        hint=f"give [samples, {', '.join(map(str, shape))}]",
    )

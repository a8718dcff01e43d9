"""Batches of calibration inputs: raw files put together, the last batch filled with its last."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from modelc.errors import BadInput, Where
from modelc.targets.qaic.mlperf import BATCHED_INPUTS

_LARGEST_LIST: Final = 1 << 26
_LARGEST_BATCH: Final = 1 << 20


def write_batches(input_list: Path, batch: int, folder: Path) -> Path:
    """Write the batches of a list of raw inputs into `folder`/raw, and their list beside it.

    Each batch has the name of its first input, .rgb32 being .raw. Returns the list's path.

    Raises:
        BadInput: the list is empty or can't be read, an input is missing, or two batches would
            have one name.
    """
    if not 0 < batch <= _LARGEST_BATCH:
        raise BadInput(f"no batch of {batch} inputs can be")
    inputs = _read_list(input_list)
    raw = folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    batches = [inputs[start : start + batch] for start in range(0, len(inputs), batch)]
    outputs = [raw / group[0].name.replace(".rgb32", ".raw") for group in batches]
    if len(set(outputs)) < len(outputs):
        raise BadInput("two batches would have one name", where=Where(path=str(input_list)))
    for output, group in zip(outputs, batches, strict=True):
        _join([*group, *[group[-1]] * (batch - len(group))], output)
    made = folder / BATCHED_INPUTS
    made.write_text("\n".join(str(output.absolute()) for output in outputs))
    return made


def _read_list(path: Path) -> list[Path]:
    where = Where(path=str(path))
    try:
        if path.stat().st_size > _LARGEST_LIST:
            raise BadInput("too large for a list of inputs", where=where)
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadInput(f"the list can't be read: {error.strerror}", where=where) from error
    except UnicodeDecodeError as error:
        raise BadInput("not a list of files", where=where) from error
    inputs = [Path(line) for line in lines if line.strip()]
    if not inputs:
        raise BadInput("the list names no inputs", where=where)
    missing = next((item for item in inputs if not item.is_file()), None)
    if missing is not None:
        raise BadInput(f"there is no input {missing}", where=where)
    return inputs


def _join(parts: Sequence[Path], output: Path) -> None:
    if any(part.resolve() == output.resolve() for part in parts):
        raise BadInput("an input lies where a batch is written", where=Where(path=str(output)))
    with output.open("wb") as writer:
        for part in parts:
            with part.open("rb") as reader:
                shutil.copyfileobj(reader, writer, 1 << 20)

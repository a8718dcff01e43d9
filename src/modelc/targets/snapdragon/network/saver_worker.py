"""Worker: writes a network as C++ source, with the vendor's Saver.

Saver is a backend that writes down what it is called with. It does so in the folder that the
process runs in, under names of its own.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, Final

from modelc.errors import ToolFailed, Where
from modelc.process import serve
from modelc.targets.snapdragon.library import library_path
from modelc.targets.snapdragon.network import op_trace, places
from modelc.targets.snapdragon.network.placing import partition_of, read_source
from modelc.targets.snapdragon.network.saver_source import PARAMS, SOURCE
from modelc.targets.snapdragon.network.session import open_whole

LOG = Path("saver_worker.log")
FOLDER: Final = "saver_output"


def handle(job: dict[str, Any]) -> dict[str, Any]:
    """Write `job["model"]` into the folder `job["output"]`: SOURCE and PARAMS."""
    model, output = Path(job["model"]), Path(job["output"])
    output.mkdir(parents=True, exist_ok=True)
    log = LOG.resolve()
    with tempfile.TemporaryDirectory(prefix="saver-", dir=output) as fresh:
        folder = Path(fresh)
        session = open_whole(
            job, log, folder, {"qnn_saver_path": str(library_path("QnnSaver"))}, inside=folder
        )
        trace, source = op_trace.read_trace(folder), read_source(model, folder)
        found = op_trace.operators_of(trace, source.names, source.modules)
        operators = sum(map(len, found.values()))
        partition = partition_of(session, source, op_trace.refusals_of(trace))
        places.check_whole(partition, Where(graph=job["name"]))
        os.chdir(output)
        del session  # so that all is written
        for name in (PARAMS, SOURCE):
            written = folder / FOLDER / name
            if not written.is_file():
                raise ToolFailed(f"Saver wrote no {name}", where=Where(graph=job["name"]))
            if name == SOURCE:
                _forget_path(written, job["name"])
            written.replace(output / name)
    return {"operators": operators}


def _forget_path(source: Path, name: str) -> None:
    """Take the number out of the graph's name that is made of the path by which the model was
    opened, so that the same model gives the same bytes."""
    number = re.compile(rb"(?<=" + re.escape(f"{name}_{name}_".encode()) + rb")\d+(?=_)")
    rewritten = source.with_suffix(".part")
    with source.open("rb") as lines, rewritten.open("wb") as stream:
        stream.writelines(number.sub(b"0", line) for line in lines)
    rewritten.replace(source)


if __name__ == "__main__":
    serve(handle)

"""Which operators of a network HTP takes, asked of the provider itself, before compiling."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from modelc.errors import Damaged, Where
from modelc.files import write_atomic
from modelc.hashing import digest, file_digest
from modelc.ir.onnx_file import check_places, read_proto
from modelc.process import run_worker
from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.library import toolchain
from modelc.targets.snapdragon.network.options import NetworkOptions, Prepared, prepare
from modelc.targets.snapdragon.network.verdicts import (
    Judged,
    OperatorVerdict,
    read_judged,
    verdicts_of,
)

STEP: Final = "probe_operators"
NAME: Final = "probe"
FORMAT: Final = 1  # of what is cached: another number for other contents or another meaning
MAX_CACHED_BYTES: Final = 1 << 28


def probe_operators(
    model: Path,
    chipset: Chipset,
    options: NetworkOptions,
    *,
    cache_dir: Path,
    workdir: Path,
    timeout_s: float,
) -> tuple[OperatorVerdict, ...]:
    """Return for each node of a static ONNX graph, in its order, whether HTP takes it; and after
    them what ONNX Runtime put in by itself and HTP refuses.

    The verdicts are kept in `cache_dir`, by the contents of the model and of op packages, the
    versions of the tools, and all settings. HTP is asked about one operator at a time: what it
    takes may still be too large together.

    Raises:
        BadInput: a damaged model, or what the chipset can't do.
        ToolFailed: the provider crashed, or failed for another reason than a refused operator.
    """
    where = Where(step=STEP, path=str(model))
    prepared = prepare(model, NAME, chipset, options, where)
    proto = read_proto(model)
    nodes = [node.name for node in proto.graph.node]
    kept = cache_dir / f"{_key(model, options, prepared)}.json"
    if (found := _cached(kept, nodes)) is not None:
        return verdicts_of(proto, chipset, found)
    reply = run_worker(
        "modelc.targets.snapdragon.network.probe_worker",
        prepared.job(model, NAME),
        workdir=workdir,
        timeout_s=timeout_s,
        where=where,
        hint="probe a smaller part of the model to see which operator it is",
    )
    found = read_judged(reply, nodes)
    cache_dir.mkdir(parents=True, exist_ok=True)
    write_atomic(kept, json.dumps(reply, indent=1).encode(), durable=False)
    return verdicts_of(proto, chipset, found)


def _key(model: Path, options: NetworkOptions, prepared: Prepared) -> str:
    """Return the digest of all that the verdicts depend on."""
    beside = check_places(read_proto(model).graph.initializer, model)
    return digest(
        {
            "format": FORMAT,
            "model": file_digest(model),
            "weights": {name: file_digest(model.parent / name) for name in beside},
            "packages": [
                (package.op, package.interface, package.target, file_digest(package.library))
                for package in options.op_packages
            ],
            "settings": {k: v for k, v in prepared.settings.items() if k != "op_packages"},
            "tools": toolchain(),
        }
    )


def _cached(path: Path, nodes: Sequence[str]) -> Judged | None:
    """Return what is kept at `path`; None if nothing is, or something else."""
    try:
        if path.stat().st_size > MAX_CACHED_BYTES:
            return None
        return read_judged(json.loads(path.read_text(encoding="utf-8")), nodes)
    except (OSError, ValueError, RecursionError, Damaged):
        return None

"""Compiles a lowered case and runs it, once for each graph, inputs, settings and tools."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import onnx_ir as ir

from modelc.errors import ModelcError, Where
from modelc.files import write_atomic
from modelc.hashing import digest
from modelc.ir.arrays import Arrays, load_arrays, save_arrays
from modelc.ir.write import write_model
from modelc.process import decode_error, encode_error
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.library import toolchain
from modelc.targets.snapdragon.network.compile import compile_network
from modelc.targets.snapdragon.network.options import NetworkOptions, prepare
from modelc.targets.snapdragon.network.probe import probe_operators
from modelc.targets.snapdragon.network.run import run_network
from onnx_nodes.forked import run_forked
from onnx_nodes.schemes import CHIPSET

TIMEOUT_S: Final = 120.0
NAME: Final = "network"
_FORMAT: Final = 1  # of what is kept: another number for other contents or another meaning
_WORKERS: Final = ("compile", "probe", "run")


@dataclass(frozen=True)
class Refusal:
    """What the provider said, before or while it compiled."""

    operator: str
    reason: str
    hint: str


def simulate(
    model: ir.Model,
    inputs: Mapping[str, np.ndarray],
    options: NetworkOptions,
    folder: Path,
    kept: Path,
) -> dict[str, np.ndarray] | Refusal:
    """Return what HTP's simulator gives for a lowered graph, or why not.

    Args:
        options: how it is compiled.
        folder: for what is written meanwhile.
        kept: the folder of earlier results.

    Raises:
        ModelcError: the compiler or the simulator failed or crashed.
    """
    graph = folder / f"{NAME}.onnx"
    write_model(model, graph)
    taken = {str(value.name): inputs[str(value.name)] for value in model.graph.inputs}
    place = kept / _key(graph, taken, options)
    if place.with_suffix(".npz").exists():
        return load_arrays(place.with_suffix(".npz"))
    if place.with_suffix(".json").exists():
        return _read(json.loads(place.with_suffix(".json").read_text()))
    form: dict[str, Any]
    try:
        with _forked():
            outputs = _run(graph, taken, options, folder)
        if not isinstance(outputs, Refusal):
            partial = place.with_suffix(".part")
            with partial.open("wb") as file:
                save_arrays(file, outputs)
            partial.replace(place.with_suffix(".npz"))
            return outputs
        form = vars(outputs)
    except ModelcError as error:
        form = {"error": encode_error(error)}
    write_atomic(place.with_suffix(".json"), json.dumps(form).encode(), durable=False)
    return _read(form)


def _read(form: dict[str, Any]) -> Refusal:
    if "error" in form:
        raise decode_error(form["error"], "")
    return Refusal(**form)


def _run(
    graph: Path, inputs: Arrays, options: NetworkOptions, folder: Path
) -> dict[str, np.ndarray] | Refusal:
    chipset = find_chipset(CHIPSET)
    try:
        made = compile_network(
            graph, NAME, chipset, options, folder / f"{NAME}.bin",
            workdir=folder / "compile", timeout_s=TIMEOUT_S,
        )  # fmt: skip
    except ModelcError:
        # A compile is preceded by this question; here that would be half of the time.
        verdicts = probe_operators(
            graph, chipset, options, cache_dir=folder, workdir=folder / "probe",
            timeout_s=TIMEOUT_S,
        )  # fmt: skip
        for row in verdicts:
            if row.verdict == "refused":
                return Refusal(row.op_type, row.reason, row.hint)
        raise
    return run_network(made.wrapper, [inputs], workdir=folder / "run", timeout_s=TIMEOUT_S)[0]


def _key(graph: Path, inputs: Arrays, options: NetworkOptions) -> str:
    prepared = prepare(graph, NAME, find_chipset(CHIPSET), options, Where())
    weights = graph.with_name(f"{graph.name}.data")
    return digest(
        {
            "format": _FORMAT,
            "model": graph.read_bytes(),
            "weights": weights.read_bytes() if weights.exists() else b"",
            "inputs": [
                (name, str(array.dtype), list(array.shape), array.tobytes())
                for name, array in inputs.items()
            ],
            "settings": prepared.settings,
            "tools": toolchain(),
        }
    )


@contextmanager
def _forked() -> Iterator[None]:
    """Have modelc's own steps start their workers as children of this process."""
    place = "modelc.targets.snapdragon.network"
    patches = [mock.patch(f"{place}.{name}.run_worker", run_forked) for name in _WORKERS]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()

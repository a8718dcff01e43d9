"""A compiled program on the card itself, through the platform SDK's `qaicrt`.

Source: the public use of it in https://github.com/quic/efficient-transformers (cloud_infer.py).
Retained states never leave the card: their buffers are passed empty.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.errors import BadInput, Damaged, Missing, ModelcError, Where

TIMEOUT_MS: Final = 60_000
LIBRARIES: Final = (f"/opt/qti-aic/dev/lib/{platform.machine()}", "/opt/qti-aic/dev/python")
_TYPES: Final[Mapping[str, type]] = {
    "FLOAT_TYPE": np.float32,
    "FLOAT_16_TYPE": np.float16,
    "INT8_Q_TYPE": np.int8,
    "UINT8_Q_TYPE": np.uint8,
    "INT16_Q_TYPE": np.int16,
    "INT32_Q_TYPE": np.int32,
    "INT32_I_TYPE": np.int32,
    "INT64_I_TYPE": np.int64,
    "INT8_TYPE": np.int8,
}
_SKIPPED: Final = ("past_",)


class CardEngine:
    """A QPC, activated on one or several devices (`Engine`)."""

    name = "qaicrt"

    def __init__(self, qpc: Path, devices: Sequence[int] = ()) -> None:
        """Load and activate a program; without `devices` the SDK picks one.

        Raises:
            BadInput: `qpc` is no folder of a compiled program.
            Missing: the platform SDK is not here.
            ModelcError: the card refuses the program.
        """
        if not (qpc / "programqpc.bin").is_file():
            raise BadInput(
                "no compiled program: an interrupted compile leaves none",
                where=Where(path=str(qpc)),
                hint="compile again",
            )
        self._rt, self._api = import_runtime("qaicrt"), import_runtime("QAicApi_pb2")
        rt = self._rt
        self._context = rt.Context(rt.QIDList([*devices])) if devices else rt.Context()
        self._queue = rt.Queue(self._context, devices[0] if devices else 0)
        program = rt.Qpc(str(qpc))
        self._bindings = self._read_bindings(program, qpc)
        properties = rt.QAicProgramProperties()
        properties.dataPathTimeoutMs = TIMEOUT_MS
        if len(devices) > 1:
            properties.devMapping = ":".join(map(str, devices))
        own = devices[0] if len(devices) == 1 else None
        self._program = rt.Program(self._context, own, program, properties)
        self._expect(self._program.load(), "the program can't be loaded")
        self._expect(self._program.activate(), "the program can't be activated")
        self._call = rt.ExecObj(self._context, self._program)
        names = {row.name for row in self._bindings if row.dir == self._api.BUFFER_IO_TYPE_INPUT}
        self.inputs = frozenset(name for name in names if not name.startswith(_SKIPPED))

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a call; sizes choose among the specialisations that the program has."""
        rt = self._rt
        buffers, sizes, outputs = [], [], []
        for row in self._bindings:
            dtype = np.dtype(self._types()[row.type])
            if row.name in feeds:
                array = np.ascontiguousarray(feeds[row.name], dtype)
                buffers.append(rt.QBuffer(array.tobytes()))
                sizes.append((dtype.itemsize, [*array.shape]))
            elif row.name.startswith(_SKIPPED):
                buffers.append(rt.QBuffer(b""))
                sizes.append((dtype.itemsize, [0]))
            else:
                shape = _output_shape(row, feeds)
                buffers.append(rt.QBuffer(bytes(dtype.itemsize * int(np.prod(shape)))))
                sizes.append((dtype.itemsize, shape))
                outputs.append((row, dtype, shape))
        dims = rt.BufferDimensionsVecRef(sizes)
        self._expect(self._call.setData(buffers, dims), "no specialisation has these sizes")
        self._expect(self._queue.enqueue(self._call), "the call can't be queued")
        self._expect(self._call.waitForCompletion(), "the call failed")
        status, found = self._call.getData()
        self._expect(status, "the call's results can't be read")
        return {
            row.name: np.frombuffer(bytes(found[row.index]), dtype).reshape(shape)
            for row, dtype, shape in outputs
        }

    def run_all(self, calls: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """Run calls one after the other."""
        return [self.run(feeds) for feeds in calls]

    def close(self) -> None:
        del self._call
        self._program.deactivate()

    def _read_bindings(self, program: Any, path: Path) -> Sequence[Any]:
        status, data = program.getIoDescriptor()
        self._expect(status, "the program doesn't say what it reads and writes")
        description = self._api.IoDesc()
        description.ParseFromString(bytes(data))
        bindings = sorted(description.selected_set.bindings, key=lambda row: row.index)
        for place, row in enumerate(bindings):
            if row.index != place or row.type not in self._types():
                raise Damaged(
                    f"the program's {row.name} has no known type", where=Where(path=str(path))
                )
        return bindings

    def _types(self) -> dict[int, type]:
        return {getattr(self._api, name): kind for name, kind in _TYPES.items()}

    def _expect(self, status: Any, message: str) -> None:
        if status != self._rt.QStatus.QS_SUCCESS:
            raise ModelcError(
                f"{message} ({status})", hint="qaic-util -q says which devices are ready"
            )


def _output_shape(row: Any, feeds: Mapping[str, np.ndarray]) -> list[int]:
    """Logits have a row for each sequence of the call, and as many as were asked for."""
    *_, width = row.dims
    kept = feeds.get("num_logits_to_keep")
    return [feeds["input_ids"].shape[0], 1 if kept is None else kept.shape[0], width]


def import_runtime(name: str) -> Any:
    """Import a module of the platform SDK.

    Raises:
        Missing: it is not installed.
    """
    for path in (None, *LIBRARIES):
        if path is not None and path not in sys.path and Path(path).is_dir():
            sys.path.append(path)
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise Missing(
        f"there is no {name}: Cloud AI 100's runtime is not installed",
        hint="run it on the card's host, where the platform and Apps SDKs are, or run the ONNX "
        "(`--engine onnx`)",
    )

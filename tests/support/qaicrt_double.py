"""The card's runtime modules as far as modelc uses them, over ONNX Runtime.

A program's folder holds model.onnx beside programqpc.bin. A state's buffer must come empty, every
other one with the bytes that its sizes say, and these must be those of a specialisation.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from modelc.targets.qaic.engine import CallShapes
from modelc.targets.qaic.engine_onnx import OnnxEngine

TYPES = {1: ("FLOAT_TYPE", np.float32), 7: ("INT64_I_TYPE", np.int64)}
CODES = {"FLOAT_TYPE": 0, "FLOAT_16_TYPE": 1, "INT8_Q_TYPE": 2, "UINT8_Q_TYPE": 3,
         "INT16_Q_TYPE": 4, "INT32_Q_TYPE": 5, "INT32_I_TYPE": 6, "INT64_I_TYPE": 7,
         "INT8_TYPE": 8}  # fmt: skip


@dataclass
class QBuffer:
    data: bytes

    def __bytes__(self) -> bytes:
        return self.data


class Card:
    """What the modules share: the shapes that programs are compiled for, and the calls made."""

    def __init__(self, shapes: CallShapes, specialisations: Sequence[tuple[int, int]]) -> None:
        self.shapes = shapes
        self.specialisations = specialisations
        self.calls: list[tuple[int, int]] = []
        self.active = False
        self.status = SimpleNamespace(QS_SUCCESS=0, QS_ERROR=1)

    def bindings(self, folder: Path) -> list[SimpleNamespace]:
        graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
        rows: list[SimpleNamespace] = []
        for direction, values in enumerate((graph.input, graph.output)):
            for value in values:
                kind = value.type.tensor_type
                dims = [dim.dim_value or 1 for dim in kind.shape.dim]
                code = CODES[TYPES[kind.elem_type][0]]
                rows.append(SimpleNamespace(name=value.name, dir=direction, type=code, dims=dims,
                                            index=len(rows)))  # fmt: skip
        return rows


def install(monkeypatch: pytest.MonkeyPatch, card: Card) -> None:
    """Put the modules where `import` finds them."""
    runtime: Any = ModuleType("qaicrt")
    api: Any = ModuleType("QAicApi_pb2")

    class Qpc:
        def __init__(self, path: str) -> None:
            self.folder = Path(path)

        def getIoDescriptor(self) -> tuple[int, bytes]:
            return 0, str(self.folder).encode()

    class IoDesc:
        def ParseFromString(self, data: bytes) -> None:
            self.selected_set = SimpleNamespace(bindings=card.bindings(Path(data.decode())))

    class Program:
        def __init__(self, context: Any, device: int | None, qpc: Qpc, properties: Any) -> None:
            self.folder = qpc.folder

        def load(self) -> int:
            return 0

        def activate(self) -> int:
            card.active = True
            return 0

        def deactivate(self) -> int:
            card.active = False
            return 0

    class ExecObj:
        def __init__(self, context: Any, program: Program) -> None:
            self.rows = card.bindings(program.folder)
            self.engine = OnnxEngine(program.folder / "model.onnx", card.shapes, threads=1)

        def setData(self, buffers: list[QBuffer], sizes: list[tuple[int, list[int]]]) -> int:
            self.feeds, self.sizes = {}, {}
            for row, buffer, (width, shape) in zip(self.rows, buffers, sizes, strict=True):
                if len(bytes(buffer)) != width * np.prod(shape, dtype=int):
                    return 1
                if row.name.startswith("past_"):
                    assert shape == [0], "a state would be copied to the card"
                elif row.dir == 0:
                    dtype = np.int64 if row.type == CODES["INT64_I_TYPE"] else np.float32
                    self.feeds[row.name] = np.frombuffer(bytes(buffer), dtype).reshape(shape)
                else:
                    self.sizes[row.name] = shape
            batch, tokens = self.feeds["input_ids"].shape
            return 0 if (batch, tokens) in card.specialisations else 1

        def waitForCompletion(self) -> int:
            self.found = self.engine.run(self.feeds)
            card.calls.append(self.feeds["input_ids"].shape)
            return 0

        def getData(self) -> tuple[int, list[QBuffer]]:
            for name, shape in self.sizes.items():
                assert list(self.found[name].shape) == shape
            empty = np.zeros(0)
            return 0, [QBuffer(self.found.get(row.name, empty).tobytes()) for row in self.rows]

    runtime.Context = lambda *devices: object()
    runtime.QIDList = list
    runtime.Queue = lambda context, device: SimpleNamespace(enqueue=lambda call: 0)
    runtime.Qpc, runtime.Program, runtime.ExecObj, runtime.QBuffer = Qpc, Program, ExecObj, QBuffer
    runtime.QAicProgramProperties = SimpleNamespace
    runtime.BufferDimensionsVecRef = list
    runtime.QStatus = card.status
    api.IoDesc, api.BUFFER_IO_TYPE_INPUT, api.BUFFER_IO_TYPE_OUTPUT = IoDesc, 0, 1
    for name, code in CODES.items():
        setattr(api, name, code)
    monkeypatch.setitem(sys.modules, "qaicrt", runtime)
    monkeypatch.setitem(sys.modules, "QAicApi_pb2", api)

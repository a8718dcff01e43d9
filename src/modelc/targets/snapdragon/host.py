"""Lowered graphs on ONNX Runtime's CPU: the same graphs, operator by operator, without an HTP."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from modelc.ir.arrays import Arrays
from modelc.ir.emit import dims_of
from modelc.targets.snapdragon.decode_loop import Part
from modelc.targets.snapdragon.graph_tensors import tensors_of

if TYPE_CHECKING:
    import onnx_ir as ir


class Host:
    """A lowered graph, quantised or float, whose weights lie in a file beside it.

    Attributes:
        macs: multiply-adds of one call.
        part: to be run as long as this is entered; the session opens at the first call.
    """

    def __init__(self, model: Path) -> None:
        import onnx_ir as ir

        graph = ir.load(model)
        tensors = tensors_of(graph)
        self.macs = sum(map(_macs, graph.graph))
        self.part = Part(tensors.inputs, tensors.outputs, self._run)
        self._model = model
        self._session: Any = None

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = None  # and with it the memory that it holds

    def _run(self, feed: Arrays) -> Arrays:
        if self._session is None:
            self._session = _open(self._model)
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(feed)), strict=True))


def _open(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Fused, QDQ nodes would compute in other integers than HTP does.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False  # each large tensor's memory would be kept
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _macs(node: ir.Node) -> int:
    if node.op_type != "MatMul" or node.inputs[0] is None:
        return 0
    rows = [dim for dim in dims_of(node.outputs[0]) if isinstance(dim, int)]
    (*_, depth) = (dim for dim in dims_of(node.inputs[0]) if isinstance(dim, int))
    return math.prod(rows) * depth

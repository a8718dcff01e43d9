"""What a manifest says of a graph in an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelc.bundle.manifest import Graph, Tensor


def graph_of(path: Path) -> Graph:
    """Return its inputs and outputs, without the weights."""
    import onnx
    from onnx.helper import tensor_dtype_to_np_dtype

    graph = onnx.load(path, load_external_data=False).graph
    given = {tensor.name for tensor in graph.initializer}

    def tensors(values: Any) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(
                value.name,
                tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim),
            )
            for value in values
            if value.name not in given
        )

    return Graph(graph.name, path.name, tensors(graph.input), tensors(graph.output))

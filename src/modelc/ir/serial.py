"""Graphs on disk: an ONNX file whose stored weights are references into the source's files.

Such a weight is a tensor with external data whose entries are those of its `StoredMatrix`
(`location` relative to the source's root); no weight's bytes are copied. Everything else, small
as it is, lies inline.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

import onnx
import onnx_ir as ir

from modelc.errors import BadInput, Damaged, Where
from modelc.ir.weights import BLOCKS, StoredMatrix, StoredWeight, tensor_shape

EXTERNAL: Final = onnx.TensorProto.EXTERNAL


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """Return the model as a protobuf; stored weights are external data, with no bytes read."""
    copy = model.clone()  # shares the tensors
    for name, value in copy.graph.initializers.items():
        if isinstance(value.const_value, StoredWeight):
            source = value.const_value.source
            value.const_value = ir.ExternalTensor(
                source.path.name,
                source.offset,
                None,
                ir.DataType.FLOAT,
                shape=ir.Shape(tensor_shape(source)),
                name=name,
            )
    return ir.serde.serialize_model(copy)

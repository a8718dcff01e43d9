"""The card's own operators as ONNX local functions, whose bodies say what they compute.

The compiler knows the operators by name; a runtime that doesn't runs the bodies. Names, inputs and
domains are those of Qualcomm's exporter (https://github.com/quic/efficient-transformers). An index
beyond the cache is one that the card neither reads nor writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import onnx_ir as ir

CLOUD: Final = "com.qualcomm.cloud"
AISW: Final = "com.qti.aisw.onnx"
OPSET: Final = 17
FIRST_OPSET: Final = 13
"""Of SDK 1.20, whose gathers know no length of their own."""

RMS_NORM: Final = "CustomRMSNorm"
SCATTER, SCATTER_BATCHED = "CtxScatter", "CtxScatterCB"
SCATTER_ROWS: Final = "CtxScatterCB3D"
GATHER, GATHER_BATCHED = "CtxGather", "CtxGatherCB"

_NORM: Final = """CustomRMSNorm <epsilon> (hidden_states, weight) => (result) {
    two = Constant <value_float: float = 2.0> ()
    epsilon = Constant <value_float: float = @epsilon> ()
    squares = Pow (hidden_states, two)
    mean = ReduceMean <axes: ints = [-1], keepdims: int = 1> (squares)
    shifted = Add (mean, epsilon)
    root = Sqrt (shifted)
    inverse = Reciprocal (root)
    normal = Mul (hidden_states, inverse)
    result = Mul (weight, normal)
}"""

# From here on indices [batch, heads, positions, 3]: (batch, head, position) of every row.
_INDICES: Final = """
    zero = Constant <value_ints: ints = [0]> ()
    one = Constant <value_ints: ints = [1]> ()
    first = Constant <value_int: int = 0> ()
    step = Constant <value_int: int = 1> ()
    data_shape = Shape (data)
    heads = Gather <axis: int = 0> (data_shape, one)
    head_count = Squeeze (heads)
    head_numbers = Range (first, head_count, step)
    grid = Concat <axis: int = 0> (batch, heads, positions, one)
    head_axes = Constant <value_ints: ints = [0, 2, 3]> ()
    head_grid = Unsqueeze (head_numbers, head_axes)
    head_indices = Expand (head_grid, grid)
    batch_indices = Expand (batch_grid, grid)
    position_indices = Expand (position_grid, grid)
    indices = Concat <axis: int = 3> (batch_indices, head_indices, position_indices)
"""

_OWN_BATCH: Final = """
    batch_axes = Constant <value_ints: ints = [1, 2, 3]> ()
    whole_shape = Shape (data)
    batch_place = Constant <value_ints: ints = [0]> ()
    batch = Gather <axis: int = 0> (whole_shape, batch_place)
    batch_first = Constant <value_int: int = 0> ()
    batch_step = Constant <value_int: int = 1> ()
    batch_count = Squeeze (batch)
    batch_numbers = Range (batch_first, batch_count, batch_step)
    batch_grid = Unsqueeze (batch_numbers, batch_axes)
"""

_GIVEN_BATCH: Final = """
    batch_axes = Constant <value_ints: ints = [2, 3]> ()
    batch_place = Constant <value_ints: ints = [0]> ()
    batch_shape = Shape (batch_index)
    batch = Gather <axis: int = 0> (batch_shape, batch_place)
    batch_grid = Unsqueeze (batch_index, batch_axes)
"""

_WRITTEN: Final = """
    position_axes = Constant <value_ints: ints = [1, 3]> ()
    position_place = Constant <value_ints: ints = [1]> ()
    position_shape = Shape (position_ids)
    positions = Gather <axis: int = 0> (position_shape, position_place)
    position_grid = Unsqueeze (position_ids, position_axes)
"""

_READ: Final = """
    position_axes = Constant <value_ints: ints = [3]> ()
    position_place = Constant <value_ints: ints = [2]> ()
    position_shape = Shape (ctx_indices)
    positions = Gather <axis: int = 0> (position_shape, position_place)
    position_grid = Unsqueeze (ctx_indices, position_axes)
"""

_PUT: Final = "    result = ScatterND (data, indices, updates)\n}"
_TAKE: Final = "    result = GatherND (data, indices)\n}"

_ROWS_BODY: Final = """
    one = Constant <value_ints: ints = [1]> ()
    last = Constant <value_ints: ints = [2]> ()
    shape = Shape (position_ids)
    grid = Concat <axis: int = 0> (shape, one)
    batch_grid = Unsqueeze (batch_index, last)
    batch_indices = Expand (batch_grid, grid)
    position_indices = Unsqueeze (position_ids, last)
    indices = Concat <axis: int = 2> (batch_indices, position_indices)
"""

_GATHER_BODY: Final = """
    start = Constant <value_ints: ints = [0]> ()
    end = Constant <value_ints: ints = [{kept}]> ()
    last = Constant <value_ints: ints = [-1]> ()
    whole = Shape (data)
    kept = Slice (whole, start, end)
    {shape}
    wide = Expand (ctx_indices, shape)
    indices = Unsqueeze (wide, last)
    result = GatherND <batch_dims: int = 2> (data, indices)
}}"""

_LENGTH: Final = """length = Reshape (comp_ctx_len, last)
    shape = Concat <axis: int = 0> (kept, length)"""

_BODIES: Final[Mapping[str, tuple[str, str]]] = {
    RMS_NORM: (AISW, _NORM),
    SCATTER: (
        CLOUD,
        "CtxScatter (data, position_ids, updates) => (result) {"
        + _OWN_BATCH + _WRITTEN + _INDICES + _PUT,
    ),
    SCATTER_BATCHED: (
        CLOUD,
        "CtxScatterCB (data, batch_index, position_ids, updates) => (result) {"
        + _GIVEN_BATCH + _WRITTEN + _INDICES + _PUT,
    ),
    SCATTER_ROWS: (
        CLOUD,
        "CtxScatterCB3D (data, batch_index, position_ids, updates) => (result) {"
        + _ROWS_BODY + _PUT,
    ),
    GATHER: (
        CLOUD,
        "CtxGather (data, ctx_indices, comp_ctx_len) => (result) {"
        + _GATHER_BODY.format(kept=2, shape=_LENGTH),
    ),
    GATHER_BATCHED: (
        CLOUD,
        "CtxGatherCB (data, batch_index, ctx_indices, comp_ctx_len) => (result) {"
        + _GIVEN_BATCH + _READ + _INDICES + _TAKE,
    ),
}  # fmt: skip

_FIRST_BODIES: Final[Mapping[str, tuple[str, str]]] = {
    **_BODIES,
    GATHER: (
        CLOUD,
        "CtxGather (data, ctx_indices) => (result) {"
        + _GATHER_BODY.format(kept=3, shape="shape = Identity (kept)"),
    ),
    GATHER_BATCHED: (
        CLOUD,
        "CtxGatherCB (data, batch_index, ctx_indices) => (result) {"
        + _GIVEN_BATCH + _READ + _INDICES + _TAKE,
    ),
}  # fmt: skip


def domain_of(name: str) -> str:
    """Return the domain of one of the card's operators."""
    return _BODIES[name][0]


def gathers_know_length(opset: int) -> bool:
    """Gathers take the number of positions to read as their last input since SDK 1.21."""
    return opset > FIRST_OPSET


def local_function(name: str, opset: int) -> ir.Function:
    """Return one of the card's operators with its body, in the default domain's `opset`."""
    import onnx.parser
    from onnx_ir import serde

    domain, body = (_BODIES if gathers_know_length(opset) else _FIRST_BODIES)[name]
    header = f'<domain: "{domain}", opset_import: ["": {opset}]>\n'
    function: ir.Function = serde.deserialize_function(onnx.parser.parse_function(header + body))
    return function


def add_functions(model: ir.Model, opset: int) -> None:
    """Give a model the bodies of the card's operators that it uses."""
    for name in sorted({node.op_type for node in model.graph if node.domain in (CLOUD, AISW)}):
        function = local_function(name, opset)
        model.functions[function.identifier()] = function
        model.opset_imports[function.domain] = 1

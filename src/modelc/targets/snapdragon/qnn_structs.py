"""The C structures in which libQnnSystem describes a context binary.

The structures of QNN's own API are laid out as in Qualcomm's BSD-3-Clause-Clear Python binding of
it, the functions for DLCs, which that lacks, as in the public header QnnSystemInterface.h; only the
fields that are read have telling names. HTP's two blobs were found by experiment with
QAIRT 2.51, as each says. `tests/targets/snapdragon` compares all that is read with what was
compiled.
"""

from __future__ import annotations

from ctypes import (
    POINTER,
    Structure,
    Union,
    c_char_p,
    c_float,
    c_int32,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Final

DTYPES: Final = {
    0x0008: "int8",
    0x0016: "int16",
    0x0032: "int32",
    0x0064: "int64",
    0x0108: "uint8",
    0x0116: "uint16",
    0x0132: "uint32",
    0x0164: "uint64",
    0x0216: "float16",
    0x0232: "float32",
    0x0264: "float64",
    0x0308: "int8",  # signed fixed point
    0x0316: "int16",
    0x0332: "int32",
    0x0408: "uint8",  # unsigned fixed point
    0x0416: "uint16",
    0x0432: "uint32",
    0x0508: "bool",
}
SCALE_OFFSET: Final = 0
ENCODING_DEFINED: Final = 1


class Version(Structure):
    _fields_ = [("major", c_uint32), ("minor", c_uint32), ("patch", c_uint32)]


class ScaleOffset(Structure):
    _fields_ = [("scale", c_float), ("offset", c_int32)]


class _Encoding(Union):
    # The largest member (per-channel with a bit width) is four words long; a graph's tensors lie
    # that far apart.
    _fields_ = [("scale_offset", ScaleOffset), ("_words", c_uint64 * 4)]


class QuantizeParams(Structure):
    _fields_ = [("defined", c_uint32), ("kind", c_uint32), ("value", _Encoding)]


class _ClientBuffer(Structure):
    _fields_ = [("data", c_void_p), ("size", c_uint32)]


class TensorV1(Structure):
    _fields_ = [
        ("id", c_uint32),
        ("name", c_char_p),
        ("type", c_uint32),
        ("data_format", c_uint32),
        ("dtype", c_uint32),
        ("encoding", QuantizeParams),
        ("rank", c_uint32),
        ("dimensions", POINTER(c_uint32)),
        ("memory_type", c_uint32),
        ("memory", _ClientBuffer),
    ]


class TensorV2(Structure):
    # Starts with the same fields as version 1; its tail only makes the array's stride longer.
    _fields_ = [
        ("common", TensorV1),
        ("is_dynamic", POINTER(c_uint8)),
        ("sparse", c_uint32 * 3),
        ("is_produced", c_uint8),
    ]


class _TensorUnion(Union):
    _fields_ = [("v1", TensorV1), ("v2", TensorV2)]


class Tensor(Structure):
    _fields_ = [("version", c_uint32), ("u", _TensorUnion)]


class GraphInfo3(Structure):
    # Versions 1 and 2 are prefixes of version 3.
    _fields_ = [
        ("name", c_char_p),
        ("input_count", c_uint32),
        ("inputs", POINTER(Tensor)),
        ("output_count", c_uint32),
        ("outputs", POINTER(Tensor)),
        ("updateable_count", c_uint32),
        ("updateable", POINTER(Tensor)),
        ("blob_size", c_uint32),
        ("blob", c_void_p),
        ("first_op", c_uint32),
        ("last_op", c_uint32),
    ]


class Graph(Structure):
    _fields_ = [("version", c_uint32), ("info", GraphInfo3)]


class BinaryInfo3(Structure):
    _fields_ = [
        ("backend", c_uint32),
        ("build", c_char_p),
        ("core_api", Version),
        ("backend_api", Version),
        ("soc_version", c_char_p),
        ("blob_version", Version),
        ("blob_size", c_uint64),
        ("context_tensor_count", c_uint32),
        ("context_tensors", POINTER(Tensor)),
        ("graph_count", c_uint32),
        ("graphs", POINTER(Graph)),
        ("platform", c_void_p),
        ("metadata_size", c_uint32),
        ("metadata", c_void_p),
        ("soc_model", c_uint32),
    ]


class Binary(Structure):
    _fields_ = [("version", c_uint32), ("info", BinaryInfo3)]


class HtpGraphBlob(Structure):
    """The beginning of what HTP's compiler says of a graph.

    Of graphs compiled for 1, 2, 4, 8 and 16 MB of VTCM, `vtcm_bytes` was always that size, and
    `spill_fill_bytes` the number that libQnnHtp logs when it loads the binary (0, 2621440, 3604480
    and 3932160 for one model). `version` was 1 in all.
    """

    _fields_ = [
        ("version", c_uint32),
        ("spill_fill_bytes", c_uint64),
        ("vtcm_bytes", c_uint32),
    ]


class HtpContextBlob(Structure):
    """What HTP's compiler says of a binary: two words, of which the first was always 1 and the
    second the number of the chipset's architecture (68, 69, 73, 75, 79, 81, 85)."""

    _fields_ = [("version", c_uint32), ("dsp_arch", c_uint32)]


class ComposableGraphInfo1(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("input_count", c_uint32),
        ("inputs", POINTER(Tensor)),
        ("output_count", c_uint32),
        ("outputs", POINTER(Tensor)),
    ]


class ComposableGraph(Structure):
    """A graph of a DLC, that a backend has yet to compile."""

    _fields_ = [("version", c_uint32), ("info", ComposableGraphInfo1)]


class SystemInterface(Structure):
    """libQnnSystem's functions in the order of its C API, whose minor versions only append.

    As far as `context_free` they are in every API 1; all of them are since 1.15.
    """

    _fields_ = [
        ("backend", c_uint32),
        ("provider", c_char_p),
        ("api", Version),
        ("context_create", c_void_p),
        ("context_get_binary_info", c_void_p),
        ("context_get_metadata", c_void_p),
        ("context_free", c_void_p),
        ("_tensor_and_log", c_void_p * 4),
        ("dlc_create_from_file", c_void_p),
        ("_dlc_create_from_binary", c_void_p),
        ("dlc_compose_graphs", c_void_p),
        ("_dlc_get_op_mappings", c_void_p),
        ("dlc_free", c_void_p),
        ("_profile_and_records", c_void_p * 14),
        ("dlc_get_composable_graphs", c_void_p),
        ("_dlc_get_context_binaries", c_void_p),
        ("dlc_get_composable_graph_info", c_void_p),
    ]

"""Worker: reads the metadata of a context binary through libQnnSystem.

The library trusts the file, and this module trusts the library only as far as it must: versions,
counts and pointers are checked before anything is followed.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from ctypes import POINTER, byref, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Damaged, Missing, ToolFailed, Where
from modelc.process import serve
from modelc.targets.snapdragon import binary, qnn_structs
from modelc.targets.snapdragon.library import library_path

# Orders of magnitude above what a real binary holds; beyond them the layout has been misread.
MAX_GRAPHS: Final = 1024
MAX_TENSORS: Final = 1 << 16
MAX_RANK: Final = 16

_STATUS = c_uint64
_CREATE = ctypes.CFUNCTYPE(_STATUS, POINTER(c_void_p))
_GET_METADATA = ctypes.CFUNCTYPE(
    _STATUS, c_void_p, c_void_p, c_uint64, POINTER(POINTER(qnn_structs.Binary))
)
_FREE = ctypes.CFUNCTYPE(_STATUS, c_void_p)


def handle(job: dict[str, Any]) -> dict[str, Any]:
    return binary.to_json(read(Path(job["binary"])))


def read(path: Path) -> binary.BinaryInfo:
    """Return the metadata of the context binary at `path`. Call it in a child process.

    Raises:
        Damaged: it is not a context binary.
        ToolFailed: its metadata is of a version that modelc does not know.
    """
    where = Where(path=str(path))
    interface = system_interface()
    context = c_void_p()
    if _CREATE(interface.context_create)(byref(context)):
        raise ToolFailed("libQnnSystem gives no system context", where=where)
    try:
        size = path.stat().st_size
        if size == 0:
            raise Damaged("the context binary is empty", where=where)
        # Copy-on-write: ctypes only takes addresses of writable memory.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as data:
            start = (ctypes.c_char * size).from_buffer(data)
            try:
                found = POINTER(qnn_structs.Binary)()
                status = _GET_METADATA(interface.context_get_metadata)(
                    context, ctypes.addressof(start), size, byref(found)
                )
                if status or not found:
                    raise Damaged(f"not a context binary (status {status})", where=where)
                return _binary(found.contents, where)
            finally:
                del start  # or the map can't be closed
    finally:
        _FREE(interface.context_free)(context)


def read_twin(path: Path) -> binary.Graph:
    """Return the one graph of a binary that the simulator can load. Call it in a child process.

    Raises:
        BadInput: it holds several, whose shared weights would crash the simulator.
        Damaged, ToolFailed: as `read`.
    """
    graphs = read(path).graphs
    if len(graphs) != 1:
        raise BadInput(
            f"the simulator can't load a binary whose {len(graphs)} graphs share their weights",
            where=Where(path=str(path)),
            hint="give it the twin of each graph",
        )
    return graphs[0]


def system_interface() -> qnn_structs.SystemInterface:
    system = ctypes.CDLL(str(library_path("QnnSystem")))
    providers = POINTER(POINTER(qnn_structs.SystemInterface))()
    count = c_uint32()
    status = system.QnnSystemInterface_getProviders(byref(providers), byref(count))
    if status or not count.value or not providers or not providers[0]:
        raise Missing("libQnnSystem has no interface", hint="reinstall onnxruntime-qnn")
    interface: qnn_structs.SystemInterface = providers[0].contents
    if interface.api.major != 1 or not interface.context_get_metadata:
        api = f"{interface.api.major}.{interface.api.minor}"
        raise Missing(f"libQnnSystem API {api} is not known", hint="use onnxruntime-qnn 2.7")
    return interface


def _binary(found: qnn_structs.Binary, where: Where) -> binary.BinaryInfo:
    check(found.version == 3, f"binary information of version {found.version}", where)
    info = found.info
    check(info.graph_count <= MAX_GRAPHS, f"{info.graph_count} graphs", where)
    arch = ""
    if info.metadata and info.metadata_size >= ctypes.sizeof(qnn_structs.HtpContextBlob):
        blob = qnn_structs.HtpContextBlob.from_address(info.metadata)
        check(blob.version == 1, f"context blob of version {blob.version}", where)
        arch = f"v{blob.dsp_arch}"
    return binary.BinaryInfo(
        build=(info.build or b"").decode(errors="replace"),
        soc_model=info.soc_model,
        htp_arch=arch,
        graphs=tuple(_graph(info.graphs[index], where) for index in range(info.graph_count)),
    )


def _graph(found: qnn_structs.Graph, where: Where) -> binary.Graph:
    check(found.version == 3, f"graph information of version {found.version}", where)
    info = found.info
    spill, vtcm = 0, 0
    if info.blob and info.blob_size >= ctypes.sizeof(qnn_structs.HtpGraphBlob):
        blob = qnn_structs.HtpGraphBlob.from_address(info.blob)
        check(blob.version == 1, f"graph blob of version {blob.version}", where)
        spill, vtcm = blob.spill_fill_bytes, blob.vtcm_bytes >> 20
    return binary.Graph(
        name=(info.name or b"").decode(errors="replace"),
        inputs=tuple(read_tensors(info.inputs, info.input_count, where)),
        outputs=tuple(read_tensors(info.outputs, info.output_count, where)),
        spill_fill_bytes=spill,
        vtcm_mb=vtcm,
    )


def read_tensors(array: Any, count: int, where: Where) -> Iterator[binary.Tensor]:
    check(count <= MAX_TENSORS and (array or not count), f"{count} tensors of a graph", where)
    for index in range(count):
        check(array[index].version in (1, 2), f"tensor of version {array[index].version}", where)
        tensor = array[index].u.v1
        check(tensor.rank <= MAX_RANK and tensor.dimensions, f"rank {tensor.rank}", where)
        dtype = qnn_structs.DTYPES.get(tensor.dtype)
        check(dtype is not None, f"data type {tensor.dtype:#06x}", where)
        encoding = tensor.encoding
        quantised = (encoding.defined, encoding.kind) == (
            qnn_structs.ENCODING_DEFINED,
            qnn_structs.SCALE_OFFSET,
        )
        pair = encoding.value.scale_offset
        yield binary.Tensor(
            name=(tensor.name or b"").decode(errors="replace"),
            shape=tuple(tensor.dimensions[axis] for axis in range(tensor.rank)),
            dtype=str(dtype),
            scale=pair.scale if quantised else 0.0,
            # QNN adds its offset before scaling; modelc and ONNX subtract a zero point.
            zero_point=-pair.offset if quantised else 0,
        )


def check(fine: object, what: str, where: Where) -> None:
    if not fine:
        raise ToolFailed(
            f"the metadata can't be read: {what}",
            where=where,
            hint="it comes from another QAIRT; compile it with the installed onnxruntime-qnn",
        )


if __name__ == "__main__":
    serve(handle)

"""Worker: reads the graphs of a DLC through libQnnSystem, without a backend.

As in `qnn_system.py`, the library trusts the file, and what it returns is checked.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from modelc.errors import Damaged, Missing, Where
from modelc.process import serve
from modelc.targets.snapdragon import dlc, qnn_structs
from modelc.targets.snapdragon.qnn_system import MAX_GRAPHS, check, read_tensors, system_interface

_STATUS = c_uint64
_CREATE = ctypes.CFUNCTYPE(_STATUS, c_void_p, c_char_p, POINTER(c_void_p))
_GET_GRAPHS = ctypes.CFUNCTYPE(_STATUS, c_void_p, POINTER(POINTER(c_void_p)), POINTER(c_uint32))
_GET_INFO = ctypes.CFUNCTYPE(_STATUS, c_void_p, POINTER(POINTER(qnn_structs.ComposableGraph)))
_FREE = ctypes.CFUNCTYPE(_STATUS, c_void_p)


def handle(job: dict[str, Any]) -> dict[str, Any]:
    return {"graphs": dlc.graphs_to_json(read(Path(job["dlc"])))}


def read(path: Path) -> tuple[dlc.DlcGraph, ...]:
    """Return the graphs of the DLC at `path`. Call it in a child process.

    Raises:
        Damaged: it is not a DLC.
        Missing: the installed libQnnSystem doesn't tell of a DLC's graphs.
        ToolFailed: they are of a version that modelc does not know.
    """
    where = Where(path=str(path))
    interface = system_interface()
    if interface.api.minor < 15:
        api = f"{interface.api.major}.{interface.api.minor}"
        raise Missing(
            f"libQnnSystem API {api} can't read DLCs", hint="use onnxruntime-qnn 2.7 or newer"
        )
    opened = c_void_p()
    status = _CREATE(interface.dlc_create_from_file)(None, str(path).encode(), byref(opened))
    if status or not opened:
        raise Damaged(f"libQnnSystem takes it for no DLC (status {status})", where=where)
    try:
        handles, count = POINTER(c_void_p)(), c_uint32()
        status = _GET_GRAPHS(interface.dlc_get_composable_graphs)(
            opened, byref(handles), byref(count)
        )
        if status or (count.value and not handles):
            raise Damaged(f"the DLC's graphs can't be read (status {status})", where=where)
        check(count.value <= MAX_GRAPHS, f"{count.value} graphs", where)
        get_info = _GET_INFO(interface.dlc_get_composable_graph_info)
        return tuple(_graph(get_info, handles[index], where) for index in range(count.value))
    finally:
        _FREE(interface.dlc_free)(opened)


def _graph(get_info: Any, graph: int | None, where: Where) -> dlc.DlcGraph:
    found = POINTER(qnn_structs.ComposableGraph)()
    status = get_info(graph, byref(found))
    if status or not found:
        raise Damaged(f"a graph of the DLC can't be read (status {status})", where=where)
    version, info = found.contents.version, found.contents.info
    check(version == 1, f"graph information of version {version}", where)
    return dlc.DlcGraph(
        name=(info.name or b"").decode(errors="replace"),
        inputs=tuple(read_tensors(info.inputs, info.input_count, where)),
        outputs=tuple(read_tensors(info.outputs, info.output_count, where)),
    )


if __name__ == "__main__":
    serve(handle)

"""Compiles a DLC the other way: libQnnSystem composes it into libQnnHtp, without ONNX Runtime.

A program of its own, because libQnnSystem trusts the file: `dlc_compose.py IN.dlc OUT.bin`. It
compiles for the vendor's default chipset. The functions are those of the QNN C API.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_uint8, c_uint32, c_uint64
from ctypes import c_void_p as pointer
from pathlib import Path

from modelc.targets.snapdragon import qnn_structs
from modelc.targets.snapdragon.library import library_path
from modelc.targets.snapdragon.qnn_system import system_interface

# By core API version: entries of the backend's table of functions, which is passed by value.
ENTRIES = {(2, 36): 72, (2, 37): 72, (2, 39): 75, (2, 40): 75}
HEADER_BYTES = 40
BACKEND_CREATE, CONTEXT_CREATE, BINARY_SIZE, BINARY, FINALIZE, RETRIEVE = 1, 9, 11, 12, 19, 20


def compose(dlc: Path, output: Path) -> str:
    """Write the context binary of a DLC's one graph, and return the graph's name."""
    system = system_interface()
    library = ctypes.CDLL(str(library_path("QnnHtp")))
    providers, count = POINTER(pointer)(), c_uint32()
    succeed(library.QnnInterface_getProviders(byref(providers), byref(count)))
    major, minor = (c_uint32 * 2).from_address(providers[0] + 16)
    entries = ENTRIES[major, minor]

    class Interface(Structure):
        _fields_ = [("header", c_uint8 * HEADER_BYTES), ("functions", pointer * entries)]

    interface = Interface.from_address(providers[0])

    def function(entry: int, *arguments: type) -> Callable[..., int]:
        return CFUNCTYPE(c_uint64, *arguments)(interface.functions[entry])

    backend, context, opened, graph = pointer(), pointer(), pointer(), pointer()
    out = POINTER(pointer)
    succeed(function(BACKEND_CREATE, pointer, pointer, out)(None, None, byref(backend)))
    create = function(CONTEXT_CREATE, pointer, pointer, pointer, out)
    succeed(create(backend, None, None, byref(context)))
    open_dlc = CFUNCTYPE(c_uint64, pointer, c_char_p, out)(system.dlc_create_from_file)
    succeed(open_dlc(None, str(dlc).encode(), byref(opened)))
    graphs = POINTER(qnn_structs.Graph)()
    compose_graphs = CFUNCTYPE(
        c_uint64, pointer, pointer, c_uint32, pointer, pointer, Interface, c_uint32,
        POINTER(POINTER(qnn_structs.Graph)), POINTER(c_uint32),
    )(system.dlc_compose_graphs)  # fmt: skip
    succeed(
        compose_graphs(opened, None, 0, backend, context, interface, 1, byref(graphs), byref(count))
    )
    assert count.value == 1
    name: bytes = graphs[0].info.name
    succeed(function(RETRIEVE, pointer, c_char_p, out)(context, name, byref(graph)))
    succeed(function(FINALIZE, pointer, pointer, pointer)(graph, None, None))
    size, written = c_uint64(), c_uint64()
    succeed(function(BINARY_SIZE, pointer, POINTER(c_uint64))(context, byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    get = function(BINARY, pointer, pointer, c_uint64, POINTER(c_uint64))
    succeed(get(context, buffer, size, byref(written)))
    output.write_bytes(buffer.raw[: written.value])
    return name.decode()


def succeed(status: int) -> None:
    assert status == 0, f"QNN status {status}"


if __name__ == "__main__":
    print(compose(Path(sys.argv[1]), Path(sys.argv[2])), flush=True)
    os._exit(0)  # the vendor's destructors crash

"""CUDA's driver without a GPU: cubins are descriptions of kernels, launches run in Triton's
interpreter on the CPU memory that their parameters point to.

Parameters are read as the driver reads them: it knows from the kernel how many there are and how
long each is. A launch while a graph is captured runs when the graph is replayed, with the
parameters that it had.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cuda.bindings import driver as real

from modelc.targets.cuda.aot import Cubin
from modelc.targets.cuda.interpret import kernel_function
from modelc.targets.cuda.kernels_file import FILE, save_kernels
from modelc.targets.cuda.memory import Memory
from modelc.targets.cuda.mend_interpreter import mend_dot, mend_rounding, mend_splat
from modelc.targets.cuda.plan import LaunchPlan
from modelc.targets.cuda.tiles import tiled
from modelc.targets.cuda.torch_types import torch_type
from modelc.targets.cuda.variant import Variant

STREAM, CAPTURING = 11, 12
_OK = real.CUresult.CUDA_SUCCESS
_INVALID = real.CUresult.CUDA_ERROR_INVALID_VALUE
SHARED = 227 << 10


def write_described(plan: LaunchPlan, folder: Path, arch: int = 90, shared: int = 0) -> None:
    """Write, instead of cubins, descriptions of a plan's kernels, and the real kernels.json."""
    into = folder / f"sm{arch}"
    into.mkdir(parents=True)
    variants = {key: tiled(variant, arch) for key, variant in plan.variants.items()}
    cubins = {}
    for variant in variants.values():
        path = into / f"{variant.key}.cubin"
        path.write_text(json.dumps({**variant.document(), "shared": shared}))
        cubins[variant.key] = Cubin(path, variant.kernel, variant.tile.warps, shared, 0)
    save_kernels(variants, cubins, into / FILE)


class DriverDouble:
    """What `modelc` uses of `cuda.bindings.driver`.

    Attributes:
        launches: names of the kernels that ran.
        captured: what a graph that is being captured has taken, if one is.
        answers: what a call answers from now on, by name.
        spans: the memory that there is: first and last address.
    """

    CUfunction_attribute = real.CUfunction_attribute
    CUdevice_attribute = real.CUdevice_attribute

    def __init__(self) -> None:
        self.launches: list[str] = []
        self.captured: list[Callable[[], None]] | None = None
        self.answers: dict[str, real.CUresult] = {}
        self.spans: list[tuple[int, int]] = []
        self.shared: dict[str, int] = {}

    def know(self, memory: Memory) -> None:
        """Let launches point into a plan's memory."""
        inputs = (memory.staging.device, memory.seen.rows, memory.arena)
        for tensor in (*memory.weights.values(), *memory.caches.values(), *inputs):
            self.spans.append((tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes))

    def cuCtxGetDevice(self) -> tuple[Any, ...]:
        return _OK, 0

    def cuDeviceGetAttribute(self, attribute: Any, device: Any) -> tuple[Any, ...]:
        name = "CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"
        assert attribute == getattr(real.CUdevice_attribute, name)
        return _OK, SHARED

    def cuModuleLoadData(self, image: Any) -> tuple[Any, ...]:
        assert isinstance(image, bytes)
        if "cuModuleLoadData" in self.answers:
            return self.answers["cuModuleLoadData"], None
        return _OK, json.loads(image)

    def cuModuleGetFunction(self, module: Any, name: Any) -> tuple[Any, ...]:
        assert isinstance(name, bytes)
        if name.decode() != module["kernel"]:
            return real.CUresult.CUDA_ERROR_NOT_FOUND, None
        return _OK, module

    def cuFuncSetAttribute(self, function: Any, attribute: Any, value: int) -> tuple[Any, ...]:
        name = "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"
        assert attribute == getattr(real.CUfunction_attribute, name)
        self.shared[function["kernel"]] = value
        return (_OK if value <= SHARED else _INVALID,)

    def cuGetErrorName(self, status: Any) -> tuple[Any, ...]:
        return _OK, real.CUresult(status).name.encode()

    def cuGetErrorString(self, status: Any) -> tuple[Any, ...]:
        return _OK, b"what it means"

    def cuLaunchKernel(
        self,
        function: Any,
        grid_x: int,
        grid_y: int,
        grid_z: int,
        block_x: int,
        block_y: int,
        block_z: int,
        shared: int,
        stream: int,
        parameters: int,
        extra: int,
    ) -> tuple[Any, ...]:
        """Take a launch; what CUDA would refuse is refused."""
        if "cuLaunchKernel" in self.answers:
            return (self.answers["cuLaunchKernel"],)
        grid = (grid_x, grid_y, grid_z)
        fits = 0 < grid_x < 2**31 and 0 < grid_y < 65536 and 0 < grid_z < 65536
        allowed = max(48 << 10, self.shared.get(function["kernel"], 0))
        if not fits or block_x > 1024 or shared > allowed or extra:
            return (_INVALID,)
        assert stream == (STREAM if self.captured is None else CAPTURING)
        variant = Variant.from_document({k: v for k, v in function.items() if k != "shared"})
        assert (block_x, block_y, block_z) == (32 * variant.tile.warps, 1, 1)
        assert shared == function["shared"]
        arguments = self._read(variant, parameters)
        run = self._prepare(variant, grid, arguments)
        if self.captured is None:
            run()
        else:
            self.captured.append(run)
        return (_OK,)

    def _read(self, variant: Variant, address: int) -> dict[str, Any]:
        """Read the parameters: pointers, sizes, and Triton's own two pointers."""
        pointers = [tensor.name for tensor in variant.row.tensors if tensor.name in variant.types]
        count = len(pointers) + len(variant.row.sizes) + 2
        places = (ctypes.c_void_p * count).from_address(address)
        given: dict[str, Any] = {}
        for index, name in enumerate((*pointers, *variant.row.sizes, "scratch", "profiler")):
            kind = ctypes.c_int32 if name in variant.row.sizes else ctypes.c_uint64
            given[name] = kind.from_address(places[index] or 0).value
        for name in pointers:
            pointer = given[name]
            assert pointer % 16 == 0, f"{name} of {variant.kernel} is not aligned"
            inside = any(first <= pointer < last for first, last in self.spans)
            assert inside, f"{name} of {variant.kernel} points nowhere"
        assert given.pop("scratch") == given.pop("profiler") == 0
        return given

    def _prepare(
        self, variant: Variant, grid: tuple[int, ...], given: dict[str, Any]
    ) -> Callable[[], None]:
        arguments: list[Any] = []
        for tensor in variant.row.tensors:
            kind = variant.types.get(tensor.name)
            arguments.append(None if kind is None else _tensor_at(given[tensor.name], kind))
        arguments += [given[name] for name in variant.row.sizes]

        def run() -> None:
            mend_dot()
            mend_rounding()
            mend_splat()
            self.launches.append(variant.kernel)
            named = {**variant.constants, **variant.tile.values}
            kernel_function(variant.kernel)[grid](*arguments, **named)

        return run


def _tensor_at(address: int, kind: str) -> torch.Tensor:
    """A tensor that begins at an address; kernels know themselves how far they may go."""
    memory = (ctypes.c_uint8 * 8).from_address(address)
    return torch.frombuffer(memory, dtype=torch.uint8).view(torch_type(kind))


class _GraphDouble:
    def __init__(self) -> None:
        self.steps: list[Callable[[], None]] = []
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        for step in self.steps:
            step()


class GpuDouble:
    """torch.cuda and the driver of a machine with one GPU, which is the CPU.

    Attributes:
        graphs: those that were captured.
    """

    def __init__(self, patch: pytest.MonkeyPatch, arch: tuple[int, int] = (9, 0)) -> None:
        self.driver = DriverDouble()
        self.graphs: list[_GraphDouble] = []
        self.free = 1 << 30
        empty = torch.empty
        patch.setattr("cuda.bindings.driver", self.driver)
        patch.setattr(
            torch,
            "empty",
            lambda *sides, device=None, **more: empty(*sides, device="cpu", **more),
        )
        for name, double in {
            "init": lambda: None,
            "set_device": lambda index: None,
            "is_available": lambda: True,
            "get_device_capability": lambda index: arch,
            "get_device_name": lambda index: "a double",
            "mem_get_info": lambda device: (self.free, 1 << 30),
            "current_stream": lambda device: SimpleNamespace(
                cuda_stream=STREAM if self.driver.captured is None else CAPTURING
            ),
            "CUDAGraph": self._graph,
            "graph": self._capture,
        }.items():
            patch.setattr(torch.cuda, name, double)

    def _graph(self) -> _GraphDouble:
        self.graphs.append(_GraphDouble())
        return self.graphs[-1]

    @contextmanager
    def _capture(self, graph: _GraphDouble) -> Iterator[None]:
        self.driver.captured = graph.steps
        try:
            yield
        finally:
            self.driver.captured = None

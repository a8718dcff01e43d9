"""Runs a launch plan on a GPU, through the driver: cubins are loaded, nothing is compiled.

Decoding is captured into a CUDA graph for each function and batch, so that a step is one launch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelc.errors import Missing, ToolFailed, Where
from modelc.targets.cuda.engine import Bound, Sizes, run_call
from modelc.targets.cuda.estimate import SPARE
from modelc.targets.cuda.gpus import SHARED_BYTES
from modelc.targets.cuda.kernels_file import FILE, Launch, load_kernels
from modelc.targets.cuda.memory import Memory
from modelc.targets.cuda.plan import Call, Function, LaunchPlan

if TYPE_CHECKING:
    import torch

_WARM_UP: Final = 2  # runs of a function before it is captured
_OLD_SHARED: Final = 48 << 10  # bytes of shared memory that a kernel has without asking


def open_gpu(kernels: Path, index: int = 0) -> GpuEngine:
    """Open a GPU and load the kernels for its architecture.

    Args:
        kernels: folder with a folder for each architecture.
        index: torch's number of the GPU.

    Raises:
        Missing: the bundle has no kernels for it, or cuda-bindings is not installed.
    """
    import torch

    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise Missing(
            "cuda-bindings is not installed", hint="pip install 'modelc[cuda]'"
        ) from error
    torch.cuda.init()  # type: ignore[no-untyped-call]
    torch.cuda.set_device(index)
    torch.empty(1, device=f"cuda:{index}")  # makes the context that the driver's calls go to
    major, minor = torch.cuda.get_device_capability(index)
    folder, arch = _folder_for(kernels, 10 * major + minor)
    launches = load_kernels(folder / FILE)
    functions = {key: _load(driver, folder, launch, arch) for key, launch in launches.items()}
    return GpuEngine(
        f"cuda:{index}", torch.cuda.get_device_name(index), driver, launches, functions
    )


def _folder_for(kernels: Path, arch: int) -> tuple[Path, int]:
    """Cubins run on their own architecture and on later ones of the same generation."""
    have = {
        int(path.name.removeprefix("sm")): path
        for path in kernels.glob("sm*")
        if path.name.removeprefix("sm").isdecimal()
    }
    fitting = [one for one in have if one <= arch and one // 10 == arch // 10]
    if not fitting:
        known = ", ".join(f"sm{one}" for one in sorted(have))
        raise Missing(
            f"the bundle has no kernels for this GPU (sm{arch}); it has them for {known}",
            hint=f"compile it with --target cuda:sm{arch}",
        )
    return have[max(fitting)], max(fitting)


def _load(driver: Any, folder: Path, launch: Launch, arch: int) -> Any:
    image = (folder / launch.cubin).read_bytes()
    module = _checked(driver, driver.cuModuleLoadData(image), launch.cubin)
    function = _checked(
        driver, driver.cuModuleGetFunction(module, launch.entry.encode()), launch.cubin
    )
    if launch.shared > SHARED_BYTES[arch]:
        raise ToolFailed(f"{launch.cubin} wants {launch.shared} bytes of shared memory")
    if launch.shared > _OLD_SHARED:
        most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _checked(driver, driver.cuFuncSetAttribute(function, most, launch.shared), launch.cubin)
    return function


def _checked(driver: Any, answer: tuple[Any, ...], what: str) -> Any:
    """Return what a driver's call gave.

    Raises:
        ToolFailed: it failed.
    """
    status, *values = answer
    if int(status) != 0:
        _, name = driver.cuGetErrorName(status)
        text = name.decode() if isinstance(name, bytes) else str(name)
        raise ToolFailed(f"the CUDA driver answered {text}", where=Where(path=what))
    return values[0] if len(values) == 1 else None


@dataclass(frozen=True)
class _Prepared:
    """A launch with everything but its grid and its sizes."""

    function: Any
    launch: Launch
    pointers: tuple[int, ...]


@dataclass
class GpuEngine:
    """One GPU."""

    device: str
    name: str
    driver: Any
    launches: Mapping[str, Launch]
    functions: Mapping[str, Any]
    scratch: dict[int, Any] = field(default_factory=dict)

    def pages(self, plan: LaunchPlan, full: int) -> int:
        """As many as all sequences need, or as fit the memory beside weights and arena.

        Raises:
            Missing: not even one sequence fits.
        """
        import torch

        free, total = torch.cuda.mem_get_info(self.device)
        room = free - plan.weight_bytes - plan.arena - int(SPARE * total)
        fit = room // (plan.cache.layers * plan.cache.page_size)
        if fit < 1:
            raise Missing(
                f"{self.name} has {free / 1e9:.1f} GB free, less than the model takes",
                hint="see `modelc estimate`, for what fits",
            )
        return int(min(full, fit))

    def bind(self, plan: LaunchPlan, function: Function, memory: Memory) -> Bound:
        """Return what runs a function; decoding is captured for each batch after two runs."""
        steps = [self._step(call, function, memory) for call in function.calls]

        def plain(sizes: Sizes) -> None:
            for step in steps:
                step(sizes)

        return _Captured(plain) if function.kind == "decode" else plain

    def _step(self, call: Call, function: Function, memory: Memory) -> Callable[[Sizes], None]:
        if call.operator:

            def operator(sizes: Sizes) -> None:
                run_call(
                    call,
                    {p: memory.tensor(function, n, sizes) for p, n in call.tensors.items()},
                )

            return operator
        launch = self.launches[call.kernel]
        pointers = tuple(_address(memory, function, call.tensors[name]) for name in launch.tensors)
        prepared = _Prepared(self.functions[call.kernel], launch, pointers)
        return lambda sizes: self._launch(prepared, sizes)

    def _launch(self, prepared: _Prepared, sizes: Sizes) -> None:
        import torch

        launch = prepared.launch
        grid = [side.of(sizes) for side in launch.grid]
        if not all(grid):
            return
        scratch = self._scratch(launch.scratch * grid[0] * grid[1] * grid[2])
        values = [ctypes.c_uint64(pointer) for pointer in prepared.pointers]
        numbers = [ctypes.c_int32(sizes[name]) for name in launch.sizes]
        # Triton's kernels end with two pointers of their own: scratch, and a profiler's.
        arguments = [*values, *numbers, ctypes.c_uint64(scratch), ctypes.c_uint64(0)]
        packed = (ctypes.c_void_p * len(arguments))(
            *(ctypes.addressof(argument) for argument in arguments)
        )
        stream = torch.cuda.current_stream().cuda_stream
        answer = self.driver.cuLaunchKernel(
            prepared.function, *grid, 32 * launch.warps, 1, 1, launch.shared, stream,
            ctypes.addressof(packed), 0,
        )  # fmt: skip
        _checked(self.driver, answer, launch.cubin)

    def _scratch(self, size: int) -> int:
        import torch

        if not size:
            return 0
        if size not in self.scratch:
            self.scratch[size] = torch.empty(size, dtype=torch.uint8, device=self.device)
        return int(self.scratch[size].data_ptr())


def _address(memory: Memory, function: Function, name: str) -> int:
    """Where a tensor begins: the same in every call."""
    if name in function.buffers:
        return int(memory.arena.data_ptr()) + function.buffers[name].offset
    for tensors in (memory.weights, memory.caches, memory.inputs):
        if name in tensors:
            return int(tensors[name].data_ptr())
    raise KeyError(name)


class _Captured:
    """A function that becomes one CUDA graph for each batch that it is called with."""

    def __init__(self, plain: Bound) -> None:
        self._plain = plain
        self._runs: dict[int, int] = {}
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def __call__(self, sizes: Sizes) -> None:
        import torch

        batch = sizes["sequences"]
        if batch in self._graphs:
            self._graphs[batch].replay()
            return
        self._runs[batch] = self._runs.get(batch, 0) + 1
        if self._runs[batch] <= _WARM_UP:
            self._plain(sizes)
            return
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            self._plain(sizes)
        self._graphs[batch] = graph
        graph.replay()

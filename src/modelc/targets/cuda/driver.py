"""Runs a launch plan on a GPU, through the driver: cubins are loaded, nothing is compiled.

Decoding is captured into a CUDA graph for each function and batch, so that a step is one launch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelc.errors import Damaged, Missing, ToolFailed, Where
from modelc.targets.cuda.engine import Bound, Sizes, run_call
from modelc.targets.cuda.estimate import SPARE
from modelc.targets.cuda.kernel import power_of_two
from modelc.targets.cuda.kernels_file import FILE, Launch, load_kernels
from modelc.targets.cuda.memory import Memory
from modelc.targets.cuda.memory_sizes import input_bytes
from modelc.targets.cuda.plan import Call, Function, LaunchPlan, Mode

if TYPE_CHECKING:
    import torch

_WARM_UP: Final = 2  # runs of a function before it is captured
_OLD_SHARED: Final = 48 << 10  # bytes of shared memory that a kernel has without asking
_MOST_BLOCKS: Final = (2**31 - 1, 65535, 65535)  # along the sides of a grid
_ALIGNMENT: Final = 16  # bytes; kernels were compiled for tensors that lie so
_LEAST_SCRATCH: Final = 1 << 20


def open_gpu(kernels: Path, index: int = 0) -> GpuEngine:
    """Open a GPU and load the kernels for its architecture.

    Args:
        kernels: folder with a folder for each architecture.
        index: torch's number of the GPU.

    Raises:
        Damaged: the kernels are not what they say.
        Missing: the bundle has no kernels for it, or cuda-bindings is not installed.
        ToolFailed: the driver doesn't take a kernel.
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
    folder = _folder_for(kernels, 10 * major + minor)
    launches = load_kernels(folder / FILE)
    most = _shared_memory(driver)
    functions = {key: _load(driver, folder, launch, most) for key, launch in launches.items()}
    return GpuEngine(
        f"cuda:{index}", torch.cuda.get_device_name(index), driver, launches, functions
    )


def _folder_for(kernels: Path, arch: int) -> Path:
    """Cubins run on their own architecture and on later ones of the same generation; from sm90 on,
    where Triton uses what only that one architecture has (sm_90a), on their own alone."""
    have = {
        int(path.name.removeprefix("sm")): path
        for path in kernels.glob("sm*")
        if path.name.removeprefix("sm").isdecimal()
    }
    fitting = [one for one in have if one == arch or (one < arch < 90 and one // 10 == arch // 10)]
    if not fitting:
        known = ", ".join(f"sm{one}" for one in sorted(have)) or "none"
        raise Missing(
            f"the bundle has no kernels for this GPU (sm{arch}); it has them for {known}",
            hint=f"compile it with --target cuda:sm{arch}",
        )
    return have[max(fitting)]


def _load(driver: Any, folder: Path, launch: Launch, most_shared: int) -> Any:
    if launch.shared > most_shared:
        raise Missing(
            f"{launch.cubin} takes {launch.shared} bytes of shared memory, and a block of this GPU "
            f"has {most_shared}",
            hint="compile the model for this GPU",
        )
    try:
        image = (folder / launch.cubin).read_bytes()
    except OSError as error:
        raise Damaged(f"no kernel: {error}", where=Where(path=str(folder))) from error
    module = _checked(driver, driver.cuModuleLoadData(image), launch.cubin)
    function = _checked(
        driver, driver.cuModuleGetFunction(module, launch.entry.encode()), launch.cubin
    )
    if launch.shared > _OLD_SHARED:
        most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _checked(driver, driver.cuFuncSetAttribute(function, most, launch.shared), launch.cubin)
    return function


def _shared_memory(driver: Any) -> int:
    """Return the bytes that a block of the current device can have."""
    device = _checked(driver, driver.cuCtxGetDevice(), "the GPU")
    most = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    return int(_checked(driver, driver.cuDeviceGetAttribute(most, device), "the GPU"))


def _checked(driver: Any, answer: tuple[Any, ...], what: str) -> Any:
    """Return what a driver's call gave.

    Raises:
        ToolFailed: it failed.
    """
    status, *values = answer
    if int(status) != 0:
        texts = (driver.cuGetErrorName(status)[1], driver.cuGetErrorString(status)[1])
        words = ": ".join(text.decode() for text in texts if text) or f"error {int(status)}"
        raise ToolFailed(f"the CUDA driver answered {words}", where=Where(path=what))
    return values[0] if len(values) == 1 else None


@dataclass(frozen=True)
class _Prepared:
    """A launch with everything but its grid and its sizes."""

    function: Any
    launch: Launch
    call: Call
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
        taken = plan.weight_bytes + plan.arena + input_bytes(plan)
        room = free - taken - int(SPARE * total)
        fit = room // (plan.cache.layers * plan.cache.page_size)
        if fit < 1:
            raise Missing(
                f"{self.name} has {free / 1e9:.1f} GB free, less than the model takes",
                hint="see `modelc estimate`, for what fits",
            )
        return int(min(full, fit))

    def bind(self, plan: LaunchPlan, function: Function, memory: Memory, mode: Mode) -> Bound:
        """Return what runs a function; decoding is captured for each batch after two runs.

        Raises:
            Damaged: the kernels aren't the plan's.
        """
        steps = [self._step(plan, call, function, memory) for call in function.calls_for(mode)]

        def plain(sizes: Sizes) -> None:
            for step in steps:
                step(sizes)

        return _Captured(plain) if plan.captures and function.kind == "decode" else plain

    def _step(
        self, plan: LaunchPlan, call: Call, function: Function, memory: Memory
    ) -> Callable[[Sizes], None]:
        if call.operator:

            def operator(sizes: Sizes) -> None:
                run_call(
                    call,
                    {p: memory.tensor(function, n, sizes) for p, n in call.tensors.items()},
                )

            return operator
        launch, row = self.launches.get(call.kernel), plan.variants[call.kernel].row
        given = tuple(tensor.name for tensor in row.tensors if tensor.name in call.tensors)
        if launch is None or launch.tensors != given or launch.sizes != row.sizes:
            raise Damaged(
                f"the kernels have no {call.kernel} that takes what the plan gives",
                hint="compile the model again",
            )
        pointers = tuple(memory.address(function, call.tensors[name]) for name in given)
        assert not any(pointer % _ALIGNMENT for pointer in pointers), call
        prepared = _Prepared(self.functions[call.kernel], launch, call, pointers)
        return lambda sizes: self._launch(prepared, sizes)

    def _launch(self, prepared: _Prepared, sizes: Sizes) -> None:
        import torch

        launch, sizes = prepared.launch, prepared.call.sizes(sizes)
        grid = [side.of(sizes) for side in launch.grid]
        if not all(grid):
            return
        if any(side > most for side, most in zip(grid, _MOST_BLOCKS, strict=True)):
            raise ToolFailed(
                f"{launch.cubin} would be launched on {grid} blocks, and CUDA takes up to "
                f"{list(_MOST_BLOCKS)}",
                hint="compile the model with smaller calls",
            )
        scratch = self._scratch(launch.scratch * grid[0] * grid[1] * grid[2])
        values = [ctypes.c_uint64(pointer) for pointer in prepared.pointers]
        numbers = [ctypes.c_int32(sizes[name]) for name in launch.sizes]
        # Triton's kernels end with two pointers of their own: scratch, and a profiler's.
        arguments = [*values, *numbers, ctypes.c_uint64(scratch), ctypes.c_uint64(0)]
        packed = (ctypes.c_void_p * len(arguments))(
            *(ctypes.addressof(argument) for argument in arguments)
        )
        # Looked up for each launch: while a graph is captured, it is another one.
        stream = torch.cuda.current_stream(self.device).cuda_stream
        answer = self.driver.cuLaunchKernel(
            prepared.function, *grid, 32 * launch.warps, 1, 1, launch.shared, stream,
            ctypes.addressof(packed), 0,
        )  # fmt: skip
        _checked(self.driver, answer, launch.cubin)

    def _scratch(self, size: int) -> int:
        import torch

        if not size:
            return 0
        # Captured graphs keep their addresses, so none is freed; few sizes, so there are few.
        size = max(power_of_two(size), _LEAST_SCRATCH)
        if size not in self.scratch:
            self.scratch[size] = torch.empty(size, dtype=torch.uint8, device=self.device)
        return int(self.scratch[size].data_ptr())


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
        with torch.cuda.graph(graph):
            self._plain(sizes)
        self._graphs[batch] = graph
        graph.replay()

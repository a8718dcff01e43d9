"""From PyTorch to an ONNX file, which the ONNX frontend reads.

PyTorch is only loaded in the child process that exports. The sizes of the graph are fixed there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from modelc.errors import Missing, Where
from modelc.frontends.torch.spec import ArchiveSpec, BuilderSpec, EncoderSpec, Spec
from modelc.process import run_worker


def export_to_onnx(
    spec: Spec,
    output: Path,
    *,
    dims: Mapping[str, int] = MappingProxyType({}),
    workdir: Path,
    timeout_s: float,
    step: str = "export",
) -> Path:
    """Write the model as ONNX of opset 23 to `output`, its weights beside it in `OUTPUT.data`, and
    return `output`. The modules' names stay with the nodes.

    A function of the user's is executed, with all rights that modelc has.

    Args:
        dims: sizes by name. Of an encoder: `batch`, and `sequence` for text, `samples` for sound.
            Of a function's model: what `example_inputs` takes by keyword. Of an exported program:
            its own symbols, such as `s77`.
        workdir: where the log goes.

    Raises:
        Missing: PyTorch, or transformers for an encoder, is not installed.
        BadInput: the source can't be loaded or run, or a size is missing or not known.
        ToolFailed: PyTorch can't export it, crashed or ran out of time.
    """
    where = Where(step=step, path=str(spec))
    needed = ("torch", "transformers") if isinstance(spec, EncoderSpec) else ("torch",)
    for package in needed:
        if importlib.util.find_spec(package) is None:
            raise Missing(
                f"{package} is not installed, which reads this source",
                where=where,
                hint="pip install 'modelc[torch]'",
            )
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    run_worker(
        "modelc.frontends.torch.export_worker",
        {"source": _job(spec), "output": str(output), "dims": dict(dims)},
        workdir=workdir,
        timeout_s=timeout_s,
        where=where,
        hint="PyTorch needs several times the model's size in memory to export it",
    )
    return output


def _job(spec: Spec) -> dict[str, str]:
    """Return a source as the worker takes it."""
    match spec:
        case BuilderSpec(file, function):
            return {"file": str(file.resolve()), "function": function}
        case ArchiveSpec(file):
            return {"archive": str(file.resolve())}
        case EncoderSpec(folder):
            return {"folder": str(folder.resolve())}

"""From PyTorch to an ONNX file, which the ONNX frontend reads.

PyTorch is only loaded in the child process that exports. The sizes of the graph are fixed there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from modelc.errors import Missing, Where
from modelc.frontends.torch.spec import BuilderSpec, Spec
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
            Of a function's model: what `example_inputs` takes by keyword.
        workdir: where the log goes.

    Raises:
        Missing: PyTorch, or transformers for an encoder, is not installed.
        BadInput: the source can't be loaded or run, or a size is missing or not known.
        ToolFailed: PyTorch can't export it, crashed or ran out of time.
    """
    where = Where(step=step, path=str(spec))
    needed = ("torch",) if isinstance(spec, BuilderSpec) else ("torch", "transformers")
    for package in needed:
        if importlib.util.find_spec(package) is None:
            raise Missing(
                f"{package} is not installed, which reads this source",
                where=where,
                hint="pip install 'modelc[torch]'",
            )
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    source = (
        {"file": str(spec.file.resolve()), "function": spec.function}
        if isinstance(spec, BuilderSpec)
        else {"folder": str(spec.folder.resolve())}
    )
    run_worker(
        "modelc.frontends.torch.export_worker",
        {"source": source, "output": str(output), "dims": dict(dims)},
        workdir=workdir,
        timeout_s=timeout_s,
        where=where,
        hint="PyTorch needs several times the model's size in memory to export it",
    )
    return output

"""Worker: exports PyTorch models to ONNX."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, ToolFailed, Where
from modelc.frontends.torch import encoder, user_code
from modelc.frontends.torch.example import Example, named_results
from modelc.process import serve

OPSET: Final = 23

KEPT: Final = "pkg.torch.onnx.name_scopes"
"""The metadata of a node that says its module; the rest names files of this machine."""


def handle(job: dict[str, Any]) -> dict[str, Any]:
    """Export `job["source"]`, a file with a function or a folder, to `job["output"]`."""
    source, output = job["source"], Path(job["output"])
    if "folder" in source:
        example = encoder.load(Path(source["folder"]), job["dims"])
        where = Where(path=source["folder"])
    else:
        file = Path(source["file"])
        example = user_code.build(file, source["function"], job["dims"])
        where = Where(path=f"{file}:{source['function']}")
    names = _result_names(example, where)
    _export(example, names, output, where)
    _tidy(output)
    return {"outputs": names}


def _result_names(example: Example, where: Where) -> list[str]:
    """Run the model once, in its state for inference: outputs are called what it calls them."""
    import torch

    program = isinstance(example.model, torch.export.ExportedProgram)
    module = example.model.module() if program else example.model.eval()
    try:
        with torch.inference_mode():
            result = module(*example.arguments, **example.keywords)
    except Exception as error:  # it is the user's own code
        traceback.print_exc()
        raise BadInput(
            f"the model can't be run on its example inputs: {type(error).__name__}: {error}",
            where=where,
            hint="the traceback is in the log of the export, export_worker.log",
        ) from error
    names = [name for name, _ in named_results(result)]
    if not names or len(set(names)) != len(names):
        raise BadInput(
            "the model gives no tensors, or two of one name",
            where=where,
            hint="return a tensor, or a tuple or dict of tensors",
        )
    return names


def _export(example: Example, names: list[str], output: Path, where: Where) -> None:
    import torch

    program = isinstance(example.model, torch.export.ExportedProgram)
    try:
        torch.onnx.export(
            example.model,
            () if program else example.arguments,
            output,
            kwargs=None if program else dict(example.keywords),
            output_names=names,
            opset_version=OPSET,
            dynamo=True,
            external_data=True,
            verbose=False,
            optimize=False,  # what it fuses forgets its modules
        )
    except Exception as error:  # torch raises many types
        traceback.print_exc()
        # The last line is the cause's; before it stand pages of advice.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        why = str(cause).strip().splitlines() or [type(cause).__name__]
        raise ToolFailed(
            f"PyTorch can't export the model: {type(cause).__name__}: {why[0]}",
            where=where,
            hint="a forward that torch.export takes has no branches that depend on data; all of "
            "what it says is in export_worker.log",
        ) from error


def _tidy(output: Path) -> None:
    """Drop what names files of this machine, so that the same model gives the same file."""
    import onnx

    proto = onnx.load(str(output), load_external_data=False)
    holders: list[Any] = [proto, proto.graph, *proto.graph.node, *proto.graph.input]
    holders += [*proto.graph.output, *proto.graph.value_info, *proto.graph.initializer]
    for holder in holders:
        props = [(p.key, p.value) for p in holder.metadata_props if p.key == KEPT]
        del holder.metadata_props[:]
        for key, value in props:
            holder.metadata_props.add(key=key, value=value)
    output.write_bytes(proto.SerializeToString(deterministic=True))


if __name__ == "__main__":
    serve(handle)

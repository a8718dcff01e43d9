"""Worker: exports PyTorch models to ONNX."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, ToolFailed, Where
from modelc.frontends.torch import encoder, exported, user_code
from modelc.frontends.torch.archive.trees import Leaf
from modelc.frontends.torch.example import Example, named_results
from modelc.process import serve

OPSET: Final = 23

KEPT: Final = "pkg.torch.onnx.name_scopes"
"""The metadata of a node that says its module; the rest names files of this machine."""


def handle(job: dict[str, Any]) -> dict[str, Any]:
    """Export `job["source"]`, a function's file, a folder or an archive, to `job["output"]`."""
    source, output, dims = job["source"], Path(job["output"]), job["dims"]
    if "folder" in source:
        example = encoder.load(Path(source["folder"]), dims)
        where = Where(path=source["folder"])
    elif "archive" in source:
        example = exported.load(Path(source["archive"]), dims, output.parent)
        where = Where(path=source["archive"])
    else:
        file = Path(source["file"])
        example = user_code.build(file, source["function"], dims)
        where = Where(path=f"{file}:{source['function']}")
    names = _result_names(example, where)
    _export(example, names, output, where)
    _tidy(output, names)
    return {"outputs": names}


def _result_names(example: Example, where: Where) -> list[str]:
    """Return what a model calls its outputs.

    Raises:
        BadInput: it gives no tensors, two of one name, or can't be run.
    """
    import torch

    if example.results is not None:
        names = [name for name, _ in named_results(example.results, Leaf)]
    else:
        names = [name for name, _ in named_results(_run(example, where), torch.Tensor)]
    if not names or len(set(names)) != len(names):
        raise BadInput(
            "the model gives no tensors, or two of one name",
            where=where,
            hint="return a tensor, or a tuple or dict of tensors",
        )
    return names


def _run(example: Example, where: Where) -> Any:
    """Run a model once, in its state for inference."""
    import torch

    program = isinstance(example.model, torch.export.ExportedProgram)
    module = example.model.module() if program else example.model.eval()
    try:
        with torch.inference_mode():
            return module(*example.arguments, **example.keywords)
    except Exception as error:  # it is the user's own code
        traceback.print_exc()
        raise BadInput(
            f"the model can't be run on its example inputs: {type(error).__name__}: {error}",
            where=where,
            hint="the traceback is in the log of the export, export_worker.log",
        ) from error


def _export(example: Example, names: list[str], output: Path, where: Where) -> None:
    import torch

    program = isinstance(example.model, torch.export.ExportedProgram)
    try:
        torch.onnx.export(
            example.model,
            () if program else example.arguments,
            output,
            kwargs=None if program else dict(example.keywords),
            output_names=[_placeholder(place) for place in range(len(names))],
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


def _placeholder(place: int) -> str:
    """The exporter would call an output as a value inside is called already."""
    return f"modelc.output.{place}"


def _rename_outputs(graph: Any, names: list[str]) -> None:
    """Give the outputs their names; values inside that have one of them get out of the way.

    Raises:
        BadInput: an input has one of them.
    """
    if shared := {value.name for value in graph.input} & set(names):
        raise BadInput(
            f"an input and an output are both called {min(shared)}",
            hint="give the output another name",
        )
    new = {name: f"{name}.inner" for name in names}
    new |= {_placeholder(place): name for place, name in enumerate(names)}
    _rename(graph, new)


def _rename(graph: Any, new: dict[str, str]) -> None:
    for value in (*graph.output, *graph.value_info, *graph.initializer):
        value.name = new.get(value.name, value.name)
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [new.get(name, name) for name in side]
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename(inner, new)


def _tidy(output: Path, names: list[str]) -> None:
    """Name the outputs, and drop what names files of this machine, so that the same model gives the
    same file."""
    import onnx

    proto = onnx.load(str(output), load_external_data=False)
    _rename_outputs(proto.graph, names)
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

"""What a file is, told without running it: sources, ONNX graphs, QNN files, bundles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Where
from modelc.pipeline.inspect_bundle import inspect_bundle
from modelc.pipeline.inspect_qnn import inspect_context_binary, inspect_dlc
from modelc.pipeline.inspection import Inspection

SAVER_SOURCE: Final = "saver_output.c"


def inspect_path(path: Path) -> Inspection:
    """Tell what lies at `path`.

    Raises:
        BadInput: nothing, or nothing that modelc knows.
    """
    if not path.exists():
        raise BadInput("there is no such file or folder", where=Where(path=str(path)))
    for matches, read in _KINDS:
        if matches(path):
            return read(path)
    raise BadInput(
        "not a model, a binary or a bundle that modelc knows",
        where=Where(path=str(path)),
        hint="known: .gguf, a Hugging Face folder, .onnx, .pt2, a QNN context binary, a DLC, "
        "saver_output.c, a bundle",
    )


def _inspect_source(path: Path) -> Inspection:
    from modelc.frontends import describe

    description = describe(path)
    rows = [
        {
            "name": tensor.name,
            "format": tensor.format,
            "shape": list(tensor.shape),
            "bytes": tensor.size,
        }
        for tensor in description.tensors
    ]
    facts = {
        **description.metadata,
        "tensors": len(rows),
        "bytes": sum(row["bytes"] for row in rows),
        **_parameters(path),
    }
    return Inspection(description.kind, facts, {"tensors": rows})


def _parameters(path: Path) -> dict[str, int]:
    """Return how many parameters a decoder has, and how many a token meets if it has experts;
    nothing of a source that modelc can't compile, which can still be looked at."""
    from modelc.decoder.parameters import count_parameters
    from modelc.frontends import read_model

    try:
        model = read_model(path)
    except BadInput:
        return {}
    counted = count_parameters(model)
    active = {"active_parameters": counted.active} if model.config.experts else {}
    return {"parameters": counted.total, **active}


def _inspect_onnx(path: Path) -> Inspection:
    from modelc.ir.onnx_file import read_proto

    model = read_proto(path)
    if any(node.op_type == "EPContext" for node in model.graph.node):
        return _inspect_wrapper(path)
    operators = Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in model.graph.node
    )
    facts = {
        "opsets": {opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        "producer": model.producer_name,
        "nodes": len(model.graph.node),
        "initializers": len(model.graph.initializer),
    }
    if sizes := _open_sizes(path):
        facts["open_sizes"] = sizes
    given = {initializer.name for initializer in model.graph.initializer}
    inputs = [_port(value) for value in model.graph.input if value.name not in given]
    return Inspection(
        "onnx",
        facts,
        {
            "inputs": inputs,
            "outputs": [_port(value) for value in model.graph.output],
            "operators": [{"operator": name, "count": n} for name, n in operators.most_common()],
        },
    )


def _inspect_program(path: Path) -> Inspection:
    """An exported program of PyTorch."""
    from modelc.frontends.torch.archive.summary import summarise

    found = summarise(path)
    facts: dict[str, Any] = {
        "torch": found.torch,
        "nodes": sum(found.operators.values()),
        "weights": found.weights,
        "bytes": found.weight_bytes,
    }
    if found.open_sizes:
        facts["open_sizes"] = found.open_sizes
    return Inspection(
        "exported program",
        facts,
        {
            "inputs": [{"name": name, "shape": shape} for name, shape in found.inputs.items()],
            "operators": [{"operator": name, "count": n} for name, n in found.operators.items()],
        },
    )


def _open_sizes(path: Path) -> dict[str, str]:
    """Return the sizes that a network leaves open, and of which inputs; none of a file that no
    network can be read from."""
    from modelc.frontends.onnx.summary import summarise

    try:
        return {row.name: ", ".join(row.used) for row in summarise(path).open_sizes}
    except BadInput:
        return {}


def _inspect_wrapper(path: Path) -> Inspection:
    """An ONNX model that loads a context binary."""
    from modelc.targets.snapdragon.network.ep_context import read_network_wrapper

    wrapper = read_network_wrapper(path)
    facts = {
        "binary": wrapper.binary,
        "graphs": list(wrapper.graphs),
        "on the CPU": list(wrapper.on_cpu),
    }
    return Inspection(
        "onnx that loads a context binary",
        facts,
        {
            "inputs": [asdict(row) for row in wrapper.inputs],
            "outputs": [asdict(row) for row in wrapper.outputs],
        },
    )


def _inspect_saver(path: Path) -> Inspection:
    """C++ source of a network, and its weights."""
    from modelc.targets.snapdragon.network.saver_source import read_saver

    info = read_saver(path if path.is_dir() else path.parent)
    facts = {
        "graphs": list(info.graphs),
        "tensors": info.tensors,
        "source_bytes": info.source_bytes,
        "params_bytes": info.params_bytes,
    }
    rows = [{"operator": name, "count": n} for name, n in sorted(info.operators.items())]
    return Inspection("qnn source", facts, {"operators": rows})


def _is_saver(path: Path) -> bool:
    return path.name == SAVER_SOURCE or (path.is_dir() and (path / SAVER_SOURCE).is_file())


def _port(value: Any) -> dict[str, Any]:
    from onnx import TensorProto
    from onnx.helper import tensor_dtype_to_np_dtype

    tensor = value.type.tensor_type
    known = tensor.elem_type in TensorProto.DataType.values()[1:]  # the first is no type
    dims = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return {
        "name": value.name,
        "type": tensor_dtype_to_np_dtype(tensor.elem_type).name if known else "unknown",
        "shape": dims,
    }


def _is_bundle(path: Path) -> bool:
    return (path / "manifest.json").is_file()


def _is_source(path: Path) -> bool:
    if path.is_dir():
        return (path / "config.json").is_file()
    with path.open("rb") as stream:
        return stream.read(4) == b"GGUF"


def _is_program(path: Path) -> bool:
    from modelc.frontends.torch.spec import ARCHIVE

    return path.suffix == ARCHIVE and path.is_file()


def _is_onnx(path: Path) -> bool:
    return path.suffix == ".onnx"


def _is_binary(path: Path) -> bool:
    return path.is_file() and path.suffix == ".bin"


def _is_dlc(path: Path) -> bool:
    return path.is_file() and path.suffix == ".dlc"


_KINDS: Final[tuple[tuple[Callable[[Path], bool], Callable[[Path], Inspection]], ...]] = (
    (_is_bundle, inspect_bundle),
    (_is_saver, _inspect_saver),
    (_is_source, _inspect_source),
    (_is_onnx, _inspect_onnx),
    (_is_program, _inspect_program),
    (_is_binary, inspect_context_binary),
    (_is_dlc, inspect_dlc),
)

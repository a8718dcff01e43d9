"""What a file is, told without running it: sources, ONNX graphs, context binaries, bundles."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Damaged, Where


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        kind: "gguf", "huggingface", "onnx", "context-binary" or "bundle".
        facts: name -> plain value.
        tables: title -> rows, each a mapping of column -> plain value.
    """

    kind: str
    facts: dict[str, Any]
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {"kind": self.kind, "facts": self.facts, **self.tables}


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
        hint="known: .gguf, a Hugging Face folder, .onnx, a QNN context binary, a bundle",
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
    }
    return Inspection(description.kind, facts, {"tensors": rows})


def _inspect_onnx(path: Path) -> Inspection:
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors are of no common class
        raise BadInput(f"not an ONNX file: {error}", where=Where(path=str(path))) from error
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


def _port(value: Any) -> dict[str, Any]:
    from onnx.helper import tensor_dtype_to_np_dtype

    tensor = value.type.tensor_type
    dims = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return {
        "name": value.name,
        "type": tensor_dtype_to_np_dtype(tensor.elem_type).name,
        "shape": dims,
    }


def _inspect_bundle(path: Path) -> Inspection:
    from modelc.bundle.read import open_bundle

    document = asdict(open_bundle(path).manifest)
    files = [{"name": name, **entry} for name, entry in sorted(document.pop("files").items())]
    graphs = [
        {
            "name": g["name"],
            "file": g["file"],
            "inputs": len(g["inputs"]),
            "outputs": len(g["outputs"]),
        }
        for g in document.pop("graphs")
    ]
    return Inspection("bundle", document, {"graphs": graphs, "files": files})


def _inspect_context_binary(path: Path) -> Inspection:
    from modelc.targets.snapdragon.binary import read_binary

    with tempfile.TemporaryDirectory(prefix="modelc-") as scratch:
        try:
            info = read_binary(path, workdir=Path(scratch))
        except Damaged as error:
            raise BadInput(
                error.message, where=Where(path=str(path)), hint="is it whole, and made by QNN?"
            ) from error
    facts = {
        "build": info.build,
        "soc_model": info.soc_model,
        "htp_arch": info.htp_arch,
        "bytes": path.stat().st_size,
    }
    graphs = [
        {"name": g.name, "vtcm_mb": g.vtcm_mb, "spill_fill_bytes": g.spill_fill_bytes}
        for g in info.graphs
    ]
    tables = {
        f"{side} of {graph.name}": [
            {**asdict(tensor), "shape": list(tensor.shape)} for tensor in getattr(graph, side)
        ]
        for graph in info.graphs
        for side in ("inputs", "outputs")
    }
    return Inspection("context-binary", facts, {"graphs": graphs, **tables})


def _is_bundle(path: Path) -> bool:
    return (path / "manifest.json").is_file()


def _is_source(path: Path) -> bool:
    if path.is_dir():
        return (path / "config.json").is_file()
    with path.open("rb") as stream:
        return stream.read(4) == b"GGUF"


def _is_onnx(path: Path) -> bool:
    return path.suffix == ".onnx"


def _is_binary(path: Path) -> bool:
    return path.is_file() and path.suffix == ".bin"


_KINDS: Final[tuple[tuple[Callable[[Path], bool], Callable[[Path], Inspection]], ...]] = (
    (_is_bundle, _inspect_bundle),
    (_is_source, _inspect_source),
    (_is_onnx, _inspect_onnx),
    (_is_binary, _inspect_context_binary),
)

"""Networks of any kind from ONNX files, as one canonical graph of opset 23."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.errors import BadInput, Where
from modelc.frontends.onnx.canonical import make_canonical, unresolved
from modelc.frontends.onnx.dims import fill_in
from modelc.frontends.onnx.draft import IR_VERSION, OPSET, Draft
from modelc.frontends.onnx.functions import check_calls, inline_functions
from modelc.frontends.onnx.modules import name_modules
from modelc.frontends.onnx.names import make_unique
from modelc.frontends.onnx.sound import AGAIN, data_files, read_sound

__all__ = ["network_files", "read_network", "unresolved"]


def read_network(path: Path, dims: Mapping[str, int] = MappingProxyType({})) -> ir.Model:
    """Return the canonical graph of the ONNX file at `path`.

    It is flat, in opset 23, and every size is known, but for what depends on data (`unresolved`).
    Inputs and outputs keep names, order and types; weights in files beside it stay there, mapped.
    Every node knows its module.

    Args:
        dims: sizes that the file leaves open, by symbol or by `INPUT.AXIS`.

    Raises:
        BadInput: it is no sound ONNX file, its weights aren't beside it, a size is left open, or
            an operator can't be brought to opset 23.
    """
    where = Where(path=str(path))
    proto = read_sound(path)
    check_calls(proto, where)
    _drop_stored_inputs(proto.graph)
    fill_in(proto.graph, dims, where)
    try:
        model = ir.serde.deserialize_model(proto)
        ir.external_data.set_base_dir(model.graph, path.parent)
        _note_opsets(model)
        model.graph.sort()
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError) as error:
        why = "its nodes go in circles" if "cycle" in str(error).lower() else "it can't be read"
        raise BadInput(f"not a sound graph: {why}", where=where, hint=AGAIN) from error
    inline_functions(model, where)
    draft = Draft(model, where)
    make_canonical(model.graph, draft)
    RemoveUnusedNodesPass()(model)
    name_modules(model.graph.all_nodes())
    make_unique(model)
    _note_domains(model)
    return model


def network_files(path: Path) -> tuple[Path, ...]:
    """Return the ONNX file and those with its weights, sorted.

    Raises:
        BadInput: as `read_network` for files.
    """
    return tuple(sorted({path, *data_files(read_sound(path), path)}))


def _drop_stored_inputs(graph: onnx.GraphProto) -> None:
    """Before IR version 4 every weight was listed as an input."""
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    del graph.input[:]
    graph.input.extend(inputs)


def _note_opsets(model: ir.Model) -> None:
    """Let every node know the opset it was written in, and have one for all from now on."""
    owners: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for owner in owners:
        imports = owner.opset_imports
        opset = imports.get("", imports.get("ai.onnx", OPSET))
        for node in owner.all_nodes():
            if node.domain in ("", "ai.onnx"):
                node.version = opset
        imports.pop("ai.onnx", None)
        imports[""] = OPSET


def _note_domains(model: ir.Model) -> None:
    used = {node.domain for node in model.graph.all_nodes()} | {""}
    for domain in [domain for domain in model.opset_imports if domain not in used]:
        del model.opset_imports[domain]
    for domain in used:
        model.opset_imports.setdefault(domain, 1)
    model.opset_imports[""] = OPSET
    model.ir_version = IR_VERSION

"""Encodings for a named step on files: what the user names, or what lies beside the graphs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from modelc.errors import BadInput, Damaged, Where
from modelc.pipeline.decoder_job import DecoderJob
from modelc.pipeline.given_graphs import GivenGraph
from modelc.pipeline.imported_weights import SCALES, SHOWN
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import build_canonical, source_root
from modelc.pipeline.steps_calibrate import import_encodings
from modelc.pipeline.steps_graphs import ENCODINGS
from modelc.quant.aimet.encodings import SECTIONS, to_activation
from modelc.quant.aimet.match import widest
from modelc.quant.aimet.read import MAX_BYTES, read_encodings
from modelc.quant.overrides import EMBEDDING

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelc.ir.encodings import Encoding

_SUFFIX: Final = ".encodings"

Form = Literal["beside", "bundle", "graphs", "model"]
"""NAME.encodings beside each graph, a bundle's encodings.json (which scales of weights may lie
beside), AIMET's file by the graphs' own names, or AIMET's file of the model."""


def form_of(given: Path | None, graphs: Sequence[GivenGraph], root: Path) -> Form:
    """Return what the encodings are that a user gives with graphs.

    Args:
        root: folder of the source's files.

    Raises:
        BadInput: the file can't be read, or is none.
    """
    if given is None:
        return "beside"
    if not _is_aimets(given):
        return "bundle"
    said = read_encodings(given).activations
    known = [value.name in said for graph in graphs for value in _floats(_load(graph, root))]
    return "graphs" if known and all(known) else "model"


def lay_out(
    form: Form,
    given: Path | None,
    graphs: Sequence[GivenGraph],
    job: DecoderJob,
    context: StepContext,
) -> dict[str, Path]:
    """Lay out the encodings of graphs as steps find them in the store, if there are any.

    Args:
        graphs: of one part, or a single one; none for those of the model.

    Raises:
        BadInput: a file is damaged, or leaves tensors without encodings.
    """
    files = {graph: given or graph.path.with_suffix(_SUFFIX) for graph in graphs}
    if form == "beside" and not any(path.is_file() for path in files.values()):
        return {}
    folder = Path(context.scratch, "encodings", graphs[0].name if graphs else "model")
    folder.mkdir(parents=True)
    if form == "bundle":
        assert given is not None
        _copy_bundles(given, folder)
    elif form == "model":
        _import(job, context, folder)
    else:
        root = source_root(context)
        found = {graph.path: _of_graph(graph, path, root) for graph, path in files.items()}
        _save_merged(found, folder)
    return {"encodings": folder}


def _is_aimets(path: Path) -> bool:
    """Return whether an encodings file is in AIMET's form, not in a bundle's own."""
    where = Where(path=str(path))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"an encodings file of more than {MAX_BYTES >> 20} MB", where=where)
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(
            f"the encodings file can't be read: {error.strerror}", where=where
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not an encodings file: {error}", where=where, hint=_FORMS) from error
    if not isinstance(document, dict):
        raise BadInput("not an encodings file: no JSON object", where=where, hint=_FORMS)
    return any(section in document for section in (*SECTIONS, "encodings"))


def _copy_bundles(given: Path, folder: Path) -> None:
    from modelc.ir import encodings
    from modelc.ir.packing import given_scales

    scales = given.with_name(SCALES)
    try:
        encodings.load(given)
        if scales.is_file():
            given_scales.load(scales)
            shutil.copyfile(scales, folder / SCALES)
    except Damaged as error:
        raise BadInput(error.message, where=error.where, hint=_FORMS) from error
    shutil.copyfile(given, folder / ENCODINGS)


def _import(job: DecoderJob, context: StepContext, folder: Path) -> None:
    """Take AIMET's file of a whole model, as a compile does."""
    canonical = folder.with_name(f"{folder.name}.canonical")
    canonical.mkdir()
    length = {"context_length": job.canonical_length}
    build_canonical(replace(context, out=canonical, options=length))
    options = {"kv": job.kv, "embedding": job.kinds[EMBEDDING]}
    inputs = {"canonical": canonical}
    import_encodings(replace(context, inputs=inputs, options=options, out=folder))


def _of_graph(graph: GivenGraph, path: Path, root: Path) -> dict[str, Encoding]:
    """Return the encodings of a graph's tensors by canonical name, read from AIMET's file of it:
    of the heads of a tensor, what covers all."""
    from modelc.ir.provenance import canonical_name

    where = Where(path=str(path))
    model, said = _load(graph, root), read_encodings(path).activations
    values = _floats(model)
    if absent := [str(value.name) for value in values if value.name not in said]:
        raise BadInput(
            f"there are no encodings for {len(absent)} tensors of {graph.name}, such as "
            f"{', '.join(absent[:SHOWN])}",
            where=where,
            hint="give the graph with the .encodings that were made with it",
        )
    found: dict[str, Encoding] = {}
    for value in values:
        name, canonical = str(value.name), canonical_name(value)
        encoding = to_activation(name, said[name], where)
        found[canonical] = widest([found.get(canonical, encoding), encoding], name, where)
    for node in model.graph:
        table = node.inputs[0] if node.op_type == "Gather" else None
        if table is not None and table.is_initializer():
            found[str(table.name)] = found[canonical_name(node.outputs[0])]
    return found


def _save_merged(found: Mapping[Path, Mapping[str, Encoding]], folder: Path) -> None:
    from modelc.ir import encodings

    together: dict[str, Encoding] = {}
    for path, chosen in found.items():
        for name, encoding in chosen.items():
            if together.setdefault(name, encoding) != encoding:
                raise BadInput(
                    f"the graphs' encodings of {name} differ",
                    where=Where(path=str(path)),
                    hint="graphs of one part share KV cache and weights, and so their encodings",
                )
    encodings.save(together, folder / ENCODINGS)


def _load(graph: GivenGraph, root: Path) -> ir.Model:
    from modelc.ir.serial import load_graph

    return load_graph(graph.path, root)


def _floats(model: ir.Model) -> list[ir.Value]:
    """Return every float input and output of a node."""
    import onnx_ir as ir

    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    return [value for value in values if value.dtype == ir.DataType.FLOAT]


_FORMS: Final = "give a bundle's encodings.json, or an encodings file as AIMET writes it"

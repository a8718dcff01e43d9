"""Opens a network in the provider, with what explains a failure. Worker processes only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, ModelcError, ToolFailed, Where
from modelc.ir.onnx_file import read_proto
from modelc.process import LogMark
from modelc.targets.snapdragon.compile_worker import modules_of
from modelc.targets.snapdragon.diagnose import SHOWN, explain
from modelc.targets.snapdragon.network.op_trace import trace_options
from modelc.targets.snapdragon.network.provider_log import Judgement, read_refused, read_turned
from modelc.targets.snapdragon.network.source_names import (
    SourceNames,
    dump_options,
    read_dumps,
    wiring_of,
)
from modelc.targets.snapdragon.provider import WARNINGS, open_session

ALLOW_CPU: Final = {"session.disable_cpu_ep_fallback": "0"}
RECORD_PLACES: Final = {"session.record_ep_graph_assignment_info": "1"}
"""Makes the session tell which node runs where."""

_PACKAGE: Final = "Failed to register op package to backend"
_REASONS: Final = (
    (
        "OP_PACKAGE_NOT_FOUND",
        "HTP's compiler can't load the op package",
        "it must be built for this machine (x86-64) by the QAIRT that onnxruntime-qnn carries, "
        "with all that it links to; a device's library has the target HTP",
    ),
    (
        "OP_PACKAGE_IF_PROVIDER_NOT_FOUND",
        "the op package has no such interface",
        "the third part of --op-package is the symbol that it exports, often NAMEInterfaceProvider",
    ),
    (
        "NOT_SUPPORTED",
        "HTP's compiler takes no op package of this target",
        "what is compiled or simulated here needs one of the target CPU",
    ),
    ("", "HTP's compiler refuses the op package", "it must be built by the same QAIRT"),
)


def open_network(
    job: Mapping[str, Any],
    log: Path,
    *,
    settings: Mapping[str, str],
    entries: Mapping[str, str],
    dumps: Path | None = None,
    severity: int = WARNINGS,
    inside: Path | None = None,
) -> Any:
    """Return a session of `job["model"]`, whose QNN graphs are named after `job["name"]`.

    The work folder becomes the model's: the number in a QNN graph's name is made of the path by
    which the model is opened.

    Args:
        log: what this process writes goes there.
        settings: the provider's options, in addition to the job's.
        dumps: where the provider dumps its graphs, by which an error names the model's nodes.
        inside: the work folder instead, for what a tool leaves there.

    Raises:
        ModelcError: why it can't be opened.
    """
    model, mark = Path(job["model"]), LogMark(log.resolve())
    os.environ.update(job["environment"])
    os.chdir(inside or model.parent)
    try:
        return open_session(
            model if inside else Path(model.name),
            registration=job["name"],
            options={**job["settings"], **settings},
            entries=entries,
            severity=severity,
        )
    except Exception as error:  # the provider raises many types; all mean the same
        raise _explain(mark.text(), error, model, job["name"], dumps) from error


def open_whole(
    job: Mapping[str, Any],
    log: Path,
    folder: Path,
    settings: Mapping[str, str],
    *,
    inside: Path | None = None,
) -> Any:
    """Return a session that writes a network down as a whole; trace and dumps go into `folder`.

    Only conversions at the edge may stay on the CPU, if the job wants them there; that is for the
    caller to check.

    Raises:
        ModelcError: why it can't be opened.
    """
    at_edge = job["settings"]["offload_graph_io_quantization"] == "1"
    return open_network(
        job,
        log,
        settings={**settings, **trace_options(folder), **dump_options(folder)},
        entries={**RECORD_PLACES, **(ALLOW_CPU if at_edge else {})},
        dumps=folder,
        inside=inside,
    )


def _explain(log: str, error: Exception, model: Path, name: str, dumps: Path | None) -> ModelcError:
    """Return the error behind a session that could not be made."""
    if _PACKAGE in log:
        line = next(line for line in log.splitlines() if _PACKAGE in line)
        message, hint = next((m, h) for symptom, m, h in _REASONS if symptom in line)
        return BadInput(message, where=Where(graph=name), hint=hint)
    if refused := read_refused(log):
        return _refusal(refused, model, name, dumps)
    if turned := read_turned(str(error)):
        return _turned(turned, model, name, dumps)
    return explain(log, error, graph=name, modules=modules_of(model))


def _turned(turned: tuple[str, str], model: Path, name: str, dumps: Path | None) -> ToolFailed:
    node, op_type = turned
    modules = modules_of(model)
    places = [modules.get(source) or source for source in _names(model, dumps).of(node) or (node,)]
    return ToolFailed(
        f"HTP refuses {places[0]}: {op_type}, and it can't be left to the CPU, because ONNX "
        "Runtime has it channels-last by then",
        where=Where(graph=name, module=places[0]),
        hint="`modelc inspect --target` says what to do about it; a float network needs a chipset "
        "with fp16 or a quantised scheme",
    )


def _names(model: Path, dumps: Path | None) -> SourceNames:
    return SourceNames(wiring_of(read_proto(model).graph.node), read_dumps(dumps) if dumps else ())


def _refusal(
    refused: Mapping[str, Judgement], model: Path, name: str, dumps: Path | None
) -> ToolFailed:
    names, modules = _names(model, dumps), modules_of(model)
    told: dict[str, str] = {}
    for node, judgement in refused.items():
        for source in names.of(node) or (node,):
            why = f" ({judgement.reason})" if judgement.reason else ""
            told[modules.get(source) or source] = f"{judgement.op_type}{why}"
    shown = [f"{place}: {what}" for place, what in sorted(told.items())]
    more = f"; and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ToolFailed(
        f"HTP does not take {'; '.join(shown[:SHOWN])}{more}",
        where=Where(graph=name, module=min(told)),
        hint="`modelc inspect --target` says of each operator what to do; float operators need a "
        "chipset with fp16 or a quantised scheme; --allow-cpu-fallback leaves these to the CPU",
    )

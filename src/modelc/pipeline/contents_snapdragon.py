"""What a Snapdragon bundle holds, by the formats that were asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from modelc.bundle.manifest import Graph, Tensor
from modelc.bundle.write import FromFile
from modelc.pipeline.decoder_job import decoder_job
from modelc.pipeline.family import Contents
from modelc.pipeline.job import Job
from modelc.pipeline.plan_codes import codes_step
from modelc.pipeline.plan_sdk import SCRIPT_STEP, sdk_release, uses_sdk
from modelc.pipeline.recipe import Format
from modelc.pipeline.steps_binaries import INFO, PROOF
from modelc.pipeline.store import Entry
from modelc.targets.snapdragon.graph_names import parse

TWINS: Final = "twins"
DLC: Final = "dlc"


def ships(job: Job) -> tuple[str, ...]:
    """Return the steps whose files go into the bundle."""
    plan = decoder_job(job)
    stages = {stage for name in job.recipe.format for stage in _STAGES[name]}
    if uses_sdk(job) and plan.quantised and "convert" in stages:
        stages = stages - {"convert"} | {"quantize"}  # there it comes after
    steps = [f"{stage}.{place}" for stage in sorted(stages) for place in plan.layout.places]
    if job.recipe.keep_twins:
        steps += [f"twin.{name}" for place in plan.layout.places for name in plan.graphs(place)]
    if uses_sdk(job):
        steps.append(SCRIPT_STEP)
    steps += [step.name for step in codes_step(job, plan)]
    return ("describe_binaries", "attention", *(("encodings",) if plan.quantised else ()), *steps)


def contents(job: Job, entries: Mapping[str, Entry]) -> Contents:
    """Return the bundle's own files, and the graphs of its binaries."""
    files: dict[str, FromFile] = {}
    infos = json.loads((entries["describe_binaries"].path / INFO).read_text())
    for name, entry in entries.items():
        if name in ships(job):
            folder = _FOLDERS.get(name.partition(".")[0], "")
            files |= _files(entry, folder)
    graphs = tuple(
        Graph(
            graph["name"],
            binary if binary in files else f"{DLC}/{parse(graph['name']).name}.dlc",
            _tensors(graph["inputs"]),
            _tensors(graph["outputs"]),
        )
        for binary, info in infos.items()
        for graph in info["graphs"]
    )
    layout = decoder_job(job).layout
    settings = {
        "parts": {place: str(part) for place, part in layout.numbered()},
        "binaries": {
            name: told for name, told in _read_back(infos, entries).items() if name in files
        },
        **({"toolchain": sdk_release()} if uses_sdk(job) else {}),
    }
    # As it came out on this machine, so that the bundle's recipe makes the same again.
    resolved = {"splits": len(layout.parts), "context_length": layout.context_lengths}
    return Contents(files, graphs, settings, resolved)


def _read_back(infos: Mapping[str, Any], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Return what every binary says of itself, and the settings that go with it."""
    settings = {
        f"{path.stem}.bin": json.loads(path.read_text())
        for name, entry in entries.items()
        if name.startswith("generate_context_binary.")
        for path in entry.path.glob("*.json")
        if path.name not in _ONE_PART
    }
    return {
        name: {
            "soc_model": info["soc_model"],
            "htp_arch": info["htp_arch"],
            "build": info["build"],
            "optimization": settings[name]["graphs"][0]["O"],
            "io_memory": settings[name]["memory"]["mem_type"],
            "graphs": {
                graph["name"]: {
                    "vtcm_mb": graph["vtcm_mb"],
                    "spill_fill_bytes": graph["spill_fill_bytes"],
                }
                for graph in info["graphs"]
            },
        }
        for name, info in infos.items()
    }


_STAGES: Final[Mapping[Format, tuple[str, ...]]] = {
    "genie": ("generate_context_binary",),
    "ort": ("generate_context_binary",),
    "dlc": ("convert",),
    "aimet": ("export_encodings",),
}
_FOLDERS: Final = {
    "export_encodings": "encodings/",
    "twin": f"{TWINS}/",
    "convert": f"{DLC}/",
    "quantize": f"{DLC}/",
    SCRIPT_STEP: "sdk/",
}
# What describe_binaries joins of all parts, or leaves out.
_ONE_PART: Final = (INFO, PROOF)


def _files(entry: Entry, folder: str) -> dict[str, FromFile]:
    step = entry.record.fingerprint.step.partition(".")[0]
    chosen: dict[str, FromFile] = {}
    for name, digest in entry.record.files.items():
        if step == "generate_context_binary" and (name in _ONE_PART or name.endswith(".onnx")):
            continue
        chosen[f"{folder}{name}"] = FromFile(entry.path / name, digest)
    return chosen


def _tensors(rows: list[dict[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(Tensor(row["name"], row["dtype"], tuple(row["shape"])) for row in rows)

"""From a network's results to its bundle.

network.onnx             the CPU's graph, or
tail.onnx                what the CPU runs behind a binary, if sizes depend on data, and
CHIPSET/network.bin      its context binary, network.onnx, which loads it, and
                         network.operators.json, which says whose operators are in it
CHIPSET/network.dlc      the same graph as a DLC
CHIPSET/saver_output.c   and as C++ source, with params.bin
samples.npz              what it was verified on (samples.json: whether that is made up), and
                         expected.npz, what the float model gives
lib/TARGET/libnetwork.so a model library, made with a QAIRT SDK
encodings.json           how tensors are encoded, calibration.csv what was seen of them
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from modelc.bundle.manifest import Graph, Manifest, Source, Tensor
from modelc.bundle.write import Draft, FromFile
from modelc.files import FileDigest
from modelc.pipeline.events import StepResult
from modelc.pipeline.network.edge_codes import read_codes
from modelc.pipeline.network.job import CALIBRATION_FEEDS, PREPROCESS, VERIFY_FEEDS, NetworkJob
from modelc.pipeline.network.partition import whole_partition
from modelc.pipeline.network.plan import packages
from modelc.pipeline.network.report import render_network_report
from modelc.pipeline.network.steps import EXPECTED, FACTS, GRAPH, SAMPLES, TOLD
from modelc.pipeline.network.steps_htp import COSTS, INFO, NAME, OPERATORS, PARTITION, TAIL
from modelc.pipeline.network.steps_quantise import ENCODINGS, PRECISIONS, TABLE
from modelc.pipeline.network.steps_verify import VERIFICATION
from modelc.pipeline.recipe_use import NETWORK
from modelc.pipeline.sources import Sources
from modelc.pipeline.step import SOURCE
from modelc.pipeline.store import Entry

REPORT: Final = "report.md"
RECIPE: Final = "recipe.toml"
# Step -> the files of its result that are shipped; None for all.
_SHIPPED: Final[Mapping[str, tuple[str, ...] | None]] = {
    "binary": (f"{NAME}.bin", f"{NAME}.onnx", f"{NAME}.operators.json", OPERATORS),
    "dlc": (f"{NAME}.dlc",),
    "cpp": None,
}
_BINARIES: Final = "binary."


def draft_network(
    job: NetworkJob, results: Sequence[StepResult], sources: Sources, told: Mapping[str, Any]
) -> Draft:
    """Return the bundle that a job's results make; arguments are as for `plans.draft_bundle`."""
    entries = {result.name: result.entry for result in results if result.entry}
    verification = json.loads((entries["verify"].path / VERIFICATION).read_text())
    facts = json.loads((entries["canonical"].path / FACTS).read_text())
    files = _files(job, entries)
    recipe, given = _with_given(job, sources)
    tools: dict[str, str] = {}
    for result in results:
        tools |= result.fingerprint.tools
    name = job.source.resolve().name if job.kind == "onnx" else Path(str(job.source)).name
    settings = {
        **facts,
        **_chipsets(job, entries, facts),
        "cpu": GRAPH if job.target.chipset is None else "",
        "wrappers": {
            target.name: f"{target.name}/{NAME}.onnx"
            for target in job.targets
            if f"{target.name}/{NAME}.onnx" in files
        },
        "op_packages": [
            {**row, "library": str(package.library)}
            for row, package in zip(packages(job), job.op_packages, strict=True)
        ],
        **told,
    }
    if job.recipe.network.boundary == "codes":
        settings["codes"] = read_codes(entries["quantize"].path)
    if "tail" in facts:  # the CPU's graph holds it
        settings["tail"] = {"file": TAIL if TAIL in files else "", **facts["tail"]}
    manifest = Manifest(
        target=job.recipe.target,
        runtime=NETWORK,
        source=Source(name, sources.digests(SOURCE)),
        recipe=recipe.model_dump(mode="json"),
        tools=dict(sorted(tools.items())),
        metrics=verification["metrics"],
        graphs=_graphs(facts, settings, files),
        settings=settings,
    )
    everything: dict[str, FromFile | bytes] = {
        **files,
        **given,
        VERIFICATION: _stored(entries["verify"], VERIFICATION),
        SAMPLES: _stored(entries["reference"], SAMPLES),
        EXPECTED: _stored(entries["reference"], EXPECTED),
        TOLD: _stored(entries["reference"], TOLD),
        RECIPE: recipe.to_toml(NETWORK).encode(),
    }
    report = render_network_report(manifest, verification, entries)
    return Draft(manifest, {**everything, REPORT: report})


def _files(job: NetworkJob, entries: Mapping[str, Entry]) -> dict[str, FromFile | bytes]:
    files: dict[str, FromFile | bytes] = {}
    for step, entry in entries.items():
        kind, _, chipset = step.partition(".")
        if chipset and kind in _SHIPPED:
            names = _SHIPPED[kind] or tuple(entry.record.files)
            if kind == "binary" and "context-binary" not in job.formats:
                names = (OPERATORS,)
            for name in names:
                files[f"{chipset}/{name}"] = _stored(entry, name)
    binary = next((entry for step, entry in entries.items() if step.startswith(_BINARIES)), None)
    if binary is not None:  # the same graph for all chipsets
        files[COSTS] = _stored(binary, COSTS)
    if "library" in entries:
        files |= {
            name: _stored(entries["library"], name) for name in entries["library"].record.files
        }
    if "quantize" in entries:
        for name in (ENCODINGS, TABLE, PRECISIONS):
            files[name] = _stored(entries["quantize"], name)
    for name in entries["lower"].record.files:
        if name.startswith(GRAPH if job.target.chipset is None else TAIL):
            files[name] = _stored(entries["lower"], name)
    if TAIL in files and job.recipe.network.boundary == "codes":
        coded = entries["quantize"]  # has a tail of its own, which takes codes
        files |= {n: _stored(coded, n) for n in coded.record.files if n.startswith(TAIL)}
    return files


def _chipsets(
    job: NetworkJob, entries: Mapping[str, Entry], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what every binary says of itself, and what runs where, the tail being the CPU's."""
    told = {}
    for target in job.targets:
        entry = entries.get(f"binary.{target.name}")
        if entry is not None:
            info = json.loads((entry.path / INFO).read_text())
            partition = json.loads((entry.path / PARTITION).read_text())
            told[target.name] = {
                "soc_model": info["soc_model"],
                "htp_arch": info["htp_arch"],
                "build": info["build"],
                "graphs": {
                    graph["name"]: {
                        "vtcm_mb": graph["vtcm_mb"],
                        "spill_fill_bytes": graph["spill_fill_bytes"],
                    }
                    for graph in info["graphs"]
                },
                "partition": whole_partition(partition, facts),
            }
    return {"chipsets": told}


def _graphs(
    facts: Mapping[str, Any], settings: Mapping[str, Any], files: Mapping[str, Any]
) -> tuple[Graph, ...]:
    tail, codes = settings["tail"] if TAIL in files else None, settings.get("codes", {})
    ports = _tensors(facts["head"] if tail else facts, codes)
    places = [settings["cpu"]] if settings["cpu"] else list(settings["wrappers"].values())
    places += [name for name in files if name.endswith((".dlc", "saver_output.c"))]
    graphs = [Graph(NAME, place, *ports) for place in places]
    return (*graphs, *([Graph("tail", TAIL, *_tensors(tail, codes))] if tail else []))


def _tensors(
    facts: Mapping[str, Any], codes: Mapping[str, Any]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the inputs and the outputs.

    Args:
        codes: name -> encoding of those that are codes.
    """
    inputs, outputs = (
        tuple(
            Tensor(row["name"], codes.get(row["name"], row)["dtype"], tuple(row["shape"]))
            for row in facts[side]
        )
        for side in ("inputs", "outputs")
    )
    return inputs, outputs


def _with_given(job: NetworkJob, sources: Sources) -> tuple[Any, dict[str, FromFile | bytes]]:
    """Return the recipe without paths of this machine. Feeds stay where they are, for they may be
    large: the recipe names them by their own names."""
    recipe, changes = job.recipe, dict[str, Any]()
    files: dict[str, FromFile | bytes] = {}
    if CALIBRATION_FEEDS in job.sources:
        data = Path(job.sources[CALIBRATION_FEEDS].name)
        changes["calibration"] = recipe.calibration.model_copy(update={"data": data})
    if VERIFY_FEEDS in job.sources:
        data = Path(job.sources[VERIFY_FEEDS].name)
        changes["verify"] = recipe.verify.model_copy(update={"data": data})
    network: dict[str, Any] = {}
    if PREPROCESS in job.sources:
        path = job.sources[PREPROCESS]
        digest = FileDigest(path.stat().st_size, sources.digests(PREPROCESS)[""])
        files[f"given/{path.name}"] = FromFile(path, digest)
        network["preprocess"] = Path(f"given/{path.name}")
    if job.op_packages:
        network["op_packages"] = tuple(
            f"{row.op}:{row.library.name}:{row.interface}:{row.target}" for row in job.op_packages
        )
    changes["network"] = recipe.network.model_copy(update=network)
    return recipe.model_copy(update=changes), files


def _stored(entry: Entry, name: str) -> FromFile:
    return FromFile(entry.path / name, entry.record.files[name])

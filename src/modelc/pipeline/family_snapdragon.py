"""Snapdragon: static AR-n graphs, quantised, compiled into one context binary for Genie.

check     calibrate ──> encodings ──> lower.ar128, lower.ar1 ──> context_binary (to ship)
                                            └──────────────────> twin.ar128, twin.ar1 (simulator)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from modelc.bundle.manifest import Graph, Manifest, Tensor
from modelc.bundle.tokenizer import TOKENIZER
from modelc.bundle.write import FromFile
from modelc.errors import BadInput, Missing, Where
from modelc.pipeline.family import Contents, Family
from modelc.pipeline.job import CALIBRATION_TEXT, Job
from modelc.pipeline.step import SOURCE, Step
from modelc.pipeline.steps import CONFIG
from modelc.pipeline.steps_snapdragon import ENCODINGS, INFO
from modelc.pipeline.store import Entry, Store

TWINS: Final = "twins"
TOOLS: Final = ("onnxruntime", "onnxruntime-qnn")

_STEPS = "modelc.pipeline.steps_snapdragon"


def _steps(job: Job) -> tuple[Step, ...]:
    from modelc.targets.snapdragon.library import library_path

    library_path("QnnHtp")  # says at once, and with a hint, if the compiler is not here
    if job.recipe.splits not in ("auto", 1):
        raise BadInput(
            f"a decoder can't be cut into {job.recipe.splits} parts yet",
            hint="leave --splits out: it is compiled in one part",
        )
    quantised = _is_quantised(job)
    assert job.target.chipset is not None
    # By the chipset's own name: results are shared by all its aliases.
    chip = {"chipset": job.target.chipset.name, "fp16": not quantised}
    lowered = {ar: f"lower.ar{ar}" for ar in job.recipe.ar}
    binary_inputs = ("import", "canonical", *lowered.values())
    calibrate = Step(
        "calibrate",
        f"{_STEPS}:calibrate",
        options=job.recipe.calibration.model_dump(mode="json", exclude={"text"}),
        inputs=("import", "canonical"),
        reads=(SOURCE, CALIBRATION_TEXT),
        tools=("onnxruntime",),
    )
    encode = Step(
        "encodings",
        f"{_STEPS}:encode",
        options={"scheme": job.scheme.name},
        inputs=("calibrate",),
    )
    return (
        *((calibrate, encode) if quantised else ()),
        *(
            Step(
                name,
                f"{_STEPS}:lower",
                options={"ar": ar},
                inputs=("canonical", *(("encodings",) if quantised else ())),
                reads=(SOURCE,),
                tools=("onnx", "onnx-ir"),
            )
            for ar, name in lowered.items()
        ),
        *(
            Step(
                f"twin.ar{ar}",
                f"{_STEPS}:compile_twin",
                options={**chip, "ar": ar},
                inputs=("canonical", name),
                tools=TOOLS,
            )
            for ar, name in lowered.items()
        ),
        Step(
            "context_binary",
            f"{_STEPS}:compile_binary",
            options={**chip, "ar": list(job.recipe.ar)},
            inputs=binary_inputs,
            tools=TOOLS,
        ),
    )


def _checks(job: Job) -> tuple[Step, ...]:
    # No step reads its result, so that another --ar keeps what it can; it only comes first.
    options = {"ar": list(job.recipe.ar), "fp16": not _is_quantised(job)}
    return (Step("check", f"{_STEPS}:check", options=options, inputs=("import", "canonical")),)


def _contents(job: Job, entries: Mapping[str, Entry]) -> Contents:
    entry = entries["context_binary"]
    infos = json.loads((entry.path / INFO).read_text())
    files = {
        name: FromFile(entry.path / name, digest) for name, digest in entry.record.files.items()
    }
    if "encodings" in entries:
        encodings = entries["encodings"]
        files[ENCODINGS] = FromFile(encodings.path / ENCODINGS, encodings.record.files[ENCODINGS])
    if job.recipe.keep_twins:
        for ar in job.recipe.ar:
            twin = entries[f"twin.ar{ar}"]
            files |= {f"{TWINS}/{name}": FromFile(twin.path / name) for name in twin.record.files}
    graphs = tuple(
        Graph(graph["name"], name, _tensors(graph["inputs"]), _tensors(graph["outputs"]))
        for name, info in infos.items()
        for graph in info["graphs"]
    )
    return files, graphs


def _tensors(rows: list[dict[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(Tensor(row["name"], row["dtype"], tuple(row["shape"])) for row in rows)


def _is_quantised(job: Job) -> bool:
    return job.scheme.activations != "float"


def _ships(job: Job) -> tuple[str, ...]:
    return ("context_binary", *(("encodings",) if _is_quantised(job) else ()))


def _twin_steps(job: Job) -> tuple[str, ...]:
    return tuple(f"twin.ar{ar}" for ar in job.recipe.ar)


def _settings(job: Job) -> dict[str, Any]:
    assert job.target.chipset is not None
    return {"chipset": job.target.chipset.name}


def _files_of_steps(folders: Mapping[str, Path]) -> dict[str, Path]:
    twins = {name: path for name, path in folders.items() if name.startswith("twin.")}
    return {
        "config": folders["import"] / CONFIG,
        "tokenizer": folders["import"] / TOKENIZER,
        "info": folders["context_binary"] / INFO,
        **twins,
    }


def _files_of_bundle(
    folder: Path, manifest: Manifest, open_store: Callable[[], Store]
) -> dict[str, Path]:
    files = {
        "config": folder / CONFIG,
        "tokenizer": folder / TOKENIZER,
        "info": folder / INFO,
    }
    if (folder / TWINS).is_dir():
        return {**files, TWINS: folder / TWINS}
    store = open_store()
    for name, key in manifest.settings["results"].items():
        if name.startswith("twin."):
            entry = store.find(key, contents=True)
            if entry is None:
                raise Missing(
                    "the simulator's binaries are neither in the bundle nor in the store",
                    where=Where(path=str(folder)),
                    hint="compile again with --keep-twins, or run the bundle on a device",
                )
            files[name] = entry.path
    return files


SNAPDRAGON: Final = Family(
    checks=_checks,
    steps=_steps,
    runs_on=lambda job: ("context_binary", *_twin_steps(job)),
    ships=_ships,
    tools=TOOLS,
    verify_tokens=256,
    contents=_contents,
    settings=_settings,
    files_of_steps=_files_of_steps,
    files_of_bundle=_files_of_bundle,
)

"""The steps that compile a network.

export (PyTorch) ─ canonical ─┬─ reference ──────────────────────────────────────────────┐
                              └─ lower ─┬─ calibrate ─ quantize ─┬─ binary.CHIPSET ──────┴─ verify
                                        └────────────────────────┴─ dlc.CHIPSET, cpp.CHIPSET
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any, Final

from modelc.frontends.torch.spec import function_name
from modelc.pipeline.network.job import (
    CALIBRATION_FEEDS,
    PREPROCESS,
    RANDOM,
    VERIFY_FEEDS,
    NetworkJob,
)
from modelc.pipeline.plan import Plan
from modelc.pipeline.step import SOURCE, Step
from modelc.quant.feeds import is_function
from modelc.targets.find import Target
from modelc.targets.snapdragon.sdk.find import find_sdk

MACS: Final = {"snapdragon": 2_000_000_000, "cpu": 1 << 50}
"""Multiply-adds that verifying may take: the simulator does about 50 million a second."""
SAMPLES: Final = 16
SIGNED_PRODUCTS: Final = 73
"""The first HTP that is given products of int16; v68 refuses them."""
LIBRARY_TARGETS: Final = ("aarch64-android", "x86_64-linux-clang")

_STEPS: Final = "modelc.pipeline.network.steps"
_HTP: Final = "modelc.pipeline.network.steps_htp"
_QUANTISE: Final = "modelc.pipeline.network.steps_quantise"
_ONNX: Final = ("onnx", "onnx-ir", "onnxscript")
_QNN: Final = ("onnxruntime", "onnxruntime-qnn")
FORMAT_STEPS: Final = {"dlc": "convert_dlc", "cpp": "write_cpp"}


def network_plan(job: NetworkJob) -> Plan:
    """Return the steps that compile a network; the binary is made whatever the formats, for it is
    what can be run and so verified.

    Raises:
        Missing: a model library is asked for, and there is no SDK.
    """
    shipped = ["canonical", "reference", "lower"]
    if job.target.chipset is None:
        lower = _lower(("network",), "join")
    elif job.recipe.network.allow_cpu_fallback:
        lower = _lower(("network", "htp-network-fallback"), "keep")
    else:
        lower = _lower(("network", "htp-network"), "refuse")
    # What is refused is told before anything is run.
    steps = [*_front(job), lower]
    if job.target.chipset is not None and job.scheme.is_quantised:
        steps += _quantising(job)
        shipped.append("quantize")
    steps.append(_reference(job))  # here, so that it runs while HTP's compiler does
    if job.target.chipset is not None:
        if "model-library" in job.formats:
            steps.append(_library(job))
            shipped.append("library")
        for target in job.targets:
            made = _for_chipset(job, target.name)
            steps += made
            shipped += [step.name for step in made]
    steps.append(
        Step(
            "verify",
            "modelc.pipeline.network.steps_verify:verify_network",
            options={
                "target": job.recipe.target,
                "min_sqnr_db": job.scheme.min_sqnr_db,
                "min_cosine": job.scheme.min_cosine,
                "min_top1": job.recipe.verify.min_top1,
                "min_agreement": job.recipe.verify.min_agreement,
                "packages": packages(job),
            },
            inputs=("canonical", "reference", "lower", *_codes(job), *_binaries(steps)),
            reads=_libraries(job),
            tools=_QNN if job.target.chipset else ("onnxruntime",),
        )
    )
    return Plan(job.recipe.target, tuple(steps), tuple(dict.fromkeys([*shipped, "verify"])))


def probing_plan(job: NetworkJob) -> Plan:
    """Return the steps that ask the first chipset about its operators (`probe.CHIPSET`), without
    compiling for it."""
    binary = f"binary.{job.target.name}"
    needed = leading_to(network_plan(job), binary)
    probe = replace(needed[-1], name=f"probe.{job.target.name}", run=f"{_HTP}:probe_network")
    return Plan(job.target.name, (*needed[:-1], probe), ("canonical", "lower", probe.name))


def leading_to(plan: Plan, name: str) -> tuple[Step, ...]:
    """Return a step of a plan and all that it needs."""
    steps = {step.name: step for step in plan.steps}
    needed, waiting = set[str](), [name]
    while waiting:
        step = waiting.pop()
        if step not in needed:
            needed.add(step)
            waiting += steps[step].inputs
    return tuple(step for step in plan.steps if step.name in needed)


def _arch(target: Target) -> int:
    return int(target.chipset.htp_arch.removeprefix("v")) if target.chipset else 0


def packages(job: NetworkJob) -> list[dict[str, str]]:
    """Return the op packages as plain values, without their paths."""
    return [
        {"op": row.op, "interface": row.interface, "target": row.target} for row in job.op_packages
    ]


def _front(job: NetworkJob) -> list[Step]:
    # Of FILE.py:FUNCTION the file is known by its contents, the function by its name.
    dims = {"dims": dict(job.recipe.network.dims)}
    if job.kind == "onnx":
        run = f"{_STEPS}:read_canonical"
        return [Step("canonical", run, options=dims, reads=(SOURCE,), tools=_ONNX)]
    return [
        Step(
            "export",
            f"{_STEPS}:export_network",
            options={**dims, "function": function_name(str(job.source))},
            reads=(SOURCE,),
            tools=(*_ONNX, "torch", *(["transformers"] if job.source.is_dir() else [])),
            waits=True,
        ),
        Step("canonical", f"{_STEPS}:read_canonical", inputs=("export",), tools=_ONNX),
    ]


def _reference(job: NetworkJob) -> Step:
    has_data = any(name in job.sources for name in (CALIBRATION_FEEDS, VERIFY_FEEDS))
    random = job.recipe.network.random_feeds or RANDOM
    return Step(
        "reference",
        f"{_STEPS}:run_reference",
        options={
            "samples": job.recipe.verify.samples or SAMPLES,
            "random": None if has_data else random,
            "functions": _functions(job, VERIFY_FEEDS, CALIBRATION_FEEDS),
            "macs": (1 << 60) if job.recipe.verify.samples else MACS[job.target.family],
        },
        inputs=("canonical",),
        reads=_read(job, VERIFY_FEEDS, CALIBRATION_FEEDS),
        tools=("onnxruntime",),
    )


def _binaries(steps: Iterable[Step]) -> list[str]:
    return [step.name for step in steps if step.name.startswith("binary.")]


def _codes(job: NetworkJob) -> list[str]:
    """Return the step that says how inputs and outputs are encoded, if they are codes."""
    return ["quantize"] if job.recipe.network.boundary == "codes" else []


def _lower(rows: tuple[str, ...], tail: str) -> Step:
    return Step(
        "lower",
        f"{_HTP}:lower_network",
        options={"pipelines": list(rows), "tail": tail},
        inputs=("canonical",),
        tools=_ONNX,
    )


def _quantising(job: NetworkJob) -> list[Step]:
    recipe, asked = job.recipe, job.recipe.network
    feeds = {
        "samples": recipe.calibration.samples,
        "random": asked.random_feeds,
        "equalise": asked.equalise,
        "functions": _functions(job, CALIBRATION_FEEDS),
    }
    reads = _read(job, CALIBRATION_FEEDS)
    looks = asked.bias_correction or asked.rounding not in (None, "nearest")
    return [
        Step(
            "calibrate",
            f"{_QUANTISE}:calibrate_network",
            options=feeds,
            inputs=("lower",),
            reads=reads,
            tools=("onnxruntime",),
        ),
        Step(
            "quantize",
            f"{_QUANTISE}:quantise_network",
            options={
                **feeds,
                "precision": {
                    **asdict(job.scheme.precision),
                    "signed_products": all(
                        _arch(target) >= SIGNED_PRODUCTS for target in job.targets
                    ),
                },
                "sensitive_db": job.scheme.sensitive_db,
                "overrides": dict(recipe.overrides),
                "observer": recipe.calibration.observer,
                "percentile": recipe.calibration.percentile,
                "rounding": asked.rounding or "nearest",
                "bias_correction": asked.bias_correction,
                "boundary": asked.boundary,
                "library": "model-library" in job.formats,
                "fp16": all(t.chipset is not None and t.chipset.fp16 for t in job.targets),
            },
            inputs=("lower", "calibrate"),
            reads=reads if looks else (),
            tools=(*_ONNX, *(["onnxruntime"] if looks else [])),
        ),
    ]


def _for_chipset(job: NetworkJob, name: str) -> list[Step]:
    asked = job.recipe.network
    options: dict[str, Any] = {
        "chipset": name,
        # Nodes that an override leaves as they are run as halves, between quantised ones.
        "fp16": not job.scheme.is_quantised or "float" in job.recipe.overrides.values(),
        "boundary": asked.boundary,
        "packages": packages(job),
        "fallback": asked.allow_cpu_fallback,
    }
    graph = "quantize" if job.scheme.is_quantised else "lower"
    runs = {"binary": "compile_binary"}
    runs |= {kind: run for kind, run in FORMAT_STEPS.items() if kind in job.formats}
    return [
        Step(
            f"{kind}.{name}",
            f"{_HTP}:{run}",
            options=options,
            inputs=(graph,),
            reads=_libraries(job),
            tools=_QNN,
            waits=True,
        )
        for kind, run in runs.items()
    ]


def _library(job: NetworkJob) -> Step:
    """A library is for no chipset: whatever loads it compiles it on the device."""
    return Step(
        "library",
        f"{_HTP}:build_model_library",
        options={"sdk": find_sdk(os.environ).release, "targets": list(LIBRARY_TARGETS)},
        inputs=("lower", *(["quantize"] if job.scheme.is_quantised else [])),
        waits=True,
    )


def _libraries(job: NetworkJob) -> tuple[str, ...]:
    return tuple(f"op_package_{number}" for number in range(len(job.op_packages)))


def _functions(job: NetworkJob, *names: str) -> list[str]:
    """Return the names of the functions that yield feeds; their files count by contents."""
    places = [str(job.sources[name]) for name in names if name in job.sources]
    return [place.rpartition(":")[2] for place in places if is_function(place)]


def _read(job: NetworkJob, *names: str) -> tuple[str, ...]:
    """Return those of the places that the job has, and what says how to read them."""
    found = tuple(name for name in names if name in job.sources)
    return (*found, PREPROCESS) if found and PREPROCESS in job.sources else found

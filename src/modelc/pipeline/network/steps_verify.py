"""Holds what was compiled of a network against the float model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modelc.pipeline.network.runtime import CpuNetwork, NetworkRuntime, SimulatedNetwork
from modelc.pipeline.network.steps import EXPECTED, GRAPH, SAMPLES, TOLD
from modelc.pipeline.network.steps_htp import NAME
from modelc.pipeline.step import StepContext

VERIFICATION: Final = "verification.json"


def verify_network(context: StepContext) -> None:
    """Run every binary, or the CPU's graph, on the samples: verification.json, whatever the
    verdict.

    Options: target, min_sqnr_db, min_cosine, min_top1, packages.
    """
    from modelc.targets.snapdragon.network.op_packages import OpPackage

    packages = [
        OpPackage(row["op"], context.sources[f"op_package_{n}"], row["interface"], row["target"])
        for n, row in enumerate(context.options["packages"])
    ]
    runtimes: dict[str, NetworkRuntime] = {
        name.partition(".")[2]: SimulatedNetwork(folder / f"{NAME}.onnx", packages)
        for name, folder in context.inputs.items()
        if name.startswith("binary.")
    }
    if not runtimes:
        runtimes["cpu"] = CpuNetwork(context.inputs["lower"] / GRAPH)
    limits = {name: context.options[name] for name in ("min_sqnr_db", "min_cosine", "min_top1")}
    document = compare_all(runtimes, context.inputs["reference"], limits)
    (context.out / VERIFICATION).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def compare_all(
    runtimes: Mapping[str, NetworkRuntime], folder: Path, limits: Mapping[str, float | None]
) -> dict[str, Any]:
    """Compare every runtime with the outputs that are expected of the samples in `folder`.

    Returns:
        The JSON form of a verification, its checks those of all targets.
    """
    from modelc.ir.arrays import load_sequence
    from modelc.verify.network import (
        NetworkThresholds,
        NetworkVerification,
        compare_outputs,
        network_checks,
    )

    made_up = json.loads((folder / TOLD).read_text())["made_up"]
    samples, expected = (load_sequence(folder / name) for name in (SAMPLES, EXPECTED))
    thresholds = NetworkThresholds(**limits)  # type: ignore[arg-type]
    documents = {}
    for target, runtime in runtimes.items():
        outputs = compare_outputs(zip(expected, runtime.run(samples), strict=True))
        checks = network_checks(outputs, thresholds)
        found = NetworkVerification(target, runtime.name, outputs, checks, len(samples))
        documents[target] = {**found.document(), "made_up": made_up}
    first = next(iter(documents.values()))
    if len(documents) == 1:
        return {**first, "metrics": {"outputs": first["outputs"], "samples": first["samples"]}}
    named = [
        {**check, "name": f"{target}: {check['name']}"}
        for target, document in documents.items()
        for check in document["checks"]
    ]
    return {
        "target": ",".join(documents),
        "passed": all(document["passed"] for document in documents.values()),
        "samples": first["samples"],
        "made_up": made_up,
        "runtime": first["runtime"],
        "checks": named,
        "metrics": {
            "targets": {target: document["outputs"] for target, document in documents.items()},
            "samples": first["samples"],
        },
    }

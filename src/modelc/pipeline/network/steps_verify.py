"""Holds what was compiled of a network against the float model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modelc.pipeline.network.edge_codes import CodedEdges, read_codes
from modelc.pipeline.network.partition import left_to_cpu, whole_partition
from modelc.pipeline.network.runtime import (
    CpuNetwork,
    NetworkRuntime,
    SimulatedNetwork,
    WithTail,
    crossing,
)
from modelc.pipeline.network.steps import EXPECTED, GRAPH, SAMPLES, TOLD, read_facts
from modelc.pipeline.network.steps_htp import NAME, PARTITION, TAIL
from modelc.pipeline.step import StepContext

VERIFICATION: Final = "verification.json"
LIMITS: Final = ("min_sqnr_db", "min_cosine", "min_top1", "min_agreement")


def verify_network(context: StepContext) -> None:
    """Run every binary, or the CPU's graph, on the samples: verification.json, whatever the
    verdict.

    Options: target, min_sqnr_db, min_cosine, min_top1, min_agreement, packages.
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
    facts, lowered = read_facts(context), context.inputs["lower"]
    coded = context.inputs.get("quantize")
    if runtimes and "tail" in facts:
        tail = CpuNetwork((coded or lowered) / TAIL)
        shown = [*(row["name"] for row in facts["outputs"]), *crossing(facts)]
        runtimes = {name: WithTail(head, tail, shown) for name, head in runtimes.items()}
    if coded is not None:
        rows = read_codes(coded)
        runtimes = {name: CodedEdges(network, rows) for name, network in runtimes.items()}
    if not runtimes:
        runtimes["cpu"] = CpuNetwork(lowered / GRAPH)
    limits = {name: context.options[name] for name in LIMITS}
    partitions = {
        name.partition(".")[2]: json.loads((folder / PARTITION).read_text())
        for name, folder in context.inputs.items()
        if name.startswith("binary.")
    }
    document = {
        **compare_all(runtimes, context.inputs["reference"], limits, facts),
        "on_cpu": {
            chipset: left_to_cpu(whole_partition(partition, facts))
            for chipset, partition in partitions.items()
        },
    }
    (context.out / VERIFICATION).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def compare_all(
    runtimes: Mapping[str, NetworkRuntime],
    folder: Path,
    limits: Mapping[str, float | None],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Compare every runtime with the outputs that are expected of the samples in `folder`; of a
    network with a tail also what that reads, where the runtime gives it.

    Args:
        limits: fields of `NetworkThresholds`.
        facts: of the canonical graph.

    Returns:
        The JSON form of a verification, its checks those of all targets.
    """
    from modelc.ir.arrays import load_sequence
    from modelc.verify.network import NetworkThresholds, compare_network
    from modelc.verify.selections import open_axes

    made_up = json.loads((folder / TOLD).read_text())["made_up"]
    samples, expected = (load_sequence(folder / name) for name in (SAMPLES, EXPECTED))
    thresholds = NetworkThresholds(**limits)  # type: ignore[arg-type]
    axes = {row["name"]: open_axes(row["shape"]) for row in facts["outputs"]}
    selected = {name: found for name, found in axes.items() if found}
    documents = {}
    for target, runtime in runtimes.items():
        hidden = crossing(facts) if isinstance(runtime, CpuNetwork) else ()
        wanted = [{n: a for n, a in row.items() if n not in hidden} for row in expected]
        pairs = zip(wanted, runtime.run(samples), strict=True)
        found = compare_network(target, runtime.name, pairs, selected, thresholds)
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

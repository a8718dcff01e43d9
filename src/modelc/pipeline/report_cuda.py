"""What a report says of a bundle for CUDA: memory, launches, what is left to torch."""

from __future__ import annotations

from typing import Any

from modelc.bundle.manifest import Manifest
from modelc.bundle.markdown import table


def cuda_sections(manifest: Manifest) -> list[str]:
    """Return the sections, none for other targets."""
    told = manifest.settings.get("cuda")
    if told is None:
        return []
    kernels = ", ".join(f"{count} for {arch}" for arch, count in told["kernels"].items())
    return [
        "",
        "## Memory",
        "",
        f"Of each GPU, with {manifest.recipe['cuda']['max_batch']} sequences at their longest; "
        f"the KV cache takes {told['cache_per_token']} bytes for each position.",
        "",
        *table(("", "bytes"), [(name, told[name]) for name in _PARTS]),
        "",
        "## Launches",
        "",
        f"Kernels: {kernels}.",
        "",
        *table(
            ("function", "launches", "activations"),
            ((one["name"], one["launches"], one["arena"]) for one in told["functions"]),
        ),
        *_operators(told),
    ]


_PARTS = ("parameters", "cache", "activations", "inputs", "total")


def _operators(told: dict[str, Any]) -> list[str]:
    left = told["operators"]
    if not left:
        return ["", "Every operator has a kernel."]
    rows = ((name, len(modules), modules[0]) for name, modules in left.items())
    return ["", "Left to torch:", "", *table(("operator", "modules", "such as"), rows)]

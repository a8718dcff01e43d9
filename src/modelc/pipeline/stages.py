"""The six named steps from a model to context binaries, with the files that they take and make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelc.pipeline.decoder_job import DecoderJob
from modelc.pipeline.plan import Plan

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Stage:
    """One row of the table: what a named step does with all lengths and parts together.

    Attributes:
        per: of what it runs once.
        takes, makes: kind of file -> how many.
    """

    name: str
    does: str
    per: str
    takes: Callable[[_Sizes], Counts]
    makes: Callable[[_Sizes], Counts]


@dataclass(frozen=True)
class _Sizes:
    """What files are counted by: (AR, CL) pairs, parts, parts with attention, binaries."""

    lengths: int
    parts: int
    with_heads: int
    binaries: int
    encodings: bool

    def graphs(self, parts: int) -> Counts:
        count = self.lengths * parts
        return {"ONNX": count, **({"encodings": count} if self.encodings else {})}

    @property
    def lowered(self) -> Counts:
        return {"quantised ONNX" if self.encodings else "float ONNX": self.lengths * self.parts}


STAGES: Final[Mapping[str, Stage]] = {
    row.name: row
    for row in (
        Stage(
            "prepare_exports",
            "one static graph for each AR and context length",
            "(AR, CL)",
            lambda n: {"model": 1, **({"encodings": 1} if n.encodings else {})},
            lambda n: n.graphs(1),
        ),
        Stage(
            "split_model",
            "cut at the layers",
            "(AR, CL)",
            lambda n: n.graphs(1),
            lambda n: n.graphs(n.parts),
        ),
        Stage(
            "mha_to_sha",
            "a branch for each head, in parts that have heads",
            "(AR, CL)",
            lambda n: n.graphs(n.with_heads),
            lambda n: n.graphs(n.with_heads),
        ),
        Stage(
            "quantize",
            "encodings onto graphs, weights to integers, one file of weights for a part",
            "part",
            lambda n: n.graphs(n.parts),
            lambda n: {**n.lowered, "weights": n.parts},
        ),
        Stage(
            "convert",
            "each graph as a DLC",
            "part",
            lambda n: n.lowered,
            lambda n: {"DLC": n.lengths * n.parts},
        ),
        Stage(
            "generate_context_binary",
            "one binary for a part, weights shared by its graphs; tried in the simulator",
            "part",
            lambda n: n.lowered,
            lambda n: {"binary": n.binaries},
        ),
    )
}

ORDER: Final = (
    "quantize comes before convert, where QAIRT's own tools have it after: the compiler takes "
    "quantised graphs"
)


def describe_stages(
    job: DecoderJob, plan: Plan, stages: Mapping[str, Stage] = STAGES, order: str = ORDER
) -> dict[str, Any]:
    """Return `stages`, a row of each with how often it runs and its files, none if the plan leaves
    it out, and `order`, a word about it."""
    layout = job.layout
    lengths, parts = len(layout.lengths), len(layout.parts)
    sizes = _Sizes(
        lengths=lengths,
        parts=parts,
        with_heads=len(layout.with_heads),
        binaries=parts if job.chipset.weight_sharing else lengths * parts,
        encodings=job.quantised,
    )
    counts = dict.fromkeys(STAGES, 0)
    for step in plan.steps:
        stage = step.name.partition(".")[0]
        if stage in counts:
            counts[stage] += 1
    rows = [
        {
            "stage": stage.name,
            "does": stage.does,
            "runs": counts[stage.name],
            "per": stage.per,
            "takes": dict(stage.takes(sizes)) if counts[stage.name] else {},
            "makes": dict(stage.makes(sizes)) if counts[stage.name] else {},
        }
        for stage in stages.values()
    ]
    return {"stages": rows, "order": order}

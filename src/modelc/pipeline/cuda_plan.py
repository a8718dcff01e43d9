"""A job's launch plan for CUDA; no weight is read for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelc.decoder.config import DecoderModel
from modelc.pipeline.job import Job
from modelc.pipeline.module_kinds import cuda_kinds, most_and_others

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelc.targets.cuda.plan import LaunchPlan


def plan_options(job: Job, model: DecoderModel) -> dict[str, Any]:
    """Return what a launch plan depends on, as plain values."""
    cuda = job.recipe.cuda
    return {
        "act": job.scheme.act,
        "kv": "e4m3" if job.recipe.kv_bits == 8 else job.scheme.act,
        "kinds": most_and_others(cuda_kinds(job, model)),
        "opt": cuda.opt,
        "max_batch": cuda.max_batch,
        "prefill_chunk": cuda.prefill_chunk,
        "page": cuda.page,
        "ranks": cuda.tensor_parallel,
    }


def lower(
    graph: ir.Model,
    options: Mapping[str, Any],
    context_length: int,
    *,
    rank: int = 0,
    static: Mapping[str, float] | None = None,
    dump_dir: Path | None = None,
) -> tuple[LaunchPlan, dict[str, ir.TensorProtocol]]:
    """Run CUDA's passes on a canonical graph; return its launch plan, and the weights by name.

    Args:
        options: of `plan_options`.
        rank: of the GPU whose share it is; all have the same plan.
        static: tensor -> scale of its E4M3 codes, of schemes that calibrate them.
    """
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline
    from modelc.targets.cuda.lower import Sizes, make_plan

    opt = options["opt"]
    settings = {
        "act": options["act"],
        "kinds": options["kinds"],
        "sums": opt >= 1,
        "ranks": options["ranks"],
        "rank": rank,
        "static": static or {},
    }
    passes = build_pipeline(f"cuda-{opt}", settings)
    model, _ = run_passes(graph, passes, graph="decoder", dump_dir=dump_dir)
    sizes = Sizes(context_length, options["max_batch"], options["prefill_chunk"], options["page"])
    return make_plan(
        model, sizes, act=options["act"], kv=options["kv"], opt=opt, ranks=options["ranks"]
    )

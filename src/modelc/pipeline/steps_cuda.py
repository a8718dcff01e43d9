"""Steps of CUDA: passes, launch plan and weights; cubins for an architecture."""

from __future__ import annotations

import json
from typing import Final

from modelc.pipeline.job import TILES_FILE
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import IR, canonical_graph, read_facts

PLAN: Final = "plan.json"
KERNELS: Final = "kernels"
KERNEL_FACTS: Final = "kernels.json"
MEMORY: Final = "memory.json"
SCALES: Final = "scales.json"
REQUANTISED: Final = "requantised.json"


def lower_for_cuda(context: StepContext) -> None:
    """Run CUDA's passes: plan.json, the weights of each GPU, memory.json, ir/ with the text forms;
    requantised.json if codes of the source were not kept.

    Options: those of `plan_options`.
    """
    from modelc.pipeline.cuda_plan import lower
    from modelc.targets.cuda.estimate import memory_of
    from modelc.targets.cuda.plan import save_plan, weights_name
    from modelc.targets.cuda.requantised import requantised
    from modelc.targets.cuda.weights_file import write_weights

    length = read_facts(context)["context_length"]
    ranks = context.options["ranks"]
    scales = context.inputs.get("scales")
    static = json.loads((scales / SCALES).read_text()) if scales else None
    for rank in range(ranks):
        dump_dir = None if rank else context.out / IR
        graph = canonical_graph(context)
        plan, weights = lower(
            graph, context.options, length, rank=rank, static=static, dump_dir=dump_dir
        )
        write_weights(weights, context.out / weights_name(rank, ranks))
        context.progress((rank + 1) / ranks, "weights")
    save_plan(plan, context.out / PLAN)
    memory = memory_of(plan)
    (context.out / MEMORY).write_text(json.dumps(memory.document(), indent=1) + "\n")
    context.log(f"memory of a GPU: {memory}")
    if changed := requantised(weights):
        text = json.dumps(changed, indent=1, sort_keys=True)
        (context.out / REQUANTISED).write_text(text + "\n")
        context.log(f"codes of {len(changed)} weights are not kept: {REQUANTISED}")
    for operator, modules in plan.operators().items():
        context.log(f"left to torch: {operator} of {', '.join(modules)}")


def choose_scales(context: StepContext) -> None:
    """Choose scales of E4M3 codes by the range of each tensor: scales.json.

    Options: observer, percentile (None: the observer's own).
    """
    from modelc.ir.arrays import load_arrays
    from modelc.ir.packing.kinds import FLOAT_KINDS
    from modelc.pipeline.steps_calibrate import STATISTICS
    from modelc.quant.calibrate import choose_ranges
    from modelc.quant.observers import make_observer
    from modelc.quant.statistics import from_arrays

    options = context.options
    kept = {} if options["percentile"] is None else {"kept": options["percentile"]}
    observer = make_observer(options["observer"], **kept)
    statistics = from_arrays(load_arrays(context.inputs["calibrate"] / STATISTICS))
    ranges, highest = choose_ranges(statistics, observer), FLOAT_KINDS["e4m3"].highest
    scales = {name: one.limit / highest for name, one in ranges.items() if one.limit > 0}
    (context.out / SCALES).write_text(json.dumps(scales, indent=1, sort_keys=True) + "\n")


def compile_kernels(context: StepContext) -> None:
    """Compile a plan's kernels for one architecture: cubins, and kernels.json with what launching
    them takes.

    Options: arch; tiles, the digest of the table that modelc ships. Reads `tiles`, a table of the
    user's own, if the recipe names one.
    """
    from modelc.targets.cuda.aot import check_shared, compile_variants
    from modelc.targets.cuda.kernels_file import save_kernels
    from modelc.targets.cuda.plan import load_plan
    from modelc.targets.cuda.tile_table import table_with
    from modelc.targets.cuda.tiles import launched_tokens, tiled

    arch = int(context.options["arch"])
    plan = load_plan(context.inputs["lower"] / PLAN)
    table, tokens = table_with(context.sources.get(TILES_FILE)), launched_tokens(plan)
    variants = {
        key: tiled(variant, arch, tokens=tokens[key][1], table=table)
        for key, variant in plan.variants.items()
    }
    cubins = compile_variants(
        list(variants.values()),
        arch,
        context.out,
        workdir=context.scratch,
        progress=lambda done: context.progress(done, f"kernels for sm{arch}"),
    )
    check_shared(cubins, arch)
    save_kernels(variants, cubins, context.out / KERNEL_FACTS)

"""A job for Cloud AI 100, resolved: the compiler's options, the graph's, and the sizes of calls."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from modelc.decoder.config import DecoderConfig
from modelc.errors import BadInput, Missing
from modelc.frontends import read_model
from modelc.passes.qaic.options import QaicGraphOptions
from modelc.pipeline.job import Job
from modelc.pipeline.problems import experts_problem
from modelc.pipeline.recipe_sections import Qaic
from modelc.pipeline.steps import DEFAULT_CONTEXT
from modelc.targets.qaic.engine import CallShapes
from modelc.targets.qaic.generations import GENERATIONS, Generation, generation_of
from modelc.targets.qaic.options import QpcOptions, read_options
from modelc.targets.qaic.plan_check import check_decoder
from modelc.targets.qaic.prepared import Toolchain
from modelc.targets.qaic.qnn_io import GRAPHS
from modelc.targets.qaic.qnn_route import check_qnn_options
from modelc.targets.qaic.sdk import AppsSdk, QnnSdk, find_apps_sdk, find_qnn_sdk
from modelc.targets.qaic.source import Source
from modelc.targets.qaic.specializations import Specialization, decoder_specializations

PREFILL: Final = 128  # tokens of a call, if nothing is said and the context is no shorter
_OLD_OPSET: Final = 13  # all that the first generation's operators are known with
# Options of the compiler that name files which would not go with the bundle.
_BENCHMARKS: Final = ("load_profile", "input_list_file", "mdp_dump_partition_config")
_GRAPH_OPTIONS: Final = ("adapters", "max_top_k", "only", "prepare_only", "qnn_config",
                         "repeat_kv_heads", "sdk_version", "node_precision_info",
                         "mdp_load_partition_config", "compiler")  # fmt: skip


@dataclass(frozen=True, eq=False)
class CardJob:
    """What the steps go by.

    Attributes:
        given: options of `QpcOptions` and flags of the compiler, as they are to be given to a
            plan; without those that name files.
        entries: the specialisations.
        graph: fields of `QaicGraphOptions`, without the adapters.
        adapters: names of the LoRA adapters, the first having the number 1.
        sdk: what is installed here of the toolchain.
        lacking: why it is not, or can't be used.
    """

    config: DecoderConfig
    toolchain: Toolchain
    given: Mapping[str, Any]
    options: QpcOptions
    entries: Sequence[Specialization]
    shapes: CallShapes
    graph: Mapping[str, Any]
    adapters: tuple[str, ...]
    sdk_version: str
    sdk: AppsSdk | QnnSdk | None
    lacking: Missing | None


@lru_cache(maxsize=4)
def card_job(job: Job) -> CardJob:
    """Resolve a job; the source's configuration is read, no weight is.

    Raises:
        BadInput: options are unknown, or don't go together or with the model.
    """
    recipe, card = job.recipe, job.target.card
    assert card is not None
    config, asked = read_model(job.source).config, recipe.qaic
    if problem := experts_problem(config, "Cloud AI 100"):
        raise BadInput(problem[0], hint=problem[1])
    toolchain: Toolchain = "qnn" if recipe.toolchain == "qnn" else "apps"
    if asked.qnn_config is not None and toolchain != "qnn":
        raise BadInput("qnn_config is for the QNN tools", hint="give --toolchain qnn")
    sdk, lacking = _find(toolchain)
    generation, version = _generation(asked, toolchain, sdk)
    context = max(recipe.context_length, default=min(config.max_context, DEFAULT_CONTEXT))
    given = _options(asked, context, card.cores)
    if toolchain == "apps" and card.hw_version in generation.hw_versions:
        given.setdefault("aic_hw_version", card.hw_version)  # the first has another name for it
    options = read_options(given)
    if toolchain == "qnn":
        check_qnn_options(options)
    states = (f"past_{kind}.{n}" for n in range(config.layers) for kind in ("key", "value"))
    options = check_decoder(options, Source("", tuple(states), None), generation)
    entries = decoder_specializations(options, generation)
    if not entries:
        raise BadInput("nothing is left to compile: neither prefill nor decode")
    shapes = _shapes(entries)
    if shapes.context_length > config.max_context >= context:
        raise BadInput(
            f"compute-context-lengths make the context {shapes.context_length}, and the model's is "
            f"{config.max_context}",
            hint="leave them out, or give lengths of your own",
        )
    if toolchain == "qnn" and len(entries) > len(GRAPHS):
        raise BadInput("the QNN tools take one prefill and one decode")
    graph: dict[str, Any] = {
        "continuous_batching": options.batches_continuously,
        "num_logits_to_keep": options.num_speculative_tokens is not None,
        "comp_ctx_lengths": options.has_compute_lengths,
        "repeat_kv_heads": asked.repeat_kv_heads,
        "max_top_k": asked.max_top_k,
        **({"opset": _OLD_OPSET} if generation is GENERATIONS[0] else {}),
    }
    QaicGraphOptions(**graph)
    names = tuple(path.resolve().name for path in asked.adapters)
    return CardJob(
        config, toolchain, given, options, entries, shapes, graph, names, version, sdk,
        lacking,
    )  # fmt: skip


def is_compiled_here(job: Job) -> bool:
    """Whether the vendor's compiler is to be run."""
    return card_job(job).sdk is not None and not job.recipe.qaic.prepare_only


def _find(toolchain: Toolchain) -> tuple[AppsSdk | QnnSdk | None, Missing | None]:
    try:
        return (find_qnn_sdk if toolchain == "qnn" else find_apps_sdk)(os.environ), None
    except Missing as missing:
        return None, missing


def _generation(
    asked: Qaic, toolchain: Toolchain, sdk: AppsSdk | QnnSdk | None
) -> tuple[Generation, str]:
    """Return the generation of the Apps SDK and its version, of the QNN tools the newest."""
    if toolchain == "qnn":
        if asked.sdk_version is not None:
            raise BadInput("sdk_version is the Apps SDK's", hint="leave it out with the QNN tools")
        return GENERATIONS[-1], ""
    found = sdk.version if sdk else None
    version = asked.sdk_version or found or GENERATIONS[-1].version
    generation = generation_of(version)
    if found and not asked.prepare_only and generation_of(found) is not generation:
        raise BadInput(
            f"the Apps SDK here is {found}, not {version}",
            hint="leave --sdk-version out, or only prepare for it (--prepare-only)",
        )
    return generation, version


def _options(asked: Qaic, context: int, cores: int) -> dict[str, Any]:
    """Return what was asked for, as a plan takes it."""
    plain = type(asked)()
    given = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asked
        if name not in _GRAPH_OPTIONS and value != getattr(plain, name)
    }
    for name in (*_BENCHMARKS, *(n for n in _GRAPH_OPTIONS if n in asked.compiler)):
        if name in asked.compiler:
            raise BadInput(
                f"the compiler's flag {name} names a file that the bundle would not have"
                if name in _BENCHMARKS
                else f"{name} is an option of its own",
                hint=f"leave it out, or give it to modelc.targets.qaic.plan({name}=...)",
            )
    given.setdefault("num_cores", cores)
    if asked.num_cores is not None and asked.num_cores > cores:
        raise BadInput(f"num_cores is {asked.num_cores}, and a device has {cores}")
    if asked.only is not None:
        given["prefill_only"] = asked.only == "prefill"
    given.setdefault("prefill_seq_len", min(PREFILL, context))
    return {**given, "ctx_len": context, **asked.compiler}


def _shapes(entries: Sequence[Specialization]) -> CallShapes:
    """Return the sizes of the calls that specialisations stand for."""
    prefills, decodes = (
        [entry.symbols for entry in entries if entry.name.startswith(name)]
        for name in ("Prefill", "Decode")
    )
    if not decodes and prefills[0]["seq_len"] == 1:  # one entry for both
        prefills, decodes = [], prefills
    first = (decodes or prefills)[0]
    batched = "full_batch_size" in first
    half: Literal["both", "prefill", "decode"] = "both"
    if not (prefills and decodes):
        half = "prefill" if prefills else "decode"
    # Of decodes for several numbers of speculated tokens the shortest pads least.
    width = min((row["seq_len"] for row in decodes), default=1)
    return CallShapes(
        context_length=first["ctx_len"],
        prefill_seq_len=prefills[0]["seq_len"] if prefills else width,
        sequences=first["full_batch_size" if batched else "batch_size"],
        continuous_batching=batched,
        decode_sequences=decodes[0]["batch_size"] if decodes and batched else 0,
        half=half,
        decode_seq_len=width,
        prefill_lengths=_lengths(prefills),
        decode_lengths=_lengths(decodes),
    )


def _lengths(rows: Sequence[Mapping[str, int]]) -> tuple[int, ...]:
    return tuple(sorted({row["comp_ctx_lengths"] for row in rows if "comp_ctx_lengths" in row}))


def given_paths(job: Job) -> dict[str, Path]:
    """Return the files that options name, by option."""
    asked = job.recipe.qaic
    named = {
        "node_precision_info": asked.node_precision_info,
        "mdp_load_partition_config": asked.mdp_load_partition_config,
    }
    return {name: path for name, path in named.items() if path is not None}

"""What options must be to go together, with the graph and with the SDK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from modelc.errors import BadInput
from modelc.targets.qaic.generations import Generation
from modelc.targets.qaic.options import QpcOptions
from modelc.targets.qaic.source import Source

_FOR_EMBEDDINGS: Final = frozenset(
    {"num_cores", "num_devices", "mxfp6_matmul", "batch_size", "seq_len", "node_precision_info",
     "aic_hw_version", "use_onnx_subfunctions", "mdp_load_partition_config"}
)  # fmt: skip
_FOR_DECODERS: Final = frozenset(QpcOptions.__dataclass_fields__) - {"passed", "seq_len"}


def check_embedding(options: QpcOptions, given: Mapping[str, Any]) -> None:
    """Check options for a graph without states.

    Raises:
        BadInput: one is for decoders only.
    """
    for name in given:
        if name in _FOR_DECODERS - _FOR_EMBEDDINGS and given[name] is not None:
            raise BadInput(
                f"{name} is for decoders, and the graph has no states",
                hint="an embedding model takes seq_len and batch_size",
            )


def check_decoder(options: QpcOptions, model: Source, generation: Generation) -> QpcOptions:
    """Check options for a graph with states; fill in what follows from the graph.

    Raises:
        BadInput: they don't go together.
    """
    if options.seq_len is not None:
        raise BadInput("seq_len is for embedding models", hint="use prefill_seq_len and ctx_len")
    if options.ccl_enabled is None and model.inputs is not None:
        asks = "comp_ctx_lengths" in model.inputs
        options = replace(options, ccl_enabled=asks or None)
    _check_generation(options, generation)
    _check_lengths(options, generation)
    _check_batches(options)
    _check_inputs(options, model)
    return options


def _check_generation(options: QpcOptions, generation: Generation) -> None:
    hw, speculative = options.aic_hw_version, options.num_speculative_tokens
    if hw is not None and hw not in generation.hw_versions:
        raise BadInput(
            f"Apps SDK {generation.version} has no aic_hw_version {hw}",
            hint=f"it has {' and '.join(generation.hw_versions)}",
        )
    if options.has_compute_lengths and not generation.compute_lengths:
        raise BadInput(f"Apps SDK {generation.version} has no compute-context-lengths")
    if speculative and len(set(speculative)) > 1 and not generation.speculative_lists:
        raise BadInput(
            f"Apps SDK {generation.version} takes one number of speculative tokens",
            hint="several need 1.22",
        )
    if options.mdp_load_partition_config and "{given_partition}" not in generation.order:
        raise BadInput(f"Apps SDK {generation.version} takes no mdp_load_partition_config")


def _check_lengths(options: QpcOptions, generation: Generation) -> None:
    if options.prefill_seq_len > options.ctx_len:
        raise BadInput(
            f"a prefill of {options.prefill_seq_len} tokens doesn't fit a context of "
            f"{options.ctx_len}",
            hint="lower prefill_seq_len, or raise ctx_len",
        )
    speculative = options.num_speculative_tokens
    if speculative and options.prefill_seq_len < max(speculative) + 1:
        raise BadInput(
            f"prefill_seq_len must be at least num_speculative_tokens + 1, {max(speculative) + 1}"
        )
    if not options.has_compute_lengths:
        return
    decodes = not options.prefill_only and options.prefill_seq_len != 1
    if speculative and decodes and generation.speculative_lists:
        raise BadInput("compute-context-lengths don't go with speculative tokens")
    if options.prefill_only and generation.compute_lengths == "steps of 1":
        raise BadInput(f"Apps SDK {generation.version}: prefill_only has no comp_ctx_lengths")


def _check_batches(options: QpcOptions) -> None:
    full, kept = options.full_batch_size, options.kv_cache_batch_size
    if options.continuous_batching is not None:
        if options.continuous_batching and not options.batches_continuously:
            raise BadInput("continuous_batching needs full_batch_size")
        if not options.continuous_batching and options.batches_continuously:
            raise BadInput("full_batch_size is for continuous batching, which is switched off")
    if not options.batches_continuously:
        return
    if full is None and not options.prefill_only:
        raise BadInput("kv_cache_batch_size needs full_batch_size, the sequences of one decode")
    if full is not None and kept is not None and kept < full:
        raise BadInput(f"kv_cache_batch_size {kept} is less than full_batch_size {full}")
    if options.batch_size != 1:
        raise BadInput("batch_size and full_batch_size can't both be given")


def _check_inputs(options: QpcOptions, model: Source) -> None:
    """Hold the options against the inputs that the graph has for them."""
    speculates = options.num_speculative_tokens is not None
    for asked, name, option in (
        (options.batches_continuously, "batch_index", "full_batch_size"),
        (speculates, "num_logits_to_keep", "num_speculative_tokens"),
        (options.has_compute_lengths, "comp_ctx_lengths", "comp_ctx_lengths_decode"),
    ):
        has = model.takes(name, default=asked)
        if asked and not has:
            raise BadInput(
                f"{option} needs a graph with the input {name}", hint="export the graph for it"
            )
        if has and not asked:
            raise BadInput(f"the graph has the input {name}: give {option}")

"""specializations.json: the sizes that a binary is compiled for, an entry for each set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelc.errors import BadInput
from modelc.targets.qaic.compute_lengths import choose_lengths
from modelc.targets.qaic.generations import Generation
from modelc.targets.qaic.options import QpcOptions

FILE: Final = "specializations.json"


@dataclass(frozen=True)
class Specialization:
    """One set of sizes: what it is for, and the value of every symbol of the graph."""

    name: str
    symbols: Mapping[str, int]


def decoder_specializations(options: QpcOptions, generation: Generation) -> list[Specialization]:
    """Return prefill and decode as the options want them.

    Raises:
        BadInput: the options leave nothing to compile, or can't go together.
    """
    prefill_lengths: list[int | None] = [None]
    decode_lengths: list[int | None] = [None]
    context = options.ctx_len
    if options.has_compute_lengths:
        prefill, decode, context = choose_lengths(options, generation)
        prefill_lengths = list(prefill) if prefill else [None]
        decode_lengths = list(decode) if decode else [None]
    one_token = options.prefill_seq_len == 1
    made: list[Specialization] = []
    if options.prefill_only is not False or one_token:
        made += [_prefill(options, generation, context, length) for length in prefill_lengths]
    wants_decode = not options.prefill_only and not (one_token and generation.lone_decode)
    for tokens in _decode_tokens(options, generation) if wants_decode else ():
        made += [_decode(options, context, tokens, length) for length in decode_lengths]
    return _with_distinct_names(made)


def embedding_specializations(options: QpcOptions) -> list[Specialization]:
    """Return one entry for each length of an embedding model's input."""
    lengths = options.seq_len or (32,)
    return _with_distinct_names(
        [
            Specialization("Embedding", {"batch_size": options.batch_size, "seq_len": length})
            for length in lengths
        ],
    )


def specializations_text(entries: Sequence[Specialization], generation: Generation) -> str:
    """Return the file as the SDK's front end writes it; all values are text."""
    return json_text({"specializations": documents(entries, generation)}, generation.sorted_json)


def documents(entries: Sequence[Specialization], generation: Generation) -> list[dict[str, Any]]:
    """Return the entries, flat or with names and symbols."""
    texts = [{name: str(value) for name, value in e.symbols.items()} for e in entries]
    if not generation.named:
        return list[dict[str, Any]](texts)
    return [{"name": e.name, "symbols": t} for e, t in zip(entries, texts, strict=True)]


def json_text(document: Any, is_sorted: bool) -> str:
    """Return JSON as the SDK's front end writes it, sorted and tight, or as it comes."""
    if is_sorted:
        return json.dumps(document, indent=4, separators=(",", ":"), sort_keys=True)
    return json.dumps(document, indent=4)


def _decode_tokens(options: QpcOptions, generation: Generation) -> list[int]:
    """Return the tokens of a call of each decode, without those that the prefill covers."""
    speculative = options.num_speculative_tokens
    counts = [k + 1 for k in sorted(set(speculative))] if speculative else [1]
    if options.batches_continuously:
        return counts
    if generation.lone_decode:
        return [count for count in counts if count != options.prefill_seq_len]
    return [] if options.prefill_seq_len == 1 else counts


def _prefill(
    options: QpcOptions, generation: Generation, context: int, length: int | None
) -> Specialization:
    continuous, one_token = options.batches_continuously, options.prefill_seq_len == 1
    rows = 1 if continuous else options.batch_size
    full = options.full_batch_size
    if continuous and one_token and generation.lone_decode:
        if full is None:
            raise BadInput("prefill_seq_len=1 needs full_batch_size in continuous batching")
        rows = full
    symbols = _symbols(options, rows, options.prefill_seq_len, context, length, logits=1)
    if full is not None:
        symbols["full_batch_exec_size"] = full if generation.prefill_width == "full" else rows
    is_decode = one_token and options.prefill_only is False
    return Specialization("Decode" if is_decode else "Prefill", symbols)


def _decode(options: QpcOptions, context: int, tokens: int, length: int | None) -> Specialization:
    rows = options.full_batch_size if options.batches_continuously else options.batch_size
    assert rows is not None  # checked with the options
    return Specialization("Decode", _symbols(options, rows, tokens, context, length, logits=tokens))


def _symbols(
    options: QpcOptions, rows: int, tokens: int, context: int, length: int | None, logits: int
) -> dict[str, int]:
    symbols = {"batch_size": rows, "seq_len": tokens, "ctx_len": context}
    if length is not None:
        symbols["comp_ctx_lengths"] = length
    if options.num_speculative_tokens is not None:
        symbols["num_logits_to_keep"] = logits
    if options.batches_continuously:
        kept = options.kv_cache_batch_size or options.full_batch_size
        assert kept is not None
        symbols["full_batch_size"] = kept
    return symbols


def _with_distinct_names(entries: Sequence[Specialization]) -> list[Specialization]:
    """Number the entries that share a name, from 0."""
    shared = Counter(entry.name for entry in entries)
    seen: Counter[str] = Counter()
    numbered = []
    for entry in entries:
        name = entry.name
        if shared[name] > 1:
            name = f"{entry.name}_{seen[entry.name]}"
            seen[entry.name] += 1
        numbered.append(Specialization(name, entry.symbols))
    return numbered

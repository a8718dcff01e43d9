"""A decoder's lowered graphs on the CPU, part after part: what a model computes that is too large
for the simulator, one part in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from modelc.ir import genie
from modelc.targets.snapdragon.decode_loop import Arrays, Decoder, dequantise
from modelc.targets.snapdragon.graph_names import parse
from modelc.targets.snapdragon.host import Host
from modelc.targets.snapdragon.rotary import Rotary


def rehearse(
    models: Mapping[str, Path],
    tokens: Sequence[int],
    given: Sequence[Arrays],
    rotary: Rotary,
) -> list[Arrays]:
    """Run one part on a sequence of tokens, in the calls that Genie would make, and return what it
    gives in each: a hidden state as the next part takes it, or `logits` as float32 [n, vocab] of
    the call's n tokens.

    Args:
        models: the lowered graphs of the part by name, every AR length and context length.
        given: what the part before gave in each call; empty for the first part.
    """
    results: list[Arrays] = []
    with ExitStack() as opened:
        hosts = {name: opened.enter_context(Host(model)) for name, model in models.items()}
        keys = {name: parse(name) for name in models}
        graphs = {(keys[n].ar, keys[n].context_length): [host.part] for n, host in hosts.items()}
        decoder, rest = Decoder(graphs, rotary), list(tokens)
        encodings = {t.name: t for host in hosts.values() for t in host.part.outputs}
        while rest:
            call = decoder.next_call(rest)
            values = decoder.run(call, given[len(results)] if given else {})
            made = {
                name: values[name]
                for name in encodings
                if name in values and not genie.is_cache(name)
            }
            if genie.LOGITS in made:
                rows = made[genie.LOGITS][0, : len(call.tokens)]
                made[genie.LOGITS] = dequantise(rows, encodings[genie.LOGITS])
            results.append(made)
            rest = rest[len(call.tokens) :]
    return results


def save(calls: Sequence[Arrays], path: Path) -> None:
    """Write what `rehearse` returned."""
    arrays = {f"{i}/{name}": value for i, call in enumerate(calls) for name, value in call.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> list[Arrays]:
    """Read what `save` wrote."""
    calls: dict[int, dict[str, np.ndarray]] = {}
    with np.load(path) as saved:
        for key in saved.files:
            index, name = key.split("/", 1)
            calls.setdefault(int(index), {})[name] = saved[key]
    return [calls[index] for index in sorted(calls)]

"""A decoder's lowered graphs on the CPU, part after part: what a model computes that is too large
for the simulator, one part in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from modelc.ir import genie
from modelc.ir.arrays import Arrays, load_sequence, save_sequence
from modelc.targets.snapdragon.decode_loop import Decoder, dequantise
from modelc.targets.snapdragon.graph_names import parse
from modelc.targets.snapdragon.host import Host
from modelc.targets.snapdragon.rotary import Rotary

_TOKENS: Final = "tokens"


@dataclass(frozen=True)
class Rehearsal:
    """What one part gives for a sequence of tokens.

    Attributes:
        calls: of each call a hidden state as the next part takes it, or `logits` as float32
            [n, vocab] of the call's n tokens.
    """

    tokens: tuple[int, ...]
    calls: tuple[Arrays, ...]


def rehearse(
    models: Mapping[str, Path],
    tokens: Sequence[int],
    given: Sequence[Arrays],
    rotary: Rotary,
) -> Rehearsal:
    """Run one part on a sequence of tokens, in the calls of `Decoder.measured_calls`.

    Args:
        models: the lowered graphs of the part by name, every AR length and context length.
        given: what the part before gave in each call; empty for the first part.
    """
    results: list[Arrays] = []
    with ExitStack() as opened:
        hosts = {name: opened.enter_context(Host(model)) for name, model in models.items()}
        keys = {name: parse(name) for name in models}
        graphs = {(keys[n].ar, keys[n].context_length): [host.part] for n, host in hosts.items()}
        decoder = Decoder(graphs, rotary)
        encodings = {t.name: t for host in hosts.values() for t in host.part.outputs}
        for call in decoder.measured_calls(tokens):
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
    return Rehearsal(tuple(tokens), tuple(results))


def save(rehearsal: Rehearsal, path: Path) -> None:
    """Write what `rehearse` returned."""
    tokens = np.array(rehearsal.tokens, np.int32)
    save_sequence(path, [{_TOKENS: tokens}, *rehearsal.calls])


def load(path: Path) -> Rehearsal:
    """Read what `save` wrote."""
    first, *calls = load_sequence(path)
    return Rehearsal(tuple(first[_TOKENS].tolist()), tuple(calls))

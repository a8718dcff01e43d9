"""Worker: runs compiled graphs in the HTP simulator, which is inside libQnnHtp on x86."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from modelc.errors import Where
from modelc.ir.arrays import Arrays, load_sequence, save_sequence
from modelc.process import LogMark, serve
from modelc.targets.runtime import Sampling
from modelc.targets.sampling import Sampler
from modelc.targets.snapdragon import graph_names, qnn_system
from modelc.targets.snapdragon.decode_loop import Decoder, Part
from modelc.targets.snapdragon.diagnose import explain
from modelc.targets.snapdragon.provider import open_session
from modelc.targets.snapdragon.room import longest_text
from modelc.targets.snapdragon.rotary import Rotary
from modelc.targets.snapdragon.tokens_file import TokenWriter
from modelc.targets.snapdragon.wrapper import binary_of

LOG = Path("simulate_worker.log")


def run_graph(job: dict[str, Any]) -> dict[str, Any]:
    """Run one graph on saved feeds, and save its outputs likewise."""
    wrapper = Path(job["wrapper"])
    qnn_system.read_twin(binary_of(wrapper))
    run = _load(wrapper)
    feeds = load_sequence(Path(job["inputs"]))
    start = time.monotonic()
    results = [run(feed) for feed in feeds]
    seconds = time.monotonic() - start
    save_sequence(Path(job["outputs"]), results)
    return {"seconds": seconds}


def logits(job: dict[str, Any]) -> dict[str, Any]:
    """Save float32 [tokens, vocab], the logits after each token of one sequence."""
    start = time.monotonic()
    decoder = _decoder(job)
    read = decoder.measure if job["measured"] else decoder.read
    result = np.concatenate(list(read(job["tokens"])))
    with Path(job["outputs"]).open("wb") as stream:
        # Not to the file itself: NumPy would hide why it can't be written.
        np.save(SimpleNamespace(write=stream.write), result)
    return {"seconds": time.monotonic() - start}


def generate(job: dict[str, Any]) -> dict[str, Any]:
    decoder, sampler = _decoder(job), Sampler(Sampling(**job["sampling"]))
    write = TokenWriter(job["stream"])
    history, tokens = list(job["tokens"]), list[int]()
    start = time.monotonic()
    limit = longest_text(decoder.ars, decoder.context_length)
    *_, last = decoder.read(history)
    prefill = time.monotonic() - start
    while len(tokens) < job["max_new_tokens"]:
        token = sampler.choose(last[-1], history)
        if token in job["stop_ids"]:
            break
        tokens.append(token)
        history.append(token)
        write(token)
        if len(tokens) == job["max_new_tokens"] or len(history) >= limit:
            break
        [last] = decoder.read([token])
    return {
        "token_ids": tokens,
        "prefill_seconds": prefill,
        "decode_seconds": time.monotonic() - start - prefill,
    }


TASKS = {"run_graph": run_graph, "logits": logits, "generate": generate}


def handle(job: dict[str, Any]) -> dict[str, Any]:
    return TASKS[job["task"]](job)


def _decoder(job: dict[str, Any]) -> Decoder:
    parts: dict[graph_names.GraphKey, Part] = {}
    for wrapper in map(Path, job["wrappers"]):
        graph = qnn_system.read_twin(binary_of(wrapper))
        parts[graph_names.parse(graph.name)] = Part(graph.inputs, graph.outputs, _load(wrapper))
    chains: dict[tuple[int, int], list[Part]] = {}
    for key in sorted(parts):
        chains.setdefault((key.ar, key.context_length), []).append(parts[key])
    return Decoder(chains, Rotary(**job["rotary"]))


def _load(wrapper: Path) -> Callable[[Arrays], Arrays]:
    """Return what runs a graph; the graph is loaded when it first runs, for not all of them do."""

    @cache
    def session() -> Any:
        mark = LogMark(LOG)
        try:
            return open_session(wrapper)
        except Exception as error:  # the provider raises many types; all mean the same
            found = explain(mark.text(), error, graph=wrapper.stem, modules={})
            found.where = Where(graph=wrapper.stem, path=str(wrapper))
            raise found from error

    def run(feed: Arrays) -> Arrays:
        names = [output.name for output in session().get_outputs()]
        return dict(zip(names, session().run(names, dict(feed)), strict=True))

    return run


if __name__ == "__main__":
    serve(handle)

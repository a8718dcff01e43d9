"""Proof of a compiled part: its graphs run once on samples of the float model's tensors.

The compiler's own session runs the very graphs that ship, which no binary with shared weights can
do here. What comes out is compared with the same graph on ONNX Runtime's CPU, and with what the
float model made of the same tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.ir import genie
from modelc.ir.arrays import Arrays
from modelc.ir.encodings import Encoding
from modelc.targets.snapdragon.binary import Tensor
from modelc.targets.snapdragon.decode_loop import Call, Decoder, Part, dequantise
from modelc.targets.snapdragon.graph_names import GraphKey, parse
from modelc.targets.snapdragon.host import Host
from modelc.targets.snapdragon.rotary import Rotary

Samples = Mapping[str, np.ndarray]

CACHE: Final = "cache"  # stands for all new keys and values

SECONDS_PER_MAC: Final = 1e-9
SECONDS_PER_WEIGHT: Final = 26e-9

LEAST_DB: Final = 30.0
"""What simulator and CPU have in common at least; where the graph is right it is 36 to 70."""

LEAST_FLOAT_DB: Final = 0.0
"""What a hidden state or logits have in common with the float model's at least: zeros would have
as much. Random weights in 4 bits still come to 5, trained ones to 16 and more. New keys and values
are not held to it: a token's may rightly be small beside a step of the cache."""

WORST_DB: Final = -999.0
"""Said of results that no number of decibels describes: not finite, or something out of nothing."""


@dataclass(frozen=True)
class Trial:
    """One call of a graph, and what should come out.

    Attributes:
        past, new: tokens before the call and in it.
        macs: multiply-adds that the call takes.
        outputs: the graph's, with their encodings.
        on_cpu: codes of the same graph on ONNX Runtime.
        as_float: what the float model has for the rows of `new`, by output.
    """

    past: int
    new: int
    macs: int
    feed: Arrays
    outputs: tuple[Tensor, ...]
    on_cpu: Arrays
    as_float: Arrays


def trials(
    models: Mapping[str, Path], samples: Samples, rotary: Rotary, most_seconds: float
) -> dict[str, Trial]:
    """Return a trial of each graph for which the simulator takes at most so long, and of the
    quickest in any case.

    Args:
        models: a lowered graph's file by its name.
        samples: `token_ids` int32 [n] and float32 tensors of the float model by canonical name.
    """
    hosts = {name: Host(model) for name, model in models.items()}
    seconds = {n: simulator_seconds(host.macs, parse(n).ar) for n, host in hosts.items()}
    made = {}
    for name, host in hosts.items():
        if seconds[name] <= max(most_seconds, min(seconds.values())):
            with host:  # one session at a time
                made[name] = _trial(parse(name), host, samples, rotary)
    return made


def simulator_seconds(macs: int, ar: int) -> float:
    """Return about how long the simulator takes for a call, measured with decoder layers of 60
    million weights: most of it goes by the weights, not by the tokens that they are multiplied
    with."""
    return macs * (SECONDS_PER_MAC + SECONDS_PER_WEIGHT / ar)


def _trial(key: GraphKey, host: Host, samples: Samples, rotary: Rotary) -> Trial:
    tokens = samples["token_ids"].tolist()
    new = min(key.ar, max(1, len(tokens) // 2))
    past = min(len(tokens) - new, key.context_length - key.ar)
    feeds: list[Arrays] = []

    def run(feed: Arrays) -> Arrays:
        feeds.append(feed)
        return host.part.run(feed)

    part = Part(host.part.inputs, host.part.outputs, run)
    decoder = Decoder({(key.ar, key.context_length): [part]}, rotary)
    decoder.fill({t.name: _past(t, samples, past) for t in part.inputs if _is_cache(t)}, past)
    given = {
        tensor.name: _codes(_padded(samples[tensor.name][:, past : past + new], tensor), tensor)
        for tensor in part.inputs
        if tensor.name in samples
    }
    call = Call(key.ar, key.context_length, tuple(tokens[past : past + new]))
    on_cpu = decoder.run(call, given)
    return Trial(
        past=past,
        new=new,
        macs=host.macs,
        feed=feeds[0],
        outputs=part.outputs,
        on_cpu=on_cpu,
        as_float={t.name: _expected(t.name, samples, past, new) for t in part.outputs},
    )


def compare(trial: Trial, results: Arrays) -> dict[str, Any]:
    """Return how close a compiled graph's results are: SQNR in dB of the hidden state or logits,
    and the least of all new keys and values; None stands for equal, `WORST_DB` for no number."""
    rows: dict[str, dict[str, list[float]]] = {}
    for tensor in trial.outputs:
        kind = CACHE if genie.is_cache(tensor.name) else tensor.name
        found = dequantise(_new_rows(tensor.name, results[tensor.name], trial.new), tensor)
        on_cpu = dequantise(_new_rows(tensor.name, trial.on_cpu[tensor.name], trial.new), tensor)
        row = rows.setdefault(kind, {"cpu_db": [], "float_db": []})
        row["cpu_db"].append(_sqnr_db(on_cpu, found))
        row["float_db"].append(_sqnr_db(trial.as_float[tensor.name], found))
    return {
        "past": trial.past,
        "new": trial.new,
        "macs": trial.macs,
        "outputs": {
            kind: {name: _told(min(values)) for name, values in row.items()}
            for kind, row in rows.items()
        },
    }


def _is_cache(tensor: Tensor) -> bool:
    return genie.is_cache(tensor.name)


def _past(tensor: Tensor, samples: Samples, past: int) -> np.ndarray:
    return _codes(_cached(tensor.name, samples)[_rows(tensor.name, 0, past)], tensor)


def _cached(name: str, samples: Samples) -> np.ndarray:
    """Return a layer's keys or values of all samples in the layout of Genie's cache."""
    _, kind, layer, _ = name.split("_")
    values = samples[f"present.{layer}.{kind}"]
    return values.transpose(1, 0, 3, 2) if kind == "key" else values.transpose(1, 0, 2, 3)


def _expected(name: str, samples: Samples, past: int, new: int) -> np.ndarray:
    if genie.is_cache(name):
        return _cached(name, samples)[_rows(name, past, past + new)]
    return samples[name][:, past : past + new]


def _rows(name: str, start: int, stop: int) -> tuple[slice, ...]:
    """Select tokens of a cache, or of a hidden state [1, AR, hidden]."""
    axis = {"key": 3, "value": 2}[name.split("_")[1]] if genie.is_cache(name) else 1
    return (*(slice(None),) * axis, slice(start, stop))


def _new_rows(name: str, values: np.ndarray, new: int) -> np.ndarray:
    return values[_rows(name, 0, new)]


def _padded(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    padded = np.zeros(tensor.shape, np.float32)
    padded[:, : values.shape[1]] = values
    return padded


def _codes(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    if not tensor.scale:
        return values.astype(tensor.dtype)
    # Type: a string; what has a scale has an integer type.
    encoding = Encoding(tensor.scale, tensor.zero_point, tensor.dtype)  # type: ignore[arg-type]
    return encoding.quantise(values)


def _sqnr_db(wanted: np.ndarray, found: np.ndarray) -> float:
    if not (np.isfinite(wanted).all() and np.isfinite(found).all()):
        return WORST_DB
    signal = float(np.square(wanted, dtype=np.float64).sum())
    noise = float(np.square(np.subtract(wanted, found, dtype=np.float64)).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else WORST_DB


def _told(db: float) -> float | None:
    return None if db == math.inf else round(db, 2)

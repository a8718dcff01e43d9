"""The peers of `quality.py`: which rows each has, and how they are asked for."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from worker import Worker


@dataclass(frozen=True)
class Files:
    """What peers start from."""

    onnx: Path
    gguf: Path
    text: Path


@dataclass(frozen=True)
class Found:
    """Logits of the scored tokens, and bits of a weight of the layers, the head and the table."""

    logits: np.ndarray
    bits: tuple[float, float, float]
    seconds: float


@dataclass(frozen=True)
class Absent:
    """A row that could not be made."""

    why: str


@dataclass(frozen=True)
class Peer:
    """One engine.

    Attributes:
        script: its worker, which has a handler `evaluate`.
        package: what its interpreter has to have.
        rows: label -> arguments of `evaluate`.
    """

    name: str
    script: str
    package: str
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _aimet(kind: str, rounding: str, rotate: bool = False, iterations: int = 0) -> dict[str, Any]:
    return {"kind": kind, "rounding": rounding, "rotate": rotate, "iterations": iterations}


PEERS: Final = (
    Peer(
        "llama.cpp",
        "peer_llama.py",
        "llama_cpp",
        {kind: {"kind": kind} for kind in ("Q8_0", "Q4_0", "Q4_K_M", "Q4_0+", "Q4_K_M+")},
    ),
    Peer(
        "onnxruntime",
        "peer_onnxruntime.py",
        "onnxruntime",
        {
            label: {"algorithm": label}
            for label in (
                *("QDQ static w8a16", "QDQ static w8a8"),
                *(f"MatMulNBits b32 {name}" for name in ("RTN", "HQQ", "k_quant", "GPTQ")),
            )
        },
    ),
    Peer(
        "aimet",
        "peer_aimet.py",
        "aimet_onnx",
        {
            "w8a16 min-max": _aimet("w8", "minmax"),
            "w4a16 min-max": _aimet("w4", "minmax"),
            "w4a16 R1, min-max": _aimet("w4", "minmax", rotate=True),
            "w4a16 sequential MSE": _aimet("w4", "seqmse"),
            "w4a16 R1, sequential MSE": _aimet("w4", "seqmse", rotate=True),
            "w4a16 AdaRound, 200 steps": _aimet("w4", "adaround", iterations=200),
            "w4a16 b32 min-max": _aimet("w4_b32", "minmax"),
            "w4a16 b32 sequential MSE": _aimet("w4_b32", "seqmse"),
            "w4a16 LPBQ 32 min-max": _aimet("w4_lpbq32", "minmax"),
            "w4a16 LPBQ 64 min-max": _aimet("w4_lpbq64", "minmax"),
            "w4a16 LPBQ 64 sequential MSE": _aimet("w4_lpbq64", "seqmse"),
        },
    ),
)


def run_peer(
    peer: Peer,
    labels: Sequence[str],
    python: str | None,
    files: Files,
    architecture: str,
    threads: int,
) -> Iterator[tuple[str, Found | Absent]]:
    """Yield what a peer makes of each of its rows, in a process of its own for each."""
    if python is None and importlib.util.find_spec(peer.package) is None:
        yield from ((label, Absent(f"no {peer.package} here")) for label in labels)
        return
    logits = files.text.with_name("logits.npy")
    for label in labels:
        worker = Worker(peer.script, python or sys.executable)
        given = dict(peer.rows[label])
        if peer.name == "aimet":
            given["architecture"] = architecture
        model = files.gguf if peer.name == "llama.cpp" else files.onnx
        try:
            answer = worker.ask(
                "evaluate",
                model=str(model),
                text=str(files.text),
                threads=threads,
                logits=str(logits),
                **given,
            )
        except RuntimeError as error:
            yield label, Absent(str(error)[:60])
            continue
        finally:
            worker.close()
        bits = gguf_bits(Path(answer["file"])) if "file" in answer else answer["bits"]
        yield label, Found(np.load(logits), bits, answer["seconds"])


def gguf_bits(path: Path) -> tuple[float, float, float]:
    """Return bits of a weight of the layers' matrices, the head and the table; of a tied head 0."""
    numbers, size = [0, 0, 0], [0, 0, 0]
    for tensor in gguf.GGUFReader(path).tensors:
        if len(tensor.shape) > 1:
            at = {"output.weight": 1, "token_embd.weight": 2}.get(tensor.name, 0)
            numbers[at] += int(tensor.n_elements)
            size[at] += int(tensor.n_bytes)
    layers, head, table = (8 * s / n if n else 0.0 for s, n in zip(size, numbers, strict=True))
    return layers, head, table

"""How much memory a model would take on a target, told from its graph without compiling it."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelc.frontends import read_model
from modelc.ir.stored import StoredMatrix
from modelc.pipeline.job import Job, make_job
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.steps import DEFAULT_CONTEXT

if TYPE_CHECKING:
    from modelc.decoder.config import DecoderConfig

# A context on the device addresses 4 GB; this much of it can be used.
HTP_LIMIT: Final = 3_500_000_000

# Bits per weight, scales included, as each kind of weights lies in memory.
_BITS: Final[dict[str, float]] = {"q8_0": 8 + 32 / 32, "q4_0": 4 + 32 / 32, "int8-channel": 8}

# What MatMulNBits holds for a GGUF block: bits per weight with float32 scales (and minima).
_GGUF_BITS: Final[dict[str, float]] = {
    "Q4_0": 4 + 32 / 32,
    "Q4_1": 4 + 64 / 32,
    "Q5_0": 8 + 32 / 32,
    "Q5_1": 8 + 64 / 32,
    "Q8_0": 8 + 32 / 32,
    "Q2_K": 4 + 64 / 16,
    "Q3_K": 4 + 32 / 16,
    "Q4_K": 4 + 64 / 32,
    "Q5_K": 8 + 64 / 32,
    "Q6_K": 8 + 32 / 16,
}


@dataclass(frozen=True)
class PartEstimate:
    """Bytes that one part of the model takes."""

    name: str
    weights: int
    kv_cache: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.activations


@dataclass(frozen=True)
class Estimate:
    """The answer of `modelc estimate`; sizes in bytes.

    Attributes:
        kv_per_token: KV cache of one position in all layers.
        peak_module: where most activations are alive at once.
        limit: what the target has for one part.
    """

    target: str
    quant: str
    context_length: int
    new_tokens: int
    parameters: int
    kv_per_token: int
    peak_module: str
    parts: tuple[PartEstimate, ...]
    limit: int

    @property
    def fits(self) -> bool:
        return self.largest <= self.limit

    @property
    def title(self) -> str:
        return (
            f"{self.parameters / 1e6:.1f}M parameters on {self.target} as {self.quant}, "
            f"context {self.context_length}, {self.new_tokens} new tokens per call"
        )

    @property
    def largest(self) -> int:
        """Bytes of the largest part."""
        return max(part.total for part in self.parts)

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        parts = [{**asdict(part), "total": part.total} for part in self.parts]
        return {**asdict(self), "parts": parts, "fits": self.fits}


def estimate_source(source: Path, recipe: Recipe) -> Estimate:
    """Estimate a source under a recipe; no weight is read.

    Activations are those of the expanded graph, so attention scores count whole: an upper bound
    where the target fuses them.

    Raises:
        BadInput: as `compile` would.
    """
    from modelc.decoder.builder import build_decoder
    from modelc.ir.liveness import peak_activations
    from modelc.passes.expand import ExpandComposites

    job = make_job(source, recipe)
    decoder = read_model(source)
    config = decoder.config
    length = job.recipe.context_length or min(config.max_context, DEFAULT_CONTEXT)
    new_tokens = min(max(job.recipe.ar), length)
    graph = ExpandComposites().apply(build_decoder(decoder, length))
    sizes = {"batch": 1, "sequence": new_tokens, "past": length - new_tokens}
    on_cpu = job.target.family == "cpu"
    peak = peak_activations(graph, sizes, 4 if on_cpu else 2)
    kv_per_token = 2 * config.layers * config.kv_heads * config.head_dim * _kv_bytes(job)
    part = PartEstimate(
        "1_of_1", _weights_bytes(job, config, decoder.weights), kv_per_token * length, peak.nbytes
    )
    return Estimate(
        target=job.target.name,
        quant=job.scheme.name,
        context_length=length,
        new_tokens=new_tokens,
        parameters=sum(math.prod(_shape(matrix)) for matrix in decoder.weights.values()),
        kv_per_token=kv_per_token,
        peak_module=peak.module,
        parts=(part,),
        limit=_free_memory() if on_cpu else HTP_LIMIT,
    )


def _weights_bytes(job: Job, config: DecoderConfig, weights: dict[str, StoredMatrix] | Any) -> int:
    total = 0.0
    for name, matrix in weights.items():
        # A tied head is a second copy on the HTP; the CPU shares it with the embedding.
        copies = 2 if config.tied_head and name == "model.embed_tokens.weight" else 1
        copies = 1 if job.target.family == "cpu" else copies
        total += copies * _matrix_bytes(job, matrix)
    return int(total)


def _matrix_bytes(job: Job, matrix: StoredMatrix) -> float:
    """Bytes of one weight as the target holds it; vectors stay float."""
    count = math.prod(_shape(matrix))
    float_bytes = 4 if job.target.family == "cpu" else 2
    kind = job.scheme.weights
    if len(matrix.shape) < 2 or kind == "float":
        return count * float_bytes
    if kind == "gguf":
        return count * _GGUF_BITS.get(matrix.format, float_bytes * 8) / 8
    return count * _BITS[kind] / 8


def _kv_bytes(job: Job) -> int:
    if job.scheme.kv == "uint8":
        return 1
    return 4 if job.target.family == "cpu" else 2


def _shape(matrix: StoredMatrix) -> tuple[int, ...]:
    if matrix.rows is None:
        return matrix.shape
    return (matrix.rows[1] - matrix.rows[0], *matrix.shape[1:])


def _free_memory() -> int:
    """Bytes of memory that this machine could give now."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

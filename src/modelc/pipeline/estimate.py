"""How much memory a model would take on a target, told from its graph without compiling it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from modelc.decoder.config import with_window
from modelc.decoder.parameters import count_parameters
from modelc.frontends import read_model
from modelc.ir.packing.form_packing import FormPacking
from modelc.ir.packing.kinds import KINDS
from modelc.ir.stored import StoredMatrix, tensor_shape
from modelc.passes.qaic.repeat_heads import repeat_kv_heads
from modelc.pipeline.card_job import card_job
from modelc.pipeline.cuda_plan import lower, plan_options
from modelc.pipeline.decoder_job import decoder_job
from modelc.pipeline.free_memory import free_memory
from modelc.pipeline.job import Job, make_job
from modelc.pipeline.module_kinds import cpu_kinds
from modelc.pipeline.part_sizes import HTP_LIMIT
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.steps import DEFAULT_CONTEXT
from modelc.quant.overrides import EMBEDDING, HEAD
from modelc.targets.qaic.estimate import device_memory, fewest_devices

# Bits per weight, scales included, as each kind of weights lies in memory.
_BITS: Final[dict[str, float]] = {"q8_0": 8 + 32 / 32, "q4_0": 4 + 32 / 32}

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
    """Bytes that one part of the model takes; `host` is the peak of compiling it, where that is
    worth telling."""

    name: str
    holds: str
    weights: int
    kv_cache: int
    activations: int
    host: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.activations


@dataclass(frozen=True)
class Estimate:
    """The answer of `modelc estimate`; sizes in bytes.

    Attributes:
        active_parameters: those that a token meets: not the experts that it doesn't go to.
        context_length, new_tokens: the longest.
        kv_per_token: KV cache of one position in all layers.
        limit: what the target has for one part.
        why: why there are so many parts.
    """

    target: str
    quant: str
    context_length: int
    new_tokens: int
    parameters: int
    active_parameters: int
    kv_per_token: int
    parts: tuple[PartEstimate, ...]
    limit: int
    why: str = ""

    @property
    def fits(self) -> bool:
        return self.largest <= self.limit

    @property
    def title(self) -> str:
        active = ""
        if self.active_parameters < self.parameters:
            active = f" ({self.active_parameters / 1e6:.1f}M for each token)"
        return (
            f"{self.parameters / 1e6:.1f}M parameters{active} on {self.target} as {self.quant}, "
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

    Raises:
        BadInput: as `compile` would.
    """
    job = make_job(source, recipe)
    return _FAMILIES[job.target.family](job)


def _on_snapdragon(job: Job) -> Estimate:
    plan = decoder_job(job)
    longest, parameters = max(plan.layout.context_lengths), count_parameters(plan.sizes.model)
    sizes = ((place, part, plan.size(place)) for place, part in plan.layout.numbered())
    return Estimate(
        target=job.target.name,
        quant=job.scheme.name,
        context_length=longest,
        new_tokens=max(plan.layout.ars),
        parameters=parameters.total,
        active_parameters=parameters.active,
        kv_per_token=plan.config.layers * plan.sizes.kv_per_layer // longest,
        parts=tuple(
            PartEstimate(place, str(part), size.weights, size.kv_cache, size.activations, size.host)
            for place, part, size in sizes
        ),
        limit=HTP_LIMIT,
        why=plan.layout.why,
    )


def _on_cpu(job: Job) -> Estimate:
    """Activations are those of the expanded graph, so attention scores count whole: an upper bound,
    as the kernels fuse them."""
    from modelc.decoder.builder import build_decoder
    from modelc.decoder.expert_modules import routed_sizes
    from modelc.ir.liveness import peak_activations
    from modelc.passes.expand import ExpandComposites

    decoder = read_model(job.source)
    config, parameters = decoder.config, count_parameters(decoder)
    length = max(job.recipe.context_length, default=min(config.max_context, DEFAULT_CONTEXT))
    new_tokens = min(max(job.recipe.ar), length)
    graph = ExpandComposites().apply(build_decoder(decoder, length))
    sizes = {"batch": 1, "sequence": new_tokens, "past": length - new_tokens}
    sizes |= routed_sizes(config, new_tokens)
    peak = peak_activations(graph, sizes, 4)
    kv_per_token = 2 * config.layers * config.kv_heads * config.head_dim * 4
    kinds = cpu_kinds(job, decoder)
    weights = int(sum(_weight_bytes(job, kinds, *weight) for weight in decoder.weights.items()))
    if config.tied_head and HEAD in kinds:  # in codes, beside the table
        weights += int(_coded_bytes(job, kinds[HEAD], decoder.weights[f"{EMBEDDING}.weight"]))
    part = PartEstimate("1_of_1", "all", weights, kv_per_token * length, peak.nbytes)
    return Estimate(
        target=job.target.name,
        quant=job.scheme.name,
        context_length=length,
        new_tokens=new_tokens,
        parameters=parameters.total,
        active_parameters=parameters.active,
        kv_per_token=kv_per_token,
        parts=(part,),
        limit=free_memory(),
    )


def _on_card(job: Job) -> Estimate:
    """Of each device; weights are sliced evenly."""
    plan = card_job(job)
    assert job.target.card is not None
    options, decoder = plan.options, read_model(job.source)
    parameters = count_parameters(decoder)
    sizes: dict[str, int | bool] = {
        "context_length": plan.shapes.context_length,
        "sequences": plan.shapes.sequences,
        "mxfp6_matmul": options.mxfp6_matmul,
        "mxint8_kv_cache": options.mxint8_kv_cache,
    }
    config = repeat_kv_heads(decoder, plan.graph["repeat_kv_heads"]).config
    card, count = job.target.card.name, options.num_devices
    memory = device_memory(config, card, num_devices=count, **sizes)  # type: ignore[arg-type]
    least = fewest_devices(config, card, **sizes)
    parts = tuple(
        PartEstimate(f"device_{n}_of_{count}", "a slice of every matrix", memory.weights,
                     memory.states, 0)
        for n in range(1, count + 1)
    )  # fmt: skip
    positions = plan.shapes.context_length * plan.shapes.sequences
    return Estimate(
        target=job.target.name,
        quant="mxfp6" if options.mxfp6_matmul else "fp16",
        context_length=plan.shapes.context_length,
        new_tokens=plan.shapes.prefill_seq_len,
        parameters=parameters.total,
        active_parameters=parameters.active,
        kv_per_token=memory.states * count // positions,
        parts=parts,
        limit=memory.available,
        why=f"it fits {least.devices} and more of this card's devices"
        if least
        else "it fits no number of this card's devices up to 16",
    )


def _on_gpu(job: Job) -> Estimate:
    """Of each GPU: its launch plan is made, so all but the driver's own is exact."""
    from modelc.decoder.builder import build_decoder
    from modelc.targets.cuda.estimate import largest, memory_of, usable

    decoder = with_window(read_model(job.source), job.recipe.cuda.sliding_window)
    config, gpu = decoder.config, job.target.gpus[0]
    length = max(job.recipe.context_length, default=min(config.max_context, DEFAULT_CONTEXT))
    plan, _ = lower(build_decoder(decoder, length), plan_options(job, decoder), length)
    memory, limit, parameters = memory_of(plan), usable(gpu), count_parameters(decoder)
    fit = largest(plan, limit)
    held = memory.activations + memory.inputs
    part = PartEstimate("1_of_1", "all", memory.parameters, memory.cache, held)
    return Estimate(
        target=job.target.name,
        quant=job.scheme.name,
        context_length=length,
        new_tokens=max(function.most["tokens"] for function in plan.functions),
        parameters=parameters.total,
        active_parameters=parameters.active,
        kv_per_token=memory.cache_per_token,
        parts=(part,),
        limit=limit,
        why=f"{gpu.marketing_name}: with {plan.max_batch} sequences a context of up to "
        f"{min(fit.context_length, config.max_context)} fits, with a context of {length} up to "
        f"{fit.sequences} sequences",
    )


_FAMILIES: Final[Mapping[str, Callable[[Job], Estimate]]] = {
    "cpu": _on_cpu,
    "snapdragon": _on_snapdragon,
    "qaic": _on_card,
    "cuda": _on_gpu,
}


def _weight_bytes(job: Job, kinds: Mapping[str, str], name: str, weight: StoredMatrix) -> float:
    """Bytes of one weight as the CPU holds it; vectors stay float."""
    from modelc.ir.packing.half import HALVES

    count, scheme = math.prod(tensor_shape(weight)), job.scheme.weights
    if len(weight.shape) < 2 or scheme == "float":
        return count * 4
    if kind := kinds.get(name.removesuffix(".weight")):
        return _coded_bytes(job, kind, weight)
    if scheme == "gguf":
        return count * _GGUF_BITS.get(weight.format, 32) / 8
    if job.scheme.has_kinds:  # the table, which stays as it is stored
        return count * (2 if weight.format in HALVES else 4)
    return count * _BITS[scheme] / 8


def _coded_bytes(job: Job, kind: str, weight: StoredMatrix) -> float:
    """Bytes of codes as MatMulNBits reads them, or of the floats that they are widened to."""
    from modelc.passes.cpu.coding import form_coding

    count, columns = math.prod(tensor_shape(weight)), weight.shape[-1]
    coding = form_coding(KINDS[kind], columns, job.scheme.activations)
    if not isinstance(coding, FormPacking):
        return count * 4
    layout = coding.layout
    blocks = count / columns * -(-columns // layout.block_size)  # the last of a row is filled up
    zero = layout.bits if layout.zero_points else 0
    return blocks * (layout.block_size * layout.bits + 32 + zero) / 8

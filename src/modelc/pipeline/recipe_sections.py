"""The sections of a recipe: [calibration], [verify], [network] and [qaic]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MAX_CONTEXT = 1 << 22

Count = Annotated[int, Field(ge=1, le=MAX_CONTEXT)]


def split_commas(value: Any) -> Any:
    """Read "512,4096" as several, and a number as one."""
    if isinstance(value, int):
        return [value]
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Counts = Annotated[tuple[Count, ...], BeforeValidator(split_commas)]


class Section(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Calibration(Section):
    """[calibration]: what activation ranges are gathered on, and how they are chosen.

    Attributes:
        text: UTF-8 file; None for the one that modelc carries.
        data: samples in place of a text: JSON lines, .npz, or an input list of raw files.
        samples: sequences taken from it, evenly spread.
        sequence_length: tokens in each, at most.
        observer: makes a range of what was seen of a tensor (`quant.observers`).
        percentile: percent of the values that the observer of this name keeps; None for its own.
    """

    text: Path | None = None
    data: Path | None = None
    samples: Count = 16
    sequence_length: Count = 256
    observer: Literal["min-max", "moving-average", "percentile", "entropy", "mse"] = "min-max"
    percentile: Annotated[float, Field(gt=0, le=100)] | None = None

    @model_validator(mode="after")
    def _together(self) -> Calibration:
        if self.text is not None and self.data is not None:
            raise ValueError("text and data, of which there can be one")
        if self.percentile is not None and self.observer != "percentile":
            raise ValueError(f"the observer {self.observer} has no use for a percentile")
        return self


class Verify(Section):
    """[verify]: what the result is compared with the float model on, and how close it must be.

    Attributes:
        text: UTF-8 file; None for the one that modelc carries.
        data: feeds of a network: an input list of raw files, .npz, a folder of images, or
            FILE.py:function; None for those it is calibrated on.
        samples: feeds at most; None for what suits the target.
        tokens: at most so many of its tokens; None for what suits the target (the HTP simulator
            is slow).
        min_sqnr_db, min_top1, max_perplexity_ratio: None for the scheme's own threshold.
        max_kl_divergence: mean nats per token; None for any.
        min_cosine: of a network's outputs; None for the scheme's own.
        min_agreement: of a network's outputs whose sizes depend on the inputs' numbers, such as
            the boxes that a detector keeps: the share that the float model gives as well.
    """

    text: Path | None = None
    data: Path | None = None
    samples: Count | None = None
    tokens: Annotated[int, Field(ge=2, le=MAX_CONTEXT)] | None = None
    min_sqnr_db: float | None = None
    min_top1: Annotated[float, Field(ge=0, le=1)] | None = None
    max_perplexity_ratio: Annotated[float, Field(gt=0)] | None = None
    max_kl_divergence: Annotated[float, Field(gt=0)] | None = None
    min_cosine: Annotated[float, Field(ge=-1, le=1)] | None = None
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.8


class Network(Section):
    """[network]: what only models that are no decoders have.

    Attributes:
        dims: symbol, or "INPUT.AXIS" -> size, for sizes that the source leaves open.
        activations, weights: types of codes in place of the scheme's.
        per_tensor: weights have one scale each, not one for each output channel.
        symmetric: activations are encoded around 0.
        sensitive_db: nodes of 8 bits that would have fewer dB get 16; 0 for none, None for the
            scheme's own.
        equalise: scales of neighbouring layers are evened out first, where that changes nothing.
        rounding: how weights become integers (`quant.network.round_weights`); None for nearest.
        bias_correction: the mean error of each output channel goes into its bias.
        boundary: what a compiled network takes and gives: the source's own types, or codes.
        preprocess: TOML file that says how images become inputs, in place of their folder's.
        random_feeds: made-up feeds to calibrate and verify on, if there is no data.
        op_packages: libraries of the user's own operators, OP:LIBRARY:INTERFACE[:TARGET].
        allow_cpu_fallback: leave to the CPU what HTP doesn't take.
    """

    dims: dict[str, Count] = Field(default_factory=dict)
    activations: Literal["uint8", "int8", "uint16", "int16"] | None = None
    weights: Literal["int8", "uint8", "int4", "int16"] | None = None
    per_tensor: bool = False
    symmetric: bool = False
    sensitive_db: Annotated[float, Field(ge=0, lt=200)] | None = None
    equalise: bool = False
    rounding: Literal["nearest", "gptq", "adaround"] | None = None
    bias_correction: bool = False
    boundary: Literal["float", "codes"] = "float"
    preprocess: Path | None = None
    random_feeds: Count | None = None
    op_packages: tuple[str, ...] = ()
    allow_cpu_fallback: bool = False


class Qaic(Section):
    """[qaic]: what only Cloud AI 100 has, under the names of its own front end.

    Attributes:
        num_cores: of each device; None for all that the card has.
        num_devices: devices among which every matrix is split.
        mxfp6_matmul: matrices in MXFP6 instead of float16.
        mxint8_kv_cache: the KV cache in MXINT8 instead of float16.
        prefill_seq_len: tokens of a prompt that one call takes; None for at most 128.
        batch_size: sequences that are computed together.
        full_batch_size: sequences of continuous batching.
        kv_cache_batch_size: sequences that are kept, more than are computed, for prefixes.
        num_speculative_tokens: that a draft proposes; a decode for each number.
        only: compile the prefill or the decode alone.
        comp_ctx_lengths_prefill, comp_ctx_lengths_decode: lengths of the cache that attention may
            look at, beside all of it.
        ccl_enabled: choose such lengths.
        repeat_kv_heads: each key and value head so many times, one for each device.
        adapters: folders of LoRA adapters, of which each sequence chooses one.
        max_top_k: tokens are chosen on the card, of at most so many; 0 leaves it to the host.
        node_precision_info: YAML file of nodes that keep float32, or float16.
        mdp_load_partition_config: a partition file, in place of an even split.
        aic_hw_version: None for the card's.
        sdk_version: that is to compile it; None for the one that is installed, or the newest.
        qnn_config: JSON file of further arguments of the QNN tools.
        prepare_only: write everything up to the compiler, and be done.
        compiler: flags that are passed on to the compiler: {"mos": 2}.
    """

    num_cores: Count | None = None
    num_devices: Count = 1
    mxfp6_matmul: bool = False
    mxint8_kv_cache: bool = False
    prefill_seq_len: Count | None = None
    batch_size: Count = 1
    full_batch_size: Count | None = None
    kv_cache_batch_size: Count | None = None
    num_speculative_tokens: Annotated[
        tuple[Annotated[int, Field(ge=0, le=MAX_CONTEXT)], ...], BeforeValidator(split_commas)
    ] = ()
    only: Literal["prefill", "decode"] | None = None
    comp_ctx_lengths_prefill: Counts = ()
    comp_ctx_lengths_decode: Counts = ()
    ccl_enabled: bool = False
    repeat_kv_heads: Count = 1
    adapters: tuple[Path, ...] = ()
    max_top_k: Annotated[int, Field(ge=0, le=MAX_CONTEXT)] = 0
    node_precision_info: Path | None = None
    mdp_load_partition_config: Path | None = None
    aic_hw_version: str | None = None
    sdk_version: str | None = None
    qnn_config: Path | None = None
    prepare_only: bool = False
    compiler: dict[str, bool | int | float | str] = Field(default_factory=dict)


class Cuda(Section):
    """[cuda]: what only CUDA has.

    Attributes:
        opt: how much is fused, from 0 (only what kernels can't do without) to 3.
        max_batch: sequences that are decoded together, at most.
        prefill_chunk: tokens of prompts that one call takes, at most.
        page: positions in a page of the KV cache.
        tensor_parallel: GPUs that share every matrix.
        sliding_window: positions that each layer looks back, in place of the model's own.
        tiles: table that `modelc tune` wrote, before the one that modelc has.
    """

    opt: Annotated[int, Field(ge=0, le=3)] = 3
    max_batch: Annotated[int, Field(ge=1, le=1024)] = 8
    prefill_chunk: Annotated[int, Field(ge=16, le=65536)] = 512
    page: Literal[16, 32, 64, 128] = 64
    tensor_parallel: Annotated[int, Field(ge=1, le=64)] = 1
    sliding_window: Count | None = None
    tiles: Path | None = None

"""Decoders of real shapes for CUDA, without their weights on any disk.

A launch plan reads no weight, so the source is a checkpoint whose file is one hole; random weights
are made on the device, as a plan wants them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.tune import tune_source
from modelc.targets.cuda.engine import Engine
from modelc.targets.cuda.executor import Executor
from modelc.targets.cuda.kernels_file import FILE, save_kernels
from modelc.targets.cuda.memory import Memory, allocate
from modelc.targets.cuda.plan import LaunchPlan
from modelc.targets.cuda.random_tensors import random_tensor
from modelc.targets.cuda.tiles import launched_tokens, tiled
from modelc.targets.cuda.tune import compile_tiles
from modelc.targets.cuda.variant import Variant
from modelc.targets.cuda.weights_file import write_weights

_LLAMA: Final = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
    "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
    "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
_QWEN3_MOE: Final = {
    **_LLAMA, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
    "rms_norm_eps": 1e-6, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "attention_bias": False,
}  # fmt: skip
CONFIGS: Final[dict[str, dict[str, Any]]] = {
    "llama-3.1-8b": {
        **_LLAMA, "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 128256, "max_position_embeddings": 131072, "rope_theta": 500000.0,
    },
    "qwen3-30b-a3b": {
        **_QWEN3_MOE, "num_hidden_layers": 48, "hidden_size": 2048, "intermediate_size": 6144,
        "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
        "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
        "vocab_size": 151936, "max_position_embeddings": 40960, "rope_theta": 1000000.0,
    },
    "llama-small": {
        **_LLAMA, "num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 512,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 512,
        "max_position_embeddings": 4096, "rope_theta": 10000.0,
    },
    "qwen3-small": {
        **_QWEN3_MOE, "num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 512,
        "moe_intermediate_size": 128, "num_experts": 8, "num_experts_per_tok": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 512,
        "max_position_embeddings": 4096, "rope_theta": 10000.0,
    },
}  # fmt: skip
"""Of Hugging Face; the sizes are the models' own."""

_SPREAD: Final = 0.02  # of 16-bit weights, so that activations keep their size


def make_source(folder: Path, name: str) -> Path:
    """Return a checkpoint's folder, made now if it is not there; it takes next to no disk."""
    path, config = folder / f"empty-{name}", CONFIGS[name]
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config, indent=1))
    header: dict[str, Any] = {}
    end = 0
    for weight, shape in _weights(config):
        first, end = end, end + 2 * math.prod(shape)
        header[weight] = {"dtype": "BF16", "shape": shape, "data_offsets": [first, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (path / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
    return path


def _weights(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, width = config["hidden_size"], config["head_dim"]
    queries, keys = (
        config[name] * width for name in ("num_attention_heads", "num_key_value_heads")
    )
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
        yield f"{prefix}.self_attn.q_proj.weight", (queries, hidden)
        yield f"{prefix}.self_attn.k_proj.weight", (keys, hidden)
        yield f"{prefix}.self_attn.v_proj.weight", (keys, hidden)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, queries)
        if "num_experts" not in config:
            yield from _gated(f"{prefix}.mlp", hidden, config["intermediate_size"])
            continue
        yield f"{prefix}.self_attn.q_norm.weight", (width,)
        yield f"{prefix}.self_attn.k_norm.weight", (width,)
        yield f"{prefix}.mlp.gate.weight", (config["num_experts"], hidden)
        for expert in range(config["num_experts"]):
            inner = config["moe_intermediate_size"]
            yield from _gated(f"{prefix}.mlp.experts.{expert}", hidden, inner)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (config["vocab_size"], hidden)


def _gated(prefix: str, hidden: int, inner: int) -> Iterator[tuple[str, tuple[int, int]]]:
    yield f"{prefix}.gate_proj.weight", (inner, hidden)
    yield f"{prefix}.up_proj.weight", (inner, hidden)
    yield f"{prefix}.down_proj.weight", (hidden, inner)


@dataclass(frozen=True)
class Setting:
    """How a shape is compiled: `context` positions are there before the token that is timed."""

    shape: str
    scheme: str
    context: int
    max_batch: int
    prefill: int
    tiles: Path | None = None

    @property
    def pages(self) -> int:
        """Of one sequence."""
        return -(-self.length // 64)

    @property
    def length(self) -> int:
        return max(self.context, self.prefill) + 64


def make_plan(folder: Path, setting: Setting, arch: int) -> LaunchPlan:
    recipe = make_recipe(
        None,
        {
            "target": f"cuda:sm{arch}",
            "quant": setting.scheme,
            "context_length": str(setting.length),
            "cuda_max_batch": setting.max_batch,
            "cuda_prefill_chunk": setting.prefill,
        },
    )
    return tune_source(make_source(folder, setting.shape), recipe).plan


def compile_kernels(
    plan: LaunchPlan, arch: int, folder: Path, setting: Setting
) -> dict[str, Variant]:
    """Compile a plan's kernels, several at a time; returns them as they were tiled."""
    from modelc.targets.cuda.tile_table import table_with

    tokens, table = launched_tokens(plan), table_with(setting.tiles)
    variants = {
        key: tiled(variant, arch, tokens=tokens[key][1], table=table)
        for key, variant in plan.variants.items()
    }
    every = list({variant.key: variant for variant in variants.values()}.values())
    # Under their own keys as well, by which one alone is timed.
    cubins, dropped = compile_tiles(every, arch, folder / f"sm{arch}", workdir=folder)
    if dropped:
        raise SystemExit(f"kernels are missing: {dropped}")
    named = {**variants, **{variant.key: variant for variant in every}}
    save_kernels(named, cubins, folder / f"sm{arch}" / FILE)
    return variants


def load(plan: LaunchPlan, engine: Engine, pages: int, folder: Path) -> Executor:
    """Return a plan on an engine, with random weights."""
    empty = folder / "none.safetensors"
    empty.unlink(missing_ok=True)
    write_weights({}, empty)
    without = allocate(replace(plan, weights={}), empty, engine.device, pages)
    memory: Memory = replace(without, weights=random_weights(plan, engine.device))
    return Executor(plan, memory, engine)


def random_weights(plan: LaunchPlan, device: str) -> dict[str, Any]:
    used = {
        name: parameter
        for function in plan.functions
        for call in function.calls
        for parameter, name in call.tensors.items()
        if name in plan.weights
    }
    weights = {}
    for name, facts in plan.weights.items():
        weights[name] = random_tensor(used.get(name, "w"), facts.type, facts.shape, device)
        if facts.type in ("bf16", "fp16") and used.get(name) in ("w", "table"):
            weights[name] *= _SPREAD
    return weights

"""Small random Hugging Face models of every architecture and rope kind, saved as folders.

`IDS` lists all of them, `GGUF_IDS` those that a GGUF file can express.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

SENTENCES = [
    "In the beginning God created the heaven and the earth.",
    "And the earth was without form, and void; and darkness was upon the face of the deep.",
    "The quick brown fox jumps over the lazy dog 1234567890 times!",
    "def main(argument):\n    return [number * 2 for number in range(10)]\n",
    "Größe, naïve café, 東京タワー, Привет мир, 🙂🚀",
] * 3

CONTEXT, ORIGINAL_CONTEXT, HEAD_DIM, VOCAB = 256, 64, 16, 384
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 12},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "gemma2": {
        "head_dim": HEAD_DIM,
        "query_pre_attn_scalar": HEAD_DIM,
        "sliding_window": 12,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 10.0,
        "tie_word_embeddings": True,
    },
    "phi3": {"sliding_window": None},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 64,
    },
    "qwen3_moe": {
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 32,
        "norm_topk_prob": True,
        "head_dim": 32,
    },
}
# Their ropes are those of the dense ones.
EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe")


def _growing(start: float, step: float, count: int) -> list[float]:
    return [start + step * index for index in range(count)]


def _rope(kind: str, dim: int) -> dict[str, Any]:
    """Rope parameters of a kind for a rotated width of `dim`."""
    original = {"original_max_position_embeddings": ORIGINAL_CONTEXT}
    factors = {
        "short_factor": _growing(1.0, 0.1, dim // 2),
        "long_factor": _growing(1.5, 0.6, dim // 2),
    }
    kinds: dict[str, dict[str, Any]] = {
        "default": {},
        "linear": {"factor": 4.0},
        "llama3": {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **original},
        "yarn": {"factor": 4.0, **original},
        "longrope": {**factors, **original},
    }
    return {"rope_type": kind, "rope_theta": 10000.0, **kinds[kind]}


def _rows() -> dict[str, tuple[str, dict[str, Any]]]:
    rows: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, settings in ARCHITECTURES.items():
        kinds = ["default", "linear", "llama3", "yarn", "longrope"]
        if name in EXPERTS:
            kinds = ["default"]
        for kind in ["default", "longrope"] if name == "phi3" else kinds:
            rope = _rope(kind, settings.get("head_dim", HEAD_DIM))
            identity = name if kind == "default" else f"{name}-{kind}"
            rows[identity] = (name, {**settings, "rope_parameters": rope})
    yarn, longrope = _rope("yarn", HEAD_DIM), _rope("longrope", HEAD_DIM)
    qwen2_window = {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1}
    gemma2 = ARCHITECTURES["gemma2"]
    rows |= {
        "llama-theta": ("llama", {"rope_parameters": {**_rope("default", 0), "rope_theta": 5e5}}),
        "llama-bias": ("llama", {"attention_bias": True, "mlp_bias": True}),
        "llama-tied": ("llama", {"tie_word_embeddings": True}),
        "llama-head_dim": ("llama", {"head_dim": 32}),
        "llama-mha": ("llama", {"num_key_value_heads": 4}),
        "llama-yarn-attention_factor": (
            "llama",
            {"rope_parameters": {**yarn, "attention_factor": 0.7, "beta_fast": 16.0}},
        ),
        "llama-yarn-mscale": (
            "llama",
            {"rope_parameters": {**yarn, "mscale": 0.8, "mscale_all_dim": 0.5}},
        ),
        "llama-yarn-smooth": ("llama", {"rope_parameters": {**yarn, "truncate": False}}),
        "llama-longrope-attention_factor": (
            "llama",
            {"rope_parameters": {**longrope, "attention_factor": 1.3}},
        ),
        "mistral-full": ("mistral", {"sliding_window": None}),
        "qwen2-window": ("qwen2", qwen2_window),
        "qwen3-window": ("qwen3", {**qwen2_window, "attention_bias": True}),
        "gemma2-scalar": ("gemma2", {**gemma2, "query_pre_attn_scalar": 24}),
        "phi3-window": ("phi3", {"sliding_window": 12}),
        "mixtral-window": ("mixtral", {**ARCHITECTURES["mixtral"], "sliding_window": 12}),
        "qwen2_moe-normalised": (
            "qwen2_moe",
            {**ARCHITECTURES["qwen2_moe"], "norm_topk_prob": True, "qkv_bias": False},
        ),
        "qwen2_moe-some_layers": (
            "qwen2_moe",
            {
                **ARCHITECTURES["qwen2_moe"],
                "num_hidden_layers": 4,
                "decoder_sparse_step": 2,
                "mlp_only_layers": [3],
                "use_sliding_window": True,
                "sliding_window": 12,
                "max_window_layers": 3,
            },
        ),
        "qwen3_moe-raw": (
            "qwen3_moe",
            {**ARCHITECTURES["qwen3_moe"], "norm_topk_prob": False, "mlp_only_layers": [0]},
        ),
        "phi3-partial": (
            "phi3",
            {
                "head_dim": HEAD_DIM,
                "rope_parameters": {**_rope("default", 0), "partial_rotary_factor": 0.5},
            },
        ),
        "phi3-partial-longrope": (
            "phi3",
            {"rope_parameters": {**_rope("longrope", 8), "partial_rotary_factor": 0.5}},
        ),
    }
    return rows


_ROWS = _rows()
IDS = list(_ROWS)
# A GGUF has no key for an untruncated yarn ramp, nor for what llama.cpp takes for granted in
# mixtures of experts.
NOT_GGUF = (
    "llama-yarn-smooth",
    "qwen2_moe-normalised",
    "qwen2_moe-some_layers",
    "qwen3_moe-raw",
)
GGUF_IDS = [identity for identity in IDS if identity not in NOT_GGUF]


def config(identity: str) -> Any:
    """Return the transformers configuration of a model."""
    from transformers import AutoConfig

    name, settings = _ROWS[identity]
    settings = {**SIZES, **settings}
    if name == "phi3":
        settings["original_max_position_embeddings"] = ORIGINAL_CONTEXT
    return AutoConfig.for_model(name, **settings)


def model(identity: str) -> Any:
    """Return a float32 transformers model with weights large enough to tell errors apart."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(IDS.index(identity))
    made = AutoModelForCausalLM.from_config(config(identity), attn_implementation="eager")
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("norm.weight"):
                centre = 0.0 if identity.startswith("gemma2") else 1.0
                parameter.copy_(centre + 0.2 * torch.randn_like(parameter))
            elif name.endswith(".bias"):
                parameter.copy_(0.2 * torch.randn_like(parameter))
            else:
                parameter.copy_(0.15 * torch.randn_like(parameter))
    return made.float().eval()


def make(identity: str, folder: Path) -> Path:
    """Save a random model with a tiny tokenizer into `folder`, and return the folder."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model(identity).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@cache
def tokenizer() -> Any:
    """Return a byte-level BPE tokenizer trained on `SENTENCES`, fewer tokens than `VOCAB`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 16,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(SENTENCES, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=(
            "{% for message in messages %}{{ bos_token if loop.first }}"
            "{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
        ),
    )

"""Measure the files that ship: held-out perplexity and sample text of fp16 and the GGUF files.

    python evaluate.py [--model llama|qwen3] [--folder FOLDER]

Needs torch, transformers, tokenizers and gguf. The GGUF files are dequantised, so the figures show
what the weights lost and nothing else; all arithmetic is float32. Writes ``figures.json``.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import gguf
import numpy as np
import torch
from models import EXAMPLES, MODELS
from torch import Tensor
from train import mean_loss, windows
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedModel

PROMPTS = ("In the beginning", "And the LORD said unto Moses,", "Blessed are they that")
NEW_TOKENS = 60
TEXTS = EXAMPLES / "tiny-llm"


def load_gguf(path: Path, folder: Path) -> LlamaForCausalLM:
    """Dequantise a GGUF file of llama into the float32 model that ``folder`` configures."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    heads = {
        "q_proj.weight": model.config.num_attention_heads,
        "k_proj.weight": model.config.num_key_value_heads,
    }
    stored = {
        t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors
    }
    state: dict[str, Tensor] = {}
    for name in model.state_dict():
        weight = stored.pop(names.get_name(name, try_suffixes=(".weight",)))
        suffix = ".".join(name.split(".")[-2:])
        if suffix in heads:
            pairs = weight.reshape(heads[suffix], -1, 2, weight.shape[1])
            weight = pairs.swapaxes(1, 2).reshape(weight.shape)
        state[name] = torch.from_numpy(np.array(weight, dtype=np.float32))
    if stored:
        raise ValueError(f"tensors without a place: {sorted(stored)}")
    model.load_state_dict(state)
    return model


@torch.inference_mode()
def top1(model: PreTrainedModel, parts: list[Tensor]) -> Tensor:
    """The most likely next token at every position of ``windows``."""
    found = [model(input_ids=p[None, :-1], use_cache=False).logits[0].argmax(-1) for p in parts]
    return torch.cat(found)


def main() -> None:
    """Measure, print and write ``figures.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="llama")
    parser.add_argument("--folder", type=Path, help="instead of the model's own")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shape = MODELS[options.model]
    folder: Path = options.folder or shape.folder
    tokenizer = AutoTokenizer.from_pretrained(folder / "hf")
    text = (TEXTS / "heldout.txt").read_text(encoding="utf-8")
    parts = windows(tokenizer.backend_tokenizer, text, shape.context)
    tokens = sum(len(part) - 1 for part in parts)
    models = {
        "fp16": AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=torch.float32),
        **{k: load_gguf(folder / f"{shape.name}-{k}.gguf", folder / "hf") for k in shape.gguf},
    }
    wanted = top1(models["fp16"], parts)
    figures: dict[str, object] = {
        "parameters": models["fp16"].num_parameters(),
        "heldout_tokens": tokens,
        "heldout_bytes": len(text.encode()),
    }
    for name, model in models.items():
        loss = mean_loss(model, parts)
        samples = {}
        for prompt in PROMPTS:
            inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
            greedy = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
            torch.manual_seed(1)
            drawn = model.generate(
                **inputs, max_new_tokens=NEW_TOKENS, do_sample=True, temperature=0.7, top_k=40
            )
            samples[prompt] = {
                "greedy": tokenizer.decode(greedy[0], skip_special_tokens=True),
                "temperature 0.7, top-k 40": tokenizer.decode(drawn[0], skip_special_tokens=True),
            }
        figures[name] = {
            "loss": round(loss, 5),
            "perplexity": round(math.exp(loss), 4),
            "bits_per_byte": round(loss * tokens / math.log(2) / len(text.encode()), 4),
            "top1_as_fp16": round((top1(model, parts) == wanted).float().mean().item(), 4),
            "samples": samples,
        }
    written = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
    (folder / "figures.json").write_text(written, encoding="utf-8")
    print(written)


if __name__ == "__main__":
    main()

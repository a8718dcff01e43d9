"""Write the files that ship from a training run: Hugging Face folder, GGUF files, texts, curve.

    python export.py --work WORK [--model llama|qwen3] [--corpus UNPACKED_PACKAGES] [--out FOLDER]

Needs torch, transformers, tokenizers, safetensors and gguf. GGUF files are made from the fp16
weights of the Hugging Face folder. The texts are the same for all models; tiny-llm has them.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from corpus import read_corpus
from gguf_file import write_gguf
from models import BOS, BOS_ID, EOS, EOS_ID, MODELS, Model
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

# A base model, not tuned for dialogue: what was said so far is the text to go on with.
CHAT_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}{{- message['content'] }}{%- endfor %}"
)


def write_json(path: Path, value: object) -> None:
    """Write one JSON file, indented, with a newline at the end."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_huggingface(shape: Model, work: Path, folder: Path) -> None:
    """Write ``hf/`` from the best checkpoint: fp16 weights, configs and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    state = torch.load(work / "best.pt", weights_only=True)["model"]
    if shape.config.tie_word_embeddings:
        del state["lm_head.weight"]  # the embedding
    weights = {name: value.to(torch.float16).numpy() for name, value in state.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = copy.deepcopy(shape.config)
    config.architectures = [type(AutoModelForCausalLM.from_config(config)).__name__]
    config.dtype = torch.float16
    config.save_pretrained(folder)
    write_json(
        folder / "generation_config.json",
        {"_from_model_config": True, "bos_token_id": BOS_ID, "eos_token_id": EOS_ID},
    )
    shutil.copyfile(work / "tokenizer.json", folder / "tokenizer.json")
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": EOS,
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": shape.context,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def write_curve(table: Path, path: Path) -> None:
    """Draw the losses in ``loss.csv`` as an SVG file."""
    with table.open(newline="") as file:
        rows = [
            (int(r["step"]), float(r["train_loss"]), float(r["heldout_loss"]))
            for r in csv.DictReader(file)
        ]
    width, height, left, bottom, top = 720, 400, 60, 350, 30
    last = max(row[0] for row in rows)
    low = int(min(min(row[1:]) for row in rows))
    high = int(max(max(row[1:]) for row in rows)) + 1

    def x(step: float) -> float:
        return left + (width - left - 30) * step / last

    def y(loss: float) -> float:
        return bottom - (bottom - top) * (loss - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for loss in range(low, high + 1):
        parts.append(f'<path d="M{left} {y(loss):.1f}H{width - 30}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss}</text>')
    for step in np.linspace(0, last, 5):
        place = f'x="{x(step):.1f}" y="{bottom + 20}"'
        parts.append(f'<text {place} text-anchor="middle">{step:.0f}</text>')
    for column, colour, label in ((1, "#c60", "training"), (2, "#05a", "held out")):
        points = " ".join(f"{x(row[0]):.1f},{y(row[column]):.1f}" for row in rows)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        place = f'x="{width - 40}" y="{top + 18 * column}"'
        parts.append(f'<text {place} text-anchor="end" fill="{colour}">{label}</text>')
    parts.append(f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">step</text>')
    parts.append(f'<text x="{left}" y="18">loss, nats per token</text></svg>')
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder that train.py wrote")
    parser.add_argument("--model", choices=MODELS, default="llama")
    parser.add_argument("--corpus", type=Path, help="folder with the unpacked Debian packages")
    parser.add_argument("--out", type=Path, help="instead of the model's own folder")
    options = parser.parse_args()
    shape = MODELS[options.model]
    out: Path = options.out or shape.folder
    write_huggingface(shape, options.work, out / "hf")
    for kind in shape.gguf:
        path = out / f"{shape.name}-{kind}.gguf"
        write_gguf(out / "hf", path, kind, shape.name, shape.size)
    if shape.texts:
        corpus = read_corpus(options.corpus)
        (out / "heldout.txt").write_text(corpus.held_out_text, encoding="utf-8")
        (out / "calibration.txt").write_text(corpus.calibration_text, encoding="utf-8")
    shutil.copyfile(options.work / "loss.csv", out / "loss.csv")
    write_curve(out / "loss.csv", out / "loss.svg")


if __name__ == "__main__":
    main()

"""Write the files that ship from a training run: Hugging Face folder, GGUF files, texts, curve.

    python export.py --work WORK [--corpus UNPACKED_PACKAGES] [--out FOLDER]

Needs torch, transformers, tokenizers, safetensors and gguf. Both GGUF files are made from the
fp16 weights of the Hugging Face folder, under the conventions of llama.cpp's converter: rows of
q and k permuted (rotation of neighbouring pairs), norms in F32, token types, merges and hparams.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
from corpus import read_corpus
from safetensors.numpy import load_file, save_file
from train import BOS, BOS_ID, CONTEXT, EOS, EOS_ID, model_config

NAME = "tiny-llm"
# A base model, not tuned for dialogue: what was said so far is the text to go on with.
CHAT_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}{{- message['content'] }}{%- endfor %}"
)
Q4_0, Q8_0, F32 = (
    gguf.GGMLQuantizationType.Q4_0,
    gguf.GGMLQuantizationType.Q8_0,
    gguf.GGMLQuantizationType.F32,
)


def write_json(path: Path, value: object) -> None:
    """Write one JSON file, indented, with a newline at the end."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_huggingface(work: Path, folder: Path) -> None:
    """Write ``hf/`` from the best checkpoint: fp16 weights, configs and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    state = torch.load(work / "best.pt", weights_only=True)["model"]
    weights = {name: value.to(torch.float16).numpy() for name, value in state.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = model_config()
    config.architectures = ["LlamaForCausalLM"]
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
            "model_max_length": CONTEXT,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder the rows of q or k from halves (Hugging Face) to neighbouring pairs (llama.cpp)."""
    rows, columns = weight.shape
    return (
        weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )


def add_hparams(writer: gguf.GGUFWriter, config: dict) -> None:
    """Write the ``general.*`` and ``llama.*`` keys."""
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(NAME)
    writer.add_basename(NAME)
    writer.add_size_label("6.5M")
    writer.add_license("cc0-1.0")
    writer.add_description("A small decoder trained on the King James Version of the Bible")
    writer.add_languages(["en"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])


def add_tokenizer(writer: gguf.GGUFWriter, folder: Path) -> None:
    """Write the ``tokenizer.*`` keys from ``tokenizer.json``."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    types = [gguf.TokenType.CONTROL if t in (BOS, EOS) else gguf.TokenType.NORMAL for t in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(BOS_ID)
    writer.add_eos_token_id(EOS_ID)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def write_gguf(
    folder: Path, path: Path, kind: gguf.GGMLQuantizationType, file_type: gguf.LlamaFileType
) -> None:
    """Quantise the model in ``folder`` to one GGUF file; embedding and head are always Q8_0."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = {
        "q_proj.weight": config["num_attention_heads"],
        "k_proj.weight": config["num_key_value_heads"],
    }
    writer = gguf.GGUFWriter(path, "llama")
    add_hparams(writer, config)
    writer.add_file_type(file_type)
    add_tokenizer(writer, folder)
    for name, stored in load_file(folder / "model.safetensors").items():
        target = names.get_name(name, try_suffixes=(".weight",))
        weight = stored.astype(np.float32)
        suffix = ".".join(name.split(".")[-2:])
        if suffix in heads:
            weight = permute(weight, heads[suffix])
        if weight.ndim == 1:
            how = F32
        elif target in ("token_embd.weight", "output.weight"):
            how = Q8_0
        else:
            how = kind
        writer.add_tensor(target, gguf.quants.quantize(weight, how), raw_dtype=how)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


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
    parser.add_argument("--corpus", type=Path, help="folder with the unpacked Debian packages")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    out: Path = options.out
    write_huggingface(options.work, out / "hf")
    file_types = gguf.LlamaFileType
    write_gguf(out / "hf", out / f"{NAME}-q8_0.gguf", Q8_0, file_types.MOSTLY_Q8_0)
    write_gguf(out / "hf", out / f"{NAME}-q4_0.gguf", Q4_0, file_types.MOSTLY_Q4_0)
    corpus = read_corpus(options.corpus)
    (out / "heldout.txt").write_text(corpus.held_out_text, encoding="utf-8")
    (out / "calibration.txt").write_text(corpus.calibration_text, encoding="utf-8")
    shutil.copyfile(options.work / "loss.csv", out / "loss.csv")
    write_curve(out / "loss.csv", out / "loss.svg")


if __name__ == "__main__":
    main()

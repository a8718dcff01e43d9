"""Train a small decoder and its tokenizer on two CPU cores.

    python train.py --work WORK [--model llama|qwen3] [--corpus UNPACKED_PACKAGES] [--steps N]
    python export.py --work WORK [--model llama|qwen3]

Needs torch, transformers and tokenizers. ``WORK`` receives ``tokenizer.json``, ``loss.csv``,
``best.pt`` (the weights with the lowest held-out loss so far) and ``last.pt`` (from which a
killed run goes on when the same command is repeated). A ``tokenizer.json`` XX
used. ``export.py`` writes the files that ship.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import torch
from corpus import Chapter, Corpus, read_corpus
from models import BOS, BOS_ID, EOS, EOS_ID, MODELS, VOCABULARY, Model
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

SEED = 1611
WARM_UP = 100
PEAK_RATE = 2e-3
FINAL_RATE = 5e-5
WEIGHT_DECAY = 0.1
DROPOUT = 0.1
EVALUATE_EVERY = 100


def train_tokenizer(chapters: tuple[Chapter, ...]) -> Tokenizer:
    """Train a byte-level BPE tokenizer with GPT-2's pre-tokenizer; it puts <bos> first."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((chapter.text for chapter in chapters), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, BOS_ID)]
    )
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"the tokenizer has {tokenizer.get_vocab_size()} tokens")
    return tokenizer


class Crops:
    """Random crops of the training text, each starting with <bos> at the start of a verse.

    Chapters follow each other as ``verses <eos> <bos> verses <eos> ...``; ``batch(step)`` depends
    on nothing but the step, so that a run that was killed goes on as if it had not been.
    """

    def __init__(self, chapters: tuple[Chapter, ...], tokenizer: Tokenizer, shape: Model) -> None:
        """Encode all chapters into one stream and note where the verses start."""
        stream: list[int] = []
        starts: list[int] = []
        for chapter in chapters:
            stream.append(BOS_ID)
            for verse in chapter.verses:
                starts.append(len(stream))
                stream += tokenizer.encode(f"{verse}\n", add_special_tokens=False).ids
            stream.append(EOS_ID)
        self.batch_size, self.context = shape.batch, shape.context
        self.stream = torch.tensor(stream)
        self.starts = torch.tensor(
            [start for start in starts if start + shape.context <= len(stream)]
        )

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of one step, ``[batch, context]`` each."""
        generator = torch.Generator().manual_seed(SEED * 1_000_003 + step)
        picks = torch.randint(len(self.starts), (self.batch_size,), generator=generator)
        offsets = self.starts[picks, None] + torch.arange(self.context)
        targets = self.stream[offsets]
        first = torch.full((self.batch_size, 1), BOS_ID)
        return torch.cat([first, targets[:, :-1]], dim=1), targets


def windows(tokenizer: Tokenizer, text: str, context: int) -> list[Tensor]:
    """Cut a text into consecutive runs of at most ``context - 1`` tokens, each led by <bos>."""
    ids = torch.tensor(tokenizer.encode(text, add_special_tokens=False).ids)
    return [torch.cat([torch.tensor([BOS_ID]), part]) for part in ids.split(context - 1)]


@torch.inference_mode()
def mean_loss(model: nn.Module, parts: list[Tensor]) -> float:
    """Mean negative log-likelihood (nats per token) of ``windows``, in the model's own type."""
    total, count = 0.0, 0
    for part in parts:
        logits = model(input_ids=part[None, :-1], use_cache=False).logits[0].float()
        total += nn.functional.cross_entropy(logits, part[1:], reduction="sum").item()
        count += len(part) - 1
    return total / count


def add_dropout(model: PreTrainedModel, rate: float) -> None:
    """Drop out what each attention and each MLP adds to the residual stream (training only)."""
    dropout = nn.functional.dropout

    def on_attention(module: nn.Module, _: object, output: tuple[Tensor, ...]) -> object:
        return (dropout(output[0], rate, module.training), *output[1:])

    def on_mlp(module: nn.Module, _: object, output: Tensor) -> Tensor:
        return dropout(output, rate, module.training)

    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(on_attention)
        layer.mlp.register_forward_hook(on_mlp)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine from ``PEAK_RATE`` to ``FINAL_RATE``."""
    if step < WARM_UP:
        return PEAK_RATE * (step + 1) / WARM_UP
    done = (step - WARM_UP) / max(1, steps - WARM_UP)
    return FINAL_RATE + (PEAK_RATE - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(model: nn.Module) -> torch.optim.AdamW:
    """AdamW; only matrices decay, norms do not."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)


def save(path: Path, state: dict[str, object]) -> None:
    """Write a checkpoint so that a kill leaves either the old file or the new one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def train(shape: Model, corpus: Corpus, tokenizer: Tokenizer, work: Path, steps: int) -> None:
    """Train the model, log to ``loss.csv`` and keep ``best.pt`` and ``last.pt`` in ``work``."""
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(shape.config)
    add_dropout(model, DROPOUT)
    optimizer = make_optimizer(model)
    crops = Crops(corpus.train, tokenizer, shape)
    held_out = windows(tokenizer, corpus.held_out_text, shape.context)
    print(
        f"{sum(p.numel() for p in model.parameters())} parameters; training tokens "
        f"{len(crops.stream)}; held-out tokens {sum(len(w) - 1 for w in held_out)}",
        flush=True,
    )
    first, best = 0, math.inf
    if (work / "last.pt").exists():
        last = torch.load(work / "last.pt", weights_only=True)
        model.load_state_dict(last["model"])
        optimizer.load_state_dict(last["optimizer"])
        first, best = last["step"], last["best"]
    else:
        (work / "loss.csv").write_text("step,train_loss,heldout_loss\n")

    forward = torch.compile(model)
    recent: list[float] = []
    began = time.monotonic()
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        inputs, targets = crops.batch(step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = forward(input_ids=inputs, use_cache=False).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        done = step + 1
        if done % 10 == 0:
            print(f"step {done} loss {recent[-1]:.4f} {time.monotonic() - began:.0f} s", flush=True)
        if done % EVALUATE_EVERY and done != steps:
            continue
        model.eval()
        heard = mean_loss(model, held_out)
        model.train()
        train_loss = sum(recent) / len(recent)
        recent.clear()
        with (work / "loss.csv").open("a", newline="") as file:
            csv.writer(file).writerow([done, f"{train_loss:.4f}", f"{heard:.4f}"])
        print(f"step {done} train {train_loss:.4f} held out {heard:.4f}", flush=True)
        if heard < best:
            best = heard
            save(work / "best.pt", {"model": model.state_dict(), "step": done, "held_out": heard})
        save(
            work / "last.pt",
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": done,
                "best": best,
            },
        )


def main() -> None:
    """Read the corpus, train the tokenizer and the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and log")
    parser.add_argument("--corpus", type=Path, help="folder with the unpacked Debian packages")
    parser.add_argument("--model", choices=MODELS, default="llama")
    parser.add_argument("--steps", type=int, help="instead of the model's own number")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    corpus = read_corpus(options.corpus)
    path = options.work / "tokenizer.json"
    if not path.exists():
        train_tokenizer(corpus.train).save(str(path))
    shape = MODELS[options.model]
    steps = options.steps or shape.steps
    train(shape, corpus, Tokenizer.from_file(str(path)), options.work, steps)


if __name__ == "__main__":
    main()

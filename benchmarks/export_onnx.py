"""A Hugging Face decoder as a plain ONNX file of one length, for peers that start from ONNX.

    python benchmarks/export_onnx.py FOLDER FILE.onnx LENGTH

As Qualcomm's own recipes export decoders for HTP: rotary tables are constants, and the mask adds
a moderate number, for neither would survive 16-bit activations otherwise. Needs torch and
transformers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

MASKED = -50.0


class Tables(nn.Module):
    """Rotary cos and sin of all positions, in place of the module that computes them."""

    def __init__(self, rotary: nn.Module, length: int) -> None:
        super().__init__()
        cos, sin = rotary(torch.zeros(1), torch.arange(length)[None])
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        return self.cos, self.sin


class Prefill(nn.Module):
    """Token ids [1, length] to logits [1, length, vocab], without a cache."""

    def __init__(self, decoder: nn.Module, length: int) -> None:
        super().__init__()
        self.model, self.lm_head = decoder.model, decoder.lm_head
        # A tied head is quantised apart from the embedding.
        self.lm_head.weight = nn.Parameter(self.lm_head.weight.clone())
        self.model.rotary_emb = Tables(self.model.rotary_emb, length)
        mask = torch.full((length, length), MASKED).triu(1)
        self.register_buffer("mask", mask[None, None])

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.model(input_ids=input_ids, attention_mask=self.mask, use_cache=False)
        return self.lm_head(hidden.last_hidden_state)


@torch.no_grad()
def export(folder: Path, path: Path, length: int) -> None:
    decoder = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    torch.onnx.export(
        Prefill(decoder.eval(), length),
        (torch.arange(length)[None],),
        path,
        input_names=["input_ids"],
        output_names=["logits"],
        opset_version=18,
        dynamo=True,
        external_data=False,
    )


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

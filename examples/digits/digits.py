"""The network as a PyTorch source: a mobile CNN in small.

    modelc compile digits.py:build --dim batch=20 --target snapdragon-8gen3

Needs torch and safetensors. It takes images [batch, 1, 8, 8] of 0 to 1 and gives a logit for each
digit. The blocks are MobileNetV2's (Sandler et al., 2018): a 1x1 convolution widens, a depthwise
one mixes places, a 1x1 one narrows, and what fits is added to the input.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("digits.safetensors")
EXPANSION = 4


class Convolution(nn.Sequential):
    """A convolution with batch normalisation, and ReLU6 unless it is linear."""

    def __init__(
        self,
        channels: int,
        made: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        layers = [
            nn.Conv2d(channels, made, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(made),
        ]
        super().__init__(*layers, *([] if linear else [nn.ReLU6()]))


class InvertedResidual(nn.Module):
    """Widen, depthwise, narrow; added to the input if it has the same shape."""

    def __init__(self, channels: int, made: int, stride: int) -> None:
        super().__init__()
        wide = channels * EXPANSION
        self.widen = Convolution(channels, wide, 1)
        self.depthwise = Convolution(wide, wide, 3, stride, groups=wide)
        self.narrow = Convolution(wide, made, 1, linear=True)
        self.is_residual = stride == 1 and channels == made

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.narrow(self.depthwise(self.widen(x)))
        return x + y if self.is_residual else y


class Digits(nn.Module):
    """x float32 [batch, 1, 8, 8] to logits float32 [batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(1, 16, 3)
        self.blocks = nn.Sequential(
            InvertedResidual(16, 16, 1),
            InvertedResidual(16, 32, 2),
            InvertedResidual(32, 32, 1),
        )
        self.head = Convolution(32, 128, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.pool(self.head(self.blocks(self.stem(x)))).flatten(1)
        return {"logits": self.classifier(self.dropout(y))}


def build() -> nn.Module:
    """Return the trained network."""
    from safetensors.torch import load_file

    network = Digits()
    network.load_state_dict(load_file(WEIGHTS))
    return network.eval()


def example_inputs(batch: int = 1) -> dict[str, Tensor]:
    """Return what the network is exported with."""
    return {"x": torch.zeros(batch, 1, 8, 8)}

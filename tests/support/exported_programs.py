"""Archives that torch.export.save writes, and the same edited by a stranger."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Parts = dict[str, bytes]
"""Contents of an archive's entries, by their paths under its one folder."""

PROGRAM = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SAMPLES = "data/sample_inputs/model.pt"


def save_convolutions(path: Path) -> Any:
    """Save a convolutional network of fixed sizes, and return its module."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
            self.head = nn.Linear(8, 5)

        def forward(self, image: Any) -> Any:
            hidden = self.stem(image)
            pooled = nn.functional.adaptive_avg_pool2d(hidden, 1).flatten(1)
            return self.head(pooled), hidden

    torch.manual_seed(0)
    module = Net().eval()
    module.stem[1].running_mean.uniform_(-1, 1)
    torch.export.save(torch.export.export(module, (torch.rand(1, 3, 9, 9),)), path)
    return module


def save_block(path: Path) -> Any:
    """Save a transformer's block, and return its module: batch and length are open, the length a
    multiple of 2; buffers of both kinds, constants, keywords, a dict of results, a region without
    gradients."""
    import torch
    from torch import nn

    class Block(nn.Module):
        scale: torch.Tensor
        offset: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.norm = nn.LayerNorm(16)
            self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU("tanh"), nn.Linear(32, 16))
            self.register_buffer("scale", torch.rand(16))
            self.register_buffer("offset", torch.rand(16), persistent=False)
            self.weight = torch.rand(16)

        def forward(self, x: Any, *, mask: Any) -> Any:
            y = self.norm(x)
            x = x + self.attention(y, y, y, need_weights=False)[0] * self.scale
            batch, length, width = x.shape
            pairs = x.reshape(batch, length // 2, 2 * width).mean(-1)
            with torch.no_grad():
                doubled = x * 2
            x = (x + self.mlp(x) * self.weight + self.offset + torch.tensor([0.5])) * mask
            return {"states": x, "others": (pairs, doubled)}

    torch.manual_seed(1)
    module = Block().eval()
    batch, half = torch.export.Dim("batch", max=64), torch.export.Dim("half", min=2, max=512)
    sizes = {0: batch, 1: 2 * half}
    program = torch.export.export(
        module,
        (torch.rand(3, 6, 16),),
        {"mask": torch.ones(3, 6, 1)},
        dynamic_shapes={"x": sizes, "mask": sizes},
    )
    torch.export.save(program, path)
    return module


def read_parts(path: Path) -> Parts:
    """Return an archive's entries."""
    with zipfile.ZipFile(path) as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist()}


def write_parts(path: Path, parts: Parts, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write entries as an archive."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in parts.items():
            file.writestr(f"{path.stem}/{name}", content)
    return path


def change(parts: Parts, name: str, edit: Callable[[Any], None]) -> None:
    """Edit the JSON of an entry."""
    document = json.loads(parts[name])
    edit(document)
    parts[name] = json.dumps(document).encode()

"""Train the network on scikit-learn's digits and write every file that ships beside it.

    python train.py [--epochs N] [--out FOLDER]

Needs torch, scikit-learn, safetensors, onnx and onnxscript; a minute or two on two CPU cores. 1 257
images are trained on, 540 are held out (the same ones each time, digits evenly); training images
are moved, turned and scaled a little, anew each epoch. `calibration.npz` is 128 training images as
they are, `heldout.npz` the held-out ones as x with their digits as y.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from digits import Digits, example_inputs
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

SEED = 7
HELD_OUT = 540
CALIBRATION = 128
BATCH = 64
PEAK_RATE = 4e-3
WARM_UP = 0.1  # share of all steps
MOVED, TURNED, SCALED = 0.12, 0.15, 0.1  # of half the image, radians, share
OPSET = 18


def read_images() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images and digits to train on, and held-out ones; float32 [n, 1, 8, 8] of 0 to 1."""
    found = load_digits()
    images = (found.images / 16).astype(np.float32)[:, None]
    x, held_x, y, held_y = train_test_split(
        images, found.target, test_size=HELD_OUT, random_state=SEED, stratify=found.target
    )
    tensors = [torch.from_numpy(array) for array in (x, y, held_x, held_y)]
    return tensors[0], tensors[1], tensors[2], tensors[3]


def augment(x: Tensor) -> Tensor:
    """Move, turn and scale each image by chance."""
    count = len(x)
    turn = (torch.rand(count) * 2 - 1) * TURNED
    scale = 1 + (torch.rand(count) * 2 - 1) * SCALED
    move = (torch.rand(count, 2) * 2 - 1) * MOVED
    rows = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], 1).view(count, 2, 2)
    theta = torch.cat([rows * scale[:, None, None], move[:, :, None]], 2)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def train(network: Digits, x: Tensor, y: Tensor, epochs: int) -> None:
    """Train in place, with a rate that rises and falls as a cosine."""
    steps = epochs * math.ceil(len(x) / BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PEAK_RATE, total_steps=steps, pct_start=WARM_UP
    )
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = functional.cross_entropy(
                network(augment(x[rows]))["logits"], y[rows], label_smoothing=0.05
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * len(rows)
        print(f"epoch {epoch + 1}: loss {total / len(x):.4f}")
    network.eval()


@torch.inference_mode()
def right(network: nn.Module, x: Tensor, y: Tensor) -> int:
    """Return how many digits it reads."""
    return int((network(x)["logits"].argmax(1) == y).sum())


def export(network: Digits, path: Path) -> None:
    """Write the ONNX file: any batch, and batch normalisation as it is, for a compiler to fold."""
    torch.onnx.export(
        network,
        kwargs=example_inputs(2),
        f=path,
        dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
        output_names=["logits"],
        opset_version=OPSET,
        dynamo=True,
        optimize=False,
        external_data=False,
        verbose=False,
    )
    drop_traces(path)


def drop_traces(path: Path) -> None:
    """Drop what the exporter notes of this machine, and keep which module each node is from."""
    import onnx

    proto = onnx.load(path)
    holders = [proto, proto.graph, *proto.graph.node, *proto.graph.value_info]
    holders += [*proto.graph.input, *proto.graph.output, *proto.graph.initializer]
    for holder in holders:
        kept = [(p.key, p.value) for p in holder.metadata_props if p.key.endswith("name_scopes")]
        del holder.metadata_props[:]
        for key, value in kept:
            holder.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    x, y, held_x, held_y = read_images()
    network = Digits()
    train(network, x, y, options.epochs)
    print(f"{right(network, x, y)} of {len(x)} trained, "
          f"{right(network, held_x, held_y)} of {len(held_x)} held out")  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, options.out / "digits.safetensors")
    export(network, options.out / "digits.onnx")
    np.savez_compressed(options.out / "calibration.npz", x=x[:CALIBRATION].numpy())
    np.savez_compressed(options.out / "heldout.npz", x=held_x.numpy(), y=held_y.numpy())


if __name__ == "__main__":
    main()

"""What a context binary saves at start: a session made from the ONNX model, which HTP's compiler
then compiles, against one made from the binary of the same network.

    python benchmarks/context_cache.py [--runs N] [--target CHIPSET] [--effort 1|2|3] [--layers N]

Two networks with random weights: a CNN for 224x224 images and an encoder for 128 tokens. Every
session is made in a process of its own, in turn; medians of the time that making it takes, imports
left out. Both kinds then give the same outputs, which is checked. On this machine the binary is
loaded by the simulator: the seconds are not a device's. Needs modelc with onnxruntime-qnn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tables import machine, show

RANDOM = np.random.default_rng(0)
WIDTH, HEADS, TOKENS = 384, 12, 128


class Network:
    """A graph that grows by nodes with random weights."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, *shape: int, scale: float | None = None) -> str:
        name = f"w{len(self.weights)}"
        scale = scale if scale is not None else 1 / np.sqrt(np.prod(shape[1:]) or 1)
        array = (RANDOM.standard_normal(shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def shape(self, *sizes: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(sizes, np.int64), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def save(self, path: Path, inputs: dict[str, list[int]], output: str, size: list[int]) -> Path:
        self.nodes[-1].output[0] = output
        make = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [make(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [make(output, TensorProto.FLOAT, size)],
            self.weights,
        )
        opsets = [helper.make_opsetid("", 21)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))
        return path


def cnn(path: Path) -> Path:
    """Four stages of residual blocks, as ResNets have them."""
    net, x, width = Network(), "image", 3
    for stage, channels in enumerate((32, 64, 128, 256)):
        x = net.add("Conv", x, net.weight(channels, width, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
        width = channels
        for _ in range(1 + stage % 2):
            inner = net.add("Relu", x)
            for _ in range(2):
                inner = net.add("Conv", inner, net.weight(width, width, 3, 3), pads=[1, 1, 1, 1])
                inner = net.add("Relu", inner)
            x = net.add("Add", x, inner)
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    net.add("Gemm", x, net.weight(1000, width), transB=1)
    return net.save(path, {"image": [1, 3, 224, 224]}, "classes", [1, 1000])


def encoder(path: Path, layers: int) -> Path:
    """Layers of attention and two matrices, as small sentence encoders have them."""
    net, x = Network(), "tokens"

    def linear(value: str, size: int, inner: int) -> str:
        matrix = net.weight(inner, size, scale=1 / np.sqrt(inner))
        return net.add("Add", net.add("MatMul", value, matrix), net.weight(size, scale=0.02))

    def norm(value: str) -> str:
        scale, bias = net.weight(WIDTH, scale=1), net.weight(WIDTH, scale=0.02)
        return net.add("LayerNormalization", value, scale, bias, axis=-1)

    def heads(value: str, order: list[int]) -> str:
        split = net.add("Reshape", value, net.shape(1, TOKENS, HEADS, WIDTH // HEADS))
        return net.add("Transpose", split, perm=order)

    for _ in range(layers):
        query, key, value = (linear(x, WIDTH, WIDTH) for _ in range(3))
        scores = net.add("MatMul", heads(query, [0, 2, 1, 3]), heads(key, [0, 2, 3, 1]))
        scaled = net.add("Mul", scores, net.weight(1, scale=0.2))
        context = net.add("MatMul", net.add("Softmax", scaled, axis=-1), heads(value, [0, 2, 1, 3]))
        merged = net.add("Transpose", context, perm=[0, 2, 1, 3])
        merged = net.add("Reshape", merged, net.shape(1, TOKENS, WIDTH))
        x = norm(net.add("Add", x, linear(merged, WIDTH, WIDTH)))
        wide = net.add("Gelu", linear(x, 4 * WIDTH, WIDTH))
        x = norm(net.add("Add", x, linear(wide, WIDTH, 4 * WIDTH)))
    return net.save(path, {"tokens": [1, TOKENS, WIDTH]}, "states", [1, TOKENS, WIDTH])


def child(job: dict[str, Any]) -> None:
    """Make one session and run it once; print what it took."""
    import os

    from modelc.targets.snapdragon.provider import open_session

    start = time.perf_counter()
    session = open_session(Path(job["model"]), options=job["options"])
    seconds = time.perf_counter() - start
    [port] = session.get_inputs()
    feed = np.random.default_rng(1).standard_normal(port.shape).astype(np.float32)
    [output] = session.run(None, {port.name: feed})
    np.save(job["output"], output)
    print(json.dumps({"seconds": seconds}), flush=True)
    os._exit(0)  # the vendor's libraries may crash in their static destructors


def seconds_of(model: Path, options: dict[str, str], output: Path) -> float:
    job = json.dumps({"model": str(model), "options": options, "output": str(output)})
    argv = (sys.executable, __file__, "--child", job)
    printed = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=output.parent)
    return float(json.loads(printed.stdout.splitlines()[-1])["seconds"])


def measure(
    name: str, model: Path, options: argparse.Namespace, folder: Path
) -> Iterator[list[str]]:
    from modelc.targets.snapdragon.chipsets import find_chipset
    from modelc.targets.snapdragon.compile import CompileOptions, provider_options
    from modelc.targets.snapdragon.network.compile import compile_network
    from modelc.targets.snapdragon.network.options import NetworkOptions

    chipset = find_chipset(options.target)
    how = CompileOptions(fp16=True, finalization=options.effort)
    made = compile_network(
        model,
        name,
        chipset,
        NetworkOptions(how),
        folder / "out" / f"{name}.bin",
        workdir=folder / "work",
        timeout_s=3600,
    )
    starts: dict[str, Callable[[], float]] = {
        "model": lambda: seconds_of(
            model, provider_options(chipset, how), folder / f"{name}.model.npy"
        ),
        "binary": lambda: seconds_of(made.wrapper, {}, folder / f"{name}.binary.npy"),
    }
    times: dict[str, list[float]] = {kind: [] for kind in starts}
    for _ in range(options.runs):
        for kind, start in starts.items():
            times[kind].append(start())
    model_s, binary_s = (statistics.median(times[kind]) for kind in ("model", "binary"))
    both = [np.load(folder / f"{name}.{kind}.npy") for kind in ("model", "binary")]
    same = "same" if np.array_equal(*both) else f"off by {np.abs(both[0] - both[1]).max():.1e}"
    sizes = [f"{path.stat().st_size / 1e6:.1f}" for path in (model, made.binary)]
    yield [name, f"{model_s:.2f}", f"{binary_s:.2f}", f"{1 - binary_s / model_s:.0%}", *sizes, same]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--target", default="snapdragon-8gen3")
    parser.add_argument("--effort", type=int, choices=(1, 2, 3), default=3)
    parser.add_argument("--layers", type=int, default=6, help="of the encoder")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(json.loads(options.child))
    print(machine())
    with tempfile.TemporaryDirectory(prefix="context-cache-") as scratch:
        folder = Path(scratch)
        rows = [
            *measure("cnn", cnn(folder / "cnn.onnx"), options, folder),
            *measure("encoder", encoder(folder / "encoder.onnx", options.layers), options, folder),
        ]
    show(
        f"seconds to make a session for {options.target}, fp16, effort {options.effort}; medians "
        f"of {options.runs} runs in turn",
        ["network", "from ONNX", "from the binary", "saved", "ONNX MB", "binary MB", "outputs"],
        rows,
    )


if __name__ == "__main__":
    main()

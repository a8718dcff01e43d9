"""Exported programs, read from their archives, compute what PyTorch's modules do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.exported_programs import PROGRAM, read_parts, save_block, save_convolutions
from support.onnx_sources import assert_canonical, assert_close, run_graph

from modelc.errors import BadInput, Where
from modelc.frontends.onnx.network import read_network, unresolved
from modelc.ir.provenance import module_of

torch = pytest.importorskip("torch", reason="needs PyTorch, which writes these archives")

BATCH, LENGTH = 2, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def block(folder: Path) -> tuple[Path, Any]:
    return folder / "block.pt2", save_block(folder / "block.pt2")


@pytest.fixture(scope="module")
def convolutions(folder: Path) -> tuple[Path, Any]:
    return folder / "net.pt2", save_convolutions(folder / "net.pt2")


def export(path: Path, dims: dict[str, int], output: Path) -> list[str]:
    """Export in this process, which has PyTorch loaded already."""
    from modelc.frontends.torch import export_worker

    job = {"source": {"archive": str(path)}, "output": str(output), "dims": dims}
    return list(export_worker.handle(job)["outputs"])


def symbols(path: Path) -> dict[str, int]:
    """A batch of 2 and a length of 8, half of which is the symbol, by their largest sizes."""
    ranges = json.loads(read_parts(path)[PROGRAM])["range_constraints"]
    sizes = {64: BATCH, 512: LENGTH // 2}
    return {name: sizes[row["max_val"]] for name, row in ranges.items() if row["max_val"] in sizes}


def test_a_convolutional_network(convolutions: tuple[Path, Any], tmp_path: Path) -> None:
    path, module = convolutions
    names = export(path, {}, tmp_path / "x.onnx")
    assert names == ["output_0", "output_1"]
    model = read_network(tmp_path / "x.onnx")
    assert_canonical(model)
    assert {"stem.0", "head"} <= {module_of(node) for node in model.graph}
    image = np.random.default_rng(0).standard_normal((1, 3, 9, 9)).astype(np.float32)
    with torch.inference_mode():
        want = module(torch.from_numpy(image))
    got = run_graph(model, {"image": image}, tmp_path)
    wanted = {name: tensor.numpy() for name, tensor in zip(names, want, strict=True)}
    assert_close(got, wanted, 1e-5)


def test_a_block_of_open_sizes(block: tuple[Path, Any], tmp_path: Path) -> None:
    path, module = block
    names = export(path, symbols(path), tmp_path / "x.onnx")
    assert names == ["states", "others_0", "others_1"]
    model = read_network(tmp_path / "x.onnx")
    assert_canonical(model)
    assert not unresolved(model)
    assert [value.name for value in model.graph.inputs] == ["x", "mask"]
    assert {"attention", "norm", "mlp.0", "mlp.2"} <= {module_of(node) for node in model.graph}
    rng = np.random.default_rng(1)
    feeds = {
        "x": rng.standard_normal((BATCH, LENGTH, 16)).astype(np.float32),
        "mask": rng.integers(0, 2, (BATCH, LENGTH, 1)).astype(np.float32),
    }
    with torch.inference_mode():
        want = module(torch.from_numpy(feeds["x"]), mask=torch.from_numpy(feeds["mask"]))
    wanted = dict(zip(names, (want["states"], *want["others"]), strict=True))
    got = run_graph(model, feeds, tmp_path)
    assert_close(got, {name: tensor.numpy() for name, tensor in wanted.items()}, 1e-5)


def test_a_program_in_memory_of_open_sizes(block: tuple[Path, Any]) -> None:
    """As a user's function gives it."""
    from modelc.frontends.torch import exported

    program = torch.export.load(block[0])
    example = exported.fix(program, symbols(block[0]), Where(path="net.py:build"))
    (x,) = (node for node in example.model.graph.nodes if node.name == "x")
    assert tuple(x.meta["val"].shape) == (BATCH, LENGTH, 16)
    with pytest.raises(BadInput, match="no open size 'batch'") as caught:
        exported.fix(program, {"batch": 2}, Where(path="net.py:build"))
    assert caught.value.where.path == "net.py:build"


def test_a_function_that_loads_a_program_of_open_sizes(
    block: tuple[Path, Any], tmp_path: Path
) -> None:
    from modelc.frontends.torch.user_code import build

    file = tmp_path / "loads.py"
    file.write_text(
        f"import torch\ndef build():\n    return torch.export.load({str(block[0])!r})\n"
    )
    with pytest.raises(BadInput, match="sizes are open: ") as caught:
        build(file, "build", {})
    assert caught.value.where.path == f"{file}:build"
    assert build(file, "build", symbols(block[0])).results is not None


class Counting(torch.nn.Module):
    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Any) -> Any:
        self.count.add_(1)
        return x * self.count


class Measuring(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x, x.shape[0]


class Selecting(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x[x > 0]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Counting(), "changes its input, weight or buffer"),
        (Measuring(), "gives a number"),
        (Selecting(), "depends on data: u0"),
        (torch.nn.Sequential(torch.nn.Dropout(0.5)).train(), "in the state for training"),
    ],
)
def test_programs_that_are_not_read(module: Any, message: str, tmp_path: Path) -> None:
    torch.export.save(torch.export.export(module, (torch.rand(3),)), tmp_path / "x.pt2")
    with pytest.raises(BadInput, match=message) as caught:
        export(tmp_path / "x.pt2", {}, tmp_path / "x.onnx")
    assert caught.value.hint


def test_what_pytorch_cannot_rebuild(convolutions: tuple[Path, Any], tmp_path: Path) -> None:
    """A weight of another shape than the program says is whole as an archive."""
    from support.exported_programs import WEIGHTS, change, write_parts

    parts = read_parts(convolutions[0])

    def drop(document: Any) -> None:
        del document["config"]["head.bias"]

    change(parts, WEIGHTS, drop)
    write_parts(tmp_path / "x.pt2", parts)
    with pytest.raises(BadInput, match="PyTorch can't rebuild the program") as caught:
        export(tmp_path / "x.pt2", {}, tmp_path / "x.onnx")
    assert "export_worker.log" in caught.value.hint

"""Exported models compute what PyTorch does, and know their modules."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.onnx_sources import assert_canonical, assert_close, run_graph

from modelc.errors import BadInput, Missing, ToolFailed
from modelc.frontends.onnx.network import network_files, read_network, unresolved
from modelc.frontends.torch.export import export_to_onnx
from modelc.frontends.torch.spec import BuilderSpec, parse_spec
from modelc.ir.provenance import module_of

CNN = """
import torch
from torch import nn
from beside import WIDTH

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.5)
    def forward(self, x):
        return x + self.drop(torch.relu(self.norm(self.conv(x))))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, WIDTH, 3)
        self.blocks = nn.Sequential(Block(WIDTH), Block(WIDTH))
        self.head = nn.Linear(WIDTH, 10)
    def forward(self, image, scale=None):
        hidden = self.blocks(self.stem(image)).mean((2, 3))
        return {"logits": self.head(hidden), "hidden": hidden}

def build():
    torch.manual_seed(0)
    return Net()

def example_inputs(batch=2):
    return (torch.zeros(batch, 1, 8, 8),)

def program():
    return torch.export.export(build().eval(), example_inputs())

def pair():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3)), {"input": torch.zeros(1, 4)}

def number():
    return 7

def broken():
    raise ZeroDivisionError("not today")

class Branching(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x + x.nonzero().shape[0]

def branching():
    return Branching(), (torch.ones(3),)
"""


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cnn")
    (folder / "net.py").write_text(CNN)
    (folder / "beside.py").write_text("WIDTH = 6\n")
    return folder / "net.py"


def test_a_function_that_builds_a_cnn(cnn: Path, tmp_path: Path) -> None:
    import torch

    spec = parse_spec(f"{cnn}:build")
    path = export_to_onnx(
        spec, tmp_path / "a" / "net.onnx", dims={"batch": 3}, workdir=tmp_path, timeout_s=300
    )
    assert {file.parent for file in network_files(path)} == {path.parent}
    model = read_network(path)
    assert_canonical(model)
    assert not unresolved(model)
    assert [value.name for value in model.graph.inputs] == ["image"]
    assert [value.name for value in model.graph.outputs] == ["logits", "hidden"]
    modules = {module_of(node) for node in model.graph}
    assert {"stem", "blocks.0.conv", "blocks.1.conv", "head"} <= modules
    assert "Dropout" not in {node.op_type for node in model.graph}

    image = np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)
    namespace = load(cnn)
    with torch.inference_mode():
        want = namespace["build"]().eval()(torch.from_numpy(image))
    got = run_graph(model, {"image": image}, path.parent)
    assert_close(got, {name: tensor.numpy() for name, tensor in want.items()}, 1e-5)
    assert str(cnn.parent) not in path.read_bytes().decode("latin-1"), "it names our files"


def load(file: Path) -> dict[str, Any]:
    import sys

    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location("net_of_test", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(file.parent))
    return vars(module)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=40,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bert")
    BertModel(config).save_pretrained(folder)
    return folder


def export_here(path: Path, dims: dict[str, int], **source: str) -> list[str]:
    """Export in this process, which has PyTorch loaded already."""
    from modelc.frontends.torch import export_worker

    reply = export_worker.handle({"source": source, "output": str(path), "dims": dims})
    return list(reply["outputs"])


def test_an_encoder_of_hugging_face(bert: Path, tmp_path: Path) -> None:
    import torch
    from transformers import BertModel

    path = tmp_path / "bert.onnx"
    names = export_here(path, {"batch": 2, "sequence": 12}, folder=str(bert))
    assert names == ["last_hidden_state", "pooler_output"]
    model = read_network(path)
    assert_canonical(model)
    assert {module_of(node) for node in model.graph} >= {
        "embeddings.word_embeddings",
        "encoder.layer.1.attention.self.query",
        "encoder.layer.0.output.LayerNorm",
        "pooler.dense",
    }
    rng = np.random.default_rng(1)
    mask = np.ones((2, 12), np.int64)
    mask[1, 7:] = 0
    feeds = {
        "input_ids": rng.integers(0, 50, (2, 12)),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, (2, 12)),
    }
    assert [value.name for value in model.graph.inputs] == list(feeds)
    with torch.inference_mode():
        made = BertModel.from_pretrained(bert).eval()(
            **{name: torch.from_numpy(array) for name, array in feeds.items()}
        )
    want = {name: made[name].numpy() for name in ("last_hidden_state", "pooler_output")}
    assert_close(run_graph(model, feeds, tmp_path), want, 1e-5)


def build(file: Path, function: str, **dims: int) -> Any:
    from modelc.frontends.torch.user_code import build

    return build(file, function, dims)


@pytest.mark.parametrize(
    ("function", "dims", "message", "hint"),
    [
        ("missing", {}, "has no function missing", "known"),
        ("number", {}, "number gives int", "return a torch.nn.Module"),
        ("broken", {}, "it raises ZeroDivisionError: not today", "export_worker.log"),
        ("build", {"bach": 2}, "example_inputs takes no size 'bach'", "did you mean batch"),
        ("pair", {"batch": 2}, "--dim batch has no effect", "example_inputs"),
        ("program", {"batch": 2}, "no open size 'batch'", "leave --dim batch out"),
    ],
)
def test_functions_that_do_not_serve(
    function: str, dims: dict[str, int], message: str, hint: str, cnn: Path
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        build(cnn, function, **dims)
    assert hint in caught.value.hint or hint == "known"
    assert caught.value.where.path == f"{cnn}:{function}"


def test_no_example_inputs(tmp_path: Path) -> None:
    file = tmp_path / "bare.py"
    file.write_text("import torch\ndef build():\n    return torch.nn.Linear(2, 2)\n")
    with pytest.raises(BadInput, match="no example inputs"):
        build(file, "build")
    file.write_text(file.read_text() + "example_inputs = 3\n")
    with pytest.raises(BadInput, match="the example inputs are int"):
        build(file, "build")
    file.write_text("def build(:\n")
    with pytest.raises(BadInput, match="SyntaxError"):
        build(file, "build")


def test_a_program_that_is_exported_already(cnn: Path, tmp_path: Path) -> None:
    path, names = tmp_path / "x.onnx", ["logits", "hidden"]
    assert export_here(path, {}, file=str(cnn), function="program") == names
    assert [value.name for value in read_network(path).graph.outputs] == names


def test_the_same_model_gives_the_same_file(cnn: Path, tmp_path: Path) -> None:
    digests = set()
    for _ in range(2):
        names = export_here(tmp_path / "x.onnx", {}, file=str(cnn), function="pair")
        assert names == ["output"]
        digests.add(hashlib.sha256((tmp_path / "x.onnx").read_bytes()).digest())
    assert len(digests) == 1


def test_what_pytorch_cannot_export(cnn: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="PyTorch can't export the model") as caught:
        export_here(tmp_path / "x.onnx", {}, file=str(cnn), function="branching")
    assert "export_worker.log" in caught.value.hint


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ({}, "sizes are open: batch, sequence"),
        ({"batch": 1, "sequence": 8, "samples": 3}, "no open size 'samples'"),
        ({"batch": 1, "sequence": 41}, "longer than the model's 40"),
        ({"batch": 1, "sequence": 0}, "sequence=0 is no size"),
    ],
)
def test_sizes_of_an_encoder(dims: dict[str, int], message: str, bert: Path) -> None:
    from modelc.frontends.torch import encoder

    with pytest.raises(BadInput, match=message) as caught:
        encoder.load(bert, dims)
    assert caught.value.hint


def test_a_damaged_folder(bert: Path, tmp_path: Path) -> None:
    from modelc.frontends.torch import encoder

    (tmp_path / "config.json").write_bytes((bert / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(BadInput, match="transformers can't load it"):
        encoder.load(tmp_path, {"batch": 1, "sequence": 8})


def test_pytorch_that_is_not_installed(
    cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Missing, match="torch is not installed") as caught:
        export_to_onnx(BuilderSpec(cnn, "build"), tmp_path / "x", workdir=tmp_path, timeout_s=9)
    assert caught.value.hint == "pip install 'modelc[torch]'"


def test_the_opset_is_the_canonical_one() -> None:
    from modelc.frontends.onnx.draft import OPSET as canonical
    from modelc.frontends.torch.export_worker import OPSET

    assert canonical == OPSET <= onnx.defs.onnx_opset_version()

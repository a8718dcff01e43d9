"""Saved graphs: what goes out comes back, and hostile files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.quantised_folders import CASES, write
from support.random_models import make
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.builder import build_decoder
from modelc.errors import Damaged, ModelcError
from modelc.frontends import read_model
from modelc.ir.coded import CodedMatrix
from modelc.ir.serial import load_graph, save_graph
from modelc.ir.text import fingerprint, to_text
from modelc.ir.weights import StoredWeight
from modelc.passes.expand import ExpandComposites


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A saved graph beside the folder `source` with its weights."""
    (tmp_path / "source").mkdir()
    source = tiny_source(tiny_config(tied_head=True), tmp_path / "source" / "weights.bin")
    write_weights(source)
    save_graph(build_decoder(source, 16), tmp_path / "graph.onnx", tmp_path / "source")
    return tmp_path / "graph.onnx"


def weight(proto: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


@pytest.mark.parametrize("expanded", [False, True])
def test_what_is_saved_comes_back(tmp_path: Path, expanded: bool) -> None:
    source = tiny_source(tiny_config(tied_head=True, norm_epsilon=1e-6), tmp_path / "weights.bin")
    write_weights(source)
    model = build_decoder(source, 16)
    model = ExpandComposites().apply(model) if expanded else model
    path = tmp_path / "graph.onnx"
    save_graph(model, path, tmp_path)
    loaded = load_graph(path, tmp_path)
    assert to_text(loaded) == to_text(model)
    assert fingerprint(loaded) == fingerprint(model)
    assert path.stat().st_size < (tmp_path / "weights.bin").stat().st_size
    for name, value in model.graph.initializers.items():
        if isinstance(value.const_value, StoredWeight):
            other = loaded.graph.initializers[name].const_value
            assert isinstance(other, StoredWeight) and other.source == value.const_value.source


def test_the_source_may_move(saved: Path) -> None:
    moved = saved.parent / "elsewhere"
    (saved.parent / "source").rename(moved)
    tensor = load_graph(saved, moved).graph.initializers["model.norm.weight"].const_value
    assert tensor is not None and tensor.numpy().shape == (32,)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("location", "../secret.bin"),
        ("location", "/etc/hostname"),
        ("location", "absent.bin"),
        ("offset", "1000000"),
        ("offset", "-4"),
        ("offset", "null"),
        ("format", "Q9_9"),
        ("shape", "[32, 1000000000]"),
        ("shape", "[40]"),
        ("shape", "[]"),
        ("rows", "[0, 41]"),
        ("rows", "[5]"),
        ("unpermute_heads", "7"),
        ("colour", "1"),
    ],
)
def test_entries_that_lie_are_refused(saved: Path, key: str, value: str) -> None:
    (saved.parent / "secret.bin").write_bytes(bytes(100000))
    proto = onnx.load(saved, load_external_data=False)
    entries = weight(proto, "model.embed_tokens.weight").external_data
    found = [entry for entry in entries if entry.key == key]
    (found[0] if found else entries.add(key=key)).value = value
    saved.write_bytes(proto.SerializeToString())
    with pytest.raises(Damaged):
        load_graph(saved, saved.parent / "source")


@pytest.mark.parametrize("keep", [0, 10, 1000, -20])
def test_truncated_files_are_refused(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(Damaged):
        load_graph(saved, saved.parent / "source")


def test_weights_outside_of_the_source_are_not_saved(saved: Path) -> None:
    model = load_graph(saved, saved.parent / "source")
    with pytest.raises(ModelcError, match="outside"):
        save_graph(model, saved, saved.parent / "another")


@pytest.mark.parametrize("case", ["gptq-act-order", "awq", "nf4-nested", "fp8-powers"])
def test_codes_come_back(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    write(make("llama", tmp_path / "plain"), folder, CASES[case])
    model = build_decoder(read_model(folder), 16)
    save_graph(model, tmp_path / "graph.onnx", folder)
    moved = folder.rename(tmp_path / "elsewhere")
    loaded = load_graph(tmp_path / "graph.onnx", moved)
    name = "model.layers.1.mlp.up_proj.weight"
    ours, theirs = (one.graph.initializers[name].const_value for one in (model, loaded))
    assert isinstance(ours, StoredWeight) and isinstance(theirs, StoredWeight)
    assert isinstance(ours.source, CodedMatrix) and isinstance(theirs.source, CodedMatrix)
    assert theirs.source.form == ours.source.form
    expected = read_model(moved).weights[name].decode().T
    np.testing.assert_array_equal(theirs.numpy(), expected)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "gptq_v9"),
        ("form", '{"kind": "IntegerForm", "bits": 4, "colour": 1}'),
        ("form", '{"kind": "Path"}'),
        ("parts", "{}"),
        ("parts", '{"codes": {"location": "../x", "offset": 0, "dtype": "int32", "shape": [1]}}'),
        ("parts", "[]"),
        ("unpermute_heads", "2"),
    ],
)
def test_codes_that_lie_are_refused(tmp_path: Path, key: str, value: str) -> None:
    folder = tmp_path / "source"
    write(make("llama", tmp_path / "plain"), folder, CASES["gptq"])
    save_graph(build_decoder(read_model(folder), 16), tmp_path / "graph.onnx", folder)
    proto = onnx.load(tmp_path / "graph.onnx", load_external_data=False)
    entries = weight(proto, "model.layers.1.mlp.up_proj.weight").external_data
    next(entry for entry in entries if entry.key == key).value = value
    (tmp_path / "graph.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(Damaged):
        load_graph(tmp_path / "graph.onnx", folder)

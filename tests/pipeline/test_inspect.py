from pathlib import Path

import gguf
import pytest
from safetensors import safe_open
from support.commands import Ran

from modelc.errors import BadInput, Damaged
from modelc.pipeline.inspect import inspect_path


def test_gguf_is_told_as_its_own_reader_tells_it(llama_gguf: Path) -> None:
    found = inspect_path(llama_gguf)
    reader = gguf.GGUFReader(llama_gguf)
    assert found.kind == "gguf"
    assert found.facts["general.architecture"] == "llama"
    assert found.facts["llama.block_count"] == 2
    rows = {row["name"]: row for row in found.tables["tensors"]}
    assert rows.keys() == {tensor.name for tensor in reader.tensors}
    for tensor in reader.tensors:
        row = rows[tensor.name]
        assert (row["format"], row["bytes"]) == (tensor.tensor_type.name, tensor.n_bytes)
        assert row["shape"] == [int(dim) for dim in reversed(tensor.shape)]
    assert found.facts["bytes"] == sum(int(tensor.n_bytes) for tensor in reader.tensors)


def test_a_folder_is_told_as_safetensors_tells_it(llama_folder: Path) -> None:
    found = inspect_path(llama_folder)
    assert found.kind == "huggingface" and found.facts["model_type"] == "llama"
    with safe_open(llama_folder / "model.safetensors", "np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    assert {row["name"]: row["shape"] for row in found.tables["tensors"]} == shapes


def test_bundle_and_its_graph(compiled: tuple[Path, Ran]) -> None:
    import onnx

    bundle = compiled[0]
    found = inspect_path(bundle)
    assert found.kind == "bundle" and found.facts["target"] == "cpu"
    assert found.shown is not None
    assert found.facts["recipe"].keys() - found.shown["recipe"].keys() >= {"qaic", "network", "ar"}
    assert {"gguf", "context_length"} <= found.shown["recipe"].keys()
    names = {row["name"] for row in found.tables["files"]}
    assert names == {p.name for p in bundle.iterdir()} - {"manifest.json"}

    graph = inspect_path(bundle / "model.onnx")
    nodes = onnx.load(bundle / "model.onnx", load_external_data=False).graph.node
    assert graph.kind == "onnx" and graph.facts["nodes"] == len(nodes)
    counts = {row["operator"]: row["count"] for row in graph.tables["operators"]}
    assert sum(counts.values()) == len(nodes)
    assert graph.document()["outputs"][0]["name"] == "logits"
    # The file says of itself what the manifest says of it.
    (row,) = found.tables["graphs"]
    assert row["inputs"] == len(graph.tables["inputs"])
    assert row["outputs"] == len(graph.tables["outputs"])


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x0b"])
def test_an_onnx_file_that_is_none(content: bytes, tmp_path: Path) -> None:
    """The last is a model of which only the version is left."""
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="not an ONNX file") as caught:
        inspect_path(path)
    assert caught.value.where.path == str(path)


def test_an_onnx_file_with_an_input_of_no_known_type(tmp_path: Path) -> None:
    from onnx import helper, save

    node = helper.make_node("SequenceLength", ["x"], ["y"])
    given = helper.make_value_info(
        "x", helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [2]))
    )
    save(helper.make_model(helper.make_graph([node], "g", [given], [])), tmp_path / "model.onnx")
    (row,) = inspect_path(tmp_path / "model.onnx").tables["inputs"]
    assert row == {"name": "x", "type": "unknown", "shape": []}


def test_what_nobody_knows(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(BadInput, match="not a model"):
        inspect_path(tmp_path / "empty")
    with pytest.raises((BadInput, Damaged), match="manifest"):
        inspect_path(tmp_path)
    with pytest.raises(BadInput, match="no such file"):
        inspect_path(tmp_path / "absent")

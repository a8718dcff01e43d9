"""What `inspect` tells of a DLC, in both forms."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from support import quantised_matmul

from modelc.errors import BadInput
from modelc.pipeline.inspect import inspect_path
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import CompileOptions
from modelc.targets.snapdragon.dlc_write import write_dlc

pytest.importorskip("onnxruntime_qnn", reason="libQnnSystem is not here")
pytestmark = pytest.mark.simulator


def test_a_dlc(tmp_path: Path) -> None:
    model = quantised_matmul.write_graph("int8", tmp_path / "small.onnx")
    path = tmp_path / "small.dlc"
    chipset = find_chipset("snapdragon-8-elite")
    write_dlc(model, "small", chipset, CompileOptions(), path, workdir=tmp_path, timeout_s=120)
    found = inspect_path(path)
    assert found.kind == "dlc" and found.facts["bytes"] == path.stat().st_size
    assert found.facts["converter"].startswith("2.")
    [graph] = found.tables["graphs"]
    assert graph["name"].startswith("small_") and (graph["inputs"], graph["outputs"]) == (1, 1)
    [x] = found.tables[f"inputs of {graph['name']}"]
    assert (x["name"], x["dtype"], x["shape"]) == ("x", "uint16", [1, 8, 64])
    assert x["scale"] == pytest.approx(4 / 32768) and x["zero_point"] == 32768
    with zipfile.ZipFile(path) as file:  # it can list them, though not read them
        sizes = {info.filename: info.file_size for info in file.infolist()}
    assert {row["name"]: row["bytes"] for row in found.tables["members"]} == sizes


@pytest.mark.parametrize("content", [b"", b"PK", b"not a DLC" * 100])
def test_a_file_that_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.dlc").write_bytes(content)
    with pytest.raises(BadInput, match="not a DLC"):
        inspect_path(tmp_path / "model.dlc")


def test_a_zip_without_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "model.dlc"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("notes.txt", "no graph")
    with pytest.raises(BadInput, match="not a DLC: a ZIP file without any graph") as caught:
        inspect_path(path)
    assert caught.value.where.path == str(path) and caught.value.hint

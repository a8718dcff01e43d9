"""DLCs are what was asked for, whole, and the same again; refusals say what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from support import dlc_compose, quantised_matmul
from support.htp_decoder import CHIPSET, Lowered

from modelc.errors import BadInput, Damaged, ToolFailed
from modelc.targets.snapdragon.binary import read_binary
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import CompileOptions, compile_graphs
from modelc.targets.snapdragon.dlc import DlcInfo, converter_of, read_dlc
from modelc.targets.snapdragon.dlc_container import Member
from modelc.targets.snapdragon.dlc_write import write_dlc
from modelc.targets.snapdragon.simulate import run_graph

pytest.importorskip("onnxruntime_qnn", reason="the provider that writes DLCs is not here")
pytestmark = pytest.mark.simulator

NAME = "token_ar1_cl512_1_of_1"


def write(model: Path, output: Path, name: str = NAME, **changes: object) -> DlcInfo:
    kind = onnx.load(model, load_external_data=False).graph.input[0].type.tensor_type.elem_type
    options = CompileOptions(fp16=kind == onnx.TensorProto.FLOAT)
    arguments = {"chipset": find_chipset(CHIPSET), "options": options, "timeout_s": 120, **changes}
    return write_dlc(model, name, output=output, workdir=output.parent / "work", **arguments)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """The small graph with one kind of weights, and its DLC."""

    def make(kind: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("small")
        model = quantised_matmul.write_graph(kind, folder / "small.onnx")
        write(model, folder / "small.dlc")
        return model, folder / "small.dlc"

    return cache(make)


@pytest.mark.parametrize("scheme", ["w8a16", "fp16"])
def test_its_graph_is_that_of_a_binary(
    scheme: str, lowered: Callable[[str], Lowered], tmp_path: Path
) -> None:
    """The same graph in a context binary tells the same tensors, types and encodings."""
    made = lowered(scheme)
    model = made.files[1]
    options = CompileOptions(fp16=scheme == "fp16")
    info = write(model, tmp_path / "token.dlc", model.stem, options=options)
    [graph] = info.graphs
    assert graph.name.startswith(f"{model.stem}_")
    chipset, twin = find_chipset(CHIPSET), tmp_path / "twin.bin"
    compile_graphs(
        {model.stem: model}, chipset, made.options, twin, workdir=tmp_path, timeout_s=120
    )
    [compiled] = read_binary(twin, workdir=tmp_path).graphs
    assert set(graph.inputs) == set(compiled.inputs)
    assert set(graph.outputs) == set(compiled.outputs)
    assert read_dlc(tmp_path / "token.dlc", workdir=tmp_path) == info
    assert sorted(path.name for path in tmp_path.glob("*.dlc")) == ["token.dlc"]


@pytest.mark.parametrize("kind", ["float", "int8", "int4", "lpbq"])
def test_it_computes_what_the_graph_does(
    kind: str, small: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    """Compiled without the provider, the DLC gives ONNX Runtime's results: nothing was lost."""
    model, dlc = small(kind)
    feed = quantised_matmul.feed(kind)
    binary = tmp_path / "composed.bin"
    composed = subprocess.run(
        [sys.executable, dlc_compose.__file__, str(dlc), str(binary)],
        capture_output=True,
        text=True,
        check=True,
    )
    wrapper = wrap(model, composed.stdout.split()[-1], binary)
    [found] = run_graph(wrapper, [feed], workdir=tmp_path, timeout_s=60)
    options = ort.SessionOptions()
    # Its optimiser would compute products of codes in other integers than the graph says.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    [wanted] = session.run(None, feed)
    zero = 0 if kind == "float" else 32768
    error = found["y"].astype(np.float64) - wanted
    assert np.square(error).mean() < 1e-4 * np.square(wanted.astype(np.float64) - zero).mean()


def wrap(model: Path, graph: str, binary: Path) -> Path:
    """Write the wrapper by which the provider loads `binary`, with the model's tensors."""
    ports = onnx.load(model, load_external_data=False).graph
    node = onnx.helper.make_node(
        "EPContext",
        [value.name for value in ports.input],
        [value.name for value in ports.output],
        domain="com.microsoft",
        embed_mode=0,
        ep_cache_context=binary.name,
        main_context=1,
        partition_name=graph,
        source="QNNExecutionProvider",
    )
    opsets = [onnx.helper.make_opsetid("com.microsoft", 1), onnx.helper.make_opsetid("", 21)]
    wrapper = onnx.helper.make_model(
        onnx.helper.make_graph([node], "wrapper", ports.input, ports.output),
        opset_imports=opsets,
        ir_version=10,
    )
    path = binary.with_suffix(".onnx")
    onnx.save(wrapper, path)
    return path


def test_the_same_bytes_wherever_and_whenever(
    small: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    model, dlc = small("int8")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(model.parent, elsewhere)
    write(elsewhere / model.name, tmp_path / "again.dlc")
    data = dlc.read_bytes()
    assert (tmp_path / "again.dlc").read_bytes() == data
    assert set(re.findall(rb'"timestamp": "(.*?)"', data)) == {b"1980-01-01 00:00:00 UTC"}


def test_block_scales_are_refused(tmp_path: Path) -> None:
    model = quantised_matmul.write_graph("int4 blocks", tmp_path / "small.onnx")
    with pytest.raises(BadInput, match="loses the block scales of constant") as caught:
        write(model, tmp_path / "small.dlc")
    assert "w4a16_lpbq" in caught.value.hint
    assert not (tmp_path / "small.dlc").exists()


def test_a_failure_names_the_scheme(tmp_path: Path) -> None:
    model = quantised_matmul.write_graph("int8", tmp_path / "small.onnx")
    with pytest.raises(ToolFailed, match="was stopped after") as caught:
        write(model, tmp_path / "small.dlc", timeout_s=0.01, scheme="w8a16")
    assert caught.value.hint.startswith("w8a16: ")
    assert caught.value.where.graph == NAME


def test_a_chipset_without_fp16(tmp_path: Path) -> None:
    model = quantised_matmul.write_graph("float", tmp_path / "small.onnx")
    with pytest.raises(BadInput, match="has no fp16"):
        write(model, tmp_path / "small.dlc", chipset=find_chipset("qcs6490"))


def test_damaged_dlcs(small: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    """The container finds what is cut short; libQnnSystem or its crash the rest."""
    data, path = bytearray(small("int8")[1].read_bytes()), tmp_path / "damaged.dlc"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(Damaged, match="not a DLC"):
        read_dlc(path, workdir=tmp_path)
    place = data.index(b"QNN") if b"QNN" in data else data.index(b"model") + 64
    for start in (place, data.index(b"FullyConnected")):
        changed = data.copy()
        changed[start - 400 : start] = b"\xff" * 400
        path.write_bytes(changed)
        try:
            read_dlc(path, workdir=tmp_path)
        except (Damaged, ToolFailed) as error:
            assert error.hint or error.where.path


@pytest.mark.parametrize(
    "history", [b"", b"no json", b"[" * 100_000, b'{"dlcGenerationInfo": []}', b"3", b"\xff"]
)
def test_a_history_that_says_nothing(history: bytes, tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(history)
    member = Member("dlc.metadata.history.2.3.0", 0, len(history))
    assert converter_of(path, [member]) == ""

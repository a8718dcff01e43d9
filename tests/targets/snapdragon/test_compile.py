"""What is compiled is what was asked for, as the binary itself says; refusals name the culprit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest
from support.htp_decoder import CHIPSET, Lowered
from support.htp_graphs import boundary

from modelc.errors import BadInput, ModelcError, ToolFailed, Where
from modelc.ir.provenance import MODULE
from modelc.targets.snapdragon.binary import Tensor, from_json, read_binary, to_json
from modelc.targets.snapdragon.chipsets import Chipset, find_chipset
from modelc.targets.snapdragon.compile import Compiled, CompileOptions, compile_graphs
from modelc.targets.snapdragon.simulate import run_graph

pytest.importorskip("onnxruntime_qnn", reason="HTP's compiler is not here")
pytestmark = pytest.mark.simulator

FLOAT_OPTIONS = CompileOptions(fp16=True, finalization=1)


def compile_files(
    graphs: dict[str, Path],
    folder: Path,
    chipset: Chipset | None = None,
    options: CompileOptions = FLOAT_OPTIONS,
    timeout_s: float = 120,
) -> Compiled:
    chipset = chipset or find_chipset(CHIPSET)
    output = folder / "out" / "decoder_1_of_1.bin"
    workdir = folder / "work"
    return compile_graphs(graphs, chipset, options, output, workdir=workdir, timeout_s=timeout_s)


def small_graph(path: Path, op_type: str) -> Path:
    """A float graph of one operator, between two that HTP takes."""
    x = ir.val("x", ir.DataType.FLOAT, (1, 8, 32))
    first = ir.node("Tanh", [x])
    middle = ir.node(op_type, first.outputs, name="the_middle")
    last = ir.node("Tanh", middle.outputs)
    middle.metadata_props[MODULE] = "model.layers.3.mlp.activation"
    for node in (first, middle, last):
        node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.FLOAT, x.shape
    last.outputs[0].name = "y"
    graph = ir.Graph(
        [x], last.outputs, nodes=[first, middle, last], opset_imports={"": 21}, name="small"
    )
    ir.save(ir.Model(graph, ir_version=10), path)
    return path


def test_shared_binary_says_what_it_holds(
    lowered: Callable[[str], Lowered], tmp_path: Path
) -> None:
    """Every field that is read from a binary, against what was compiled."""
    made = lowered("w8a16")
    compiled = compile_files(
        {path.stem: path for path in made.files.values()}, tmp_path, options=made.options
    )
    info = compiled.info
    assert (info.soc_model, info.htp_arch) == (69, "v79")
    assert info.build.startswith("v2.")
    assert len(info.graphs) == 2
    for ar, path in made.files.items():
        [graph] = [graph for graph in info.graphs if graph.name.startswith(f"{path.stem}_")]
        assert graph.vtcm_mb == 8
        model = made.models[ar].graph
        assert_same_tensors(graph.inputs, model.inputs, made.models[ar])
        assert_same_tensors(graph.outputs, model.outputs, made.models[ar])
    assert set(compiled.seconds) == set(compiled.wrappers) == {p.stem for p in made.files.values()}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [compiled.binary.name, *(wrapper.name for wrapper in compiled.wrappers.values())]
    )
    assert read_binary(compiled.binary, workdir=tmp_path) == info == from_json(to_json(info))
    with pytest.raises(BadInput, match="can't load a binary whose 2 graphs share their weights"):
        wrapper = next(iter(compiled.wrappers.values()))
        run_graph(wrapper, [{}], workdir=tmp_path, timeout_s=60)


def assert_same_tensors(found: tuple[Tensor, ...], wanted: list[ir.Value], model: ir.Model) -> None:
    edge = boundary(model).encodings
    by_name = {tensor.name: tensor for tensor in found}
    assert set(by_name) == {value.name for value in wanted}
    for value in wanted:
        tensor = by_name[str(value.name)]
        assert tensor.shape == tuple(value.shape.numpy())
        assert tensor.dtype == value.dtype.name.lower()
        encoding = edge.get(tensor.name)
        if encoding is None:
            assert (tensor.scale, tensor.zero_point) == (0, 0)
        else:
            assert tensor.scale == pytest.approx(encoding.scale, rel=1e-6)
            assert tensor.zero_point == encoding.zero_point


@pytest.mark.parametrize(
    ("chipset", "scheme", "ar"),
    [
        ("snapdragon-8gen1", "w8a16", 8),
        ("sa8295p", "fp16", 1),
        ("qcs6490", "w8a16", 1),
        ("snapdragon-8-elite-extreme-gen6", "w8a16", 1),
    ],
)
def test_other_chipsets(
    chipset: str, scheme: str, ar: int, lowered: Callable[[str], Lowered], tmp_path: Path
) -> None:
    row, made = find_chipset(chipset), lowered(scheme)
    path = made.files[ar]
    info = compile_files({path.stem: path}, tmp_path, row, made.options).info
    assert (info.soc_model, info.htp_arch) == (row.soc_model, row.htp_arch)
    assert [graph.vtcm_mb for graph in info.graphs] == [row.compile_vtcm_mb]


def test_a_chipset_that_the_compiler_does_not_know(tmp_path: Path) -> None:
    graph = {"token": small_graph(tmp_path / "small.onnx", "Sigmoid")}
    chipset = dataclasses.replace(find_chipset(CHIPSET), soc_model=9999)
    with pytest.raises(BadInput, match="does not know this SoC") as caught:
        compile_files(graph, tmp_path, chipset)
    assert "modelc targets" in caught.value.hint


def test_the_binary_is_asked_whether_it_is_for_the_chipset(tmp_path: Path) -> None:
    """SoC 57 is another chipset's, of another architecture."""
    graph = {"token": small_graph(tmp_path / "small.onnx", "Sigmoid")}
    chipset = dataclasses.replace(find_chipset(CHIPSET), soc_model=57)
    with pytest.raises(ToolFailed, match=r"is for \(57, 'v75', \{8\}, 1\), not \(57, 'v79'"):
        compile_files(graph, tmp_path, chipset)


def test_a_refused_operator_is_named_with_its_module(tmp_path: Path) -> None:
    graph = {"token": small_graph(tmp_path / "small.onnx", "Erf")}
    with pytest.raises(ToolFailed, match="HTP does not take Erf") as caught:
        compile_files(graph, tmp_path)
    module = "model.layers.3.mlp.activation"
    assert caught.value.where == Where(step="compile", graph="token", module=module)
    assert module in caught.value.message
    assert "a pass that rewrites it" in caught.value.hint
    assert not list((tmp_path / "out").iterdir())


def test_a_graph_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelcError, match=r"absent\.onnx"):
        compile_files({"token": tmp_path / "absent.onnx"}, tmp_path)


def test_what_was_there_is_replaced_and_time_is_limited(tmp_path: Path) -> None:
    graph = {"token": small_graph(tmp_path / "small.onnx", "Sigmoid")}
    first = compile_files(graph, tmp_path)
    first.binary.write_bytes(b"other")
    assert compile_files(graph, tmp_path).binary.read_bytes() != b"other"
    with pytest.raises(ToolFailed, match=r"was stopped after \d+ s") as caught:
        compile_files(graph, tmp_path, timeout_s=0.01)
    assert "--splits" in caught.value.hint

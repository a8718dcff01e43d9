"""A compiled network gives what the model does; what HTP refuses is named, or left to the CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.qnn_networks import CHIPSET, FLOAT, QUANTISED, TIMEOUT, feed_of, on_cpu, save

from modelc.errors import BadInput, Damaged, Missing, ToolFailed
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.network.compile import (
    CompiledNetwork,
    compile_for_chipsets,
    compile_network,
    compile_with_fallback,
)
from modelc.targets.snapdragon.network.ep_context import Port, read_network_wrapper
from modelc.targets.snapdragon.network.op_packages import parse_op_package
from modelc.targets.snapdragon.network.options import NetworkOptions
from modelc.targets.snapdragon.network.places import BOUNDARY
from modelc.targets.snapdragon.network.run import run_network

pytest.importorskip("onnxruntime_qnn", reason="HTP's compiler is not here")
pytestmark = pytest.mark.simulator

Networks = Callable[[str], Path]
Compiled = Callable[[str], CompiledNetwork]


def compile_here(
    model: Path,
    folder: Path,
    options: NetworkOptions = FLOAT,
    chipset: str = CHIPSET,
    name: str = "net",
    fallback: bool = False,
) -> CompiledNetwork:
    return (compile_with_fallback if fallback else compile_network)(
        model,
        name,
        find_chipset(chipset),
        options,
        folder / f"{name}.bin",
        workdir=folder / "work",
        timeout_s=TIMEOUT,
    )


@pytest.mark.parametrize(
    ("name", "tolerance"), [("cnn", 2e-3), ("encoder", 5e-3), ("erf", 5e-3), ("quantised", 0.0601)]
)
def test_same_outputs_as_the_model(
    name: str, tolerance: float, networks: Networks, compiled: Compiled, tmp_path: Path
) -> None:
    """Names, order and types of all tensors too; the tolerance of codes is one step."""
    model, made = networks(name), compiled(name)
    feed = feed_of(model)
    [found] = run_network(made.wrapper, [feed], workdir=tmp_path, timeout_s=TIMEOUT)
    wanted = on_cpu(model, feed)
    assert list(found) == list(wanted)
    for output, array in wanted.items():
        assert found[output].dtype == array.dtype
        if array.dtype == np.float32:
            np.testing.assert_allclose(found[output], array, atol=tolerance)
        else:
            np.testing.assert_array_equal(found[output], array)


def test_wrapper_and_binary_have_the_models_tensors(networks: Networks, compiled: Compiled) -> None:
    made = compiled("encoder")
    read = read_network_wrapper(made.wrapper)
    assert read.inputs == (Port("ids", "int64", (1, 8)), Port("mask", "bool", (1, 1, 8)))
    assert read.outputs == (Port("y", "float32", (1, 8, 16)), Port("best", "int64", (1, 8)))
    assert (read.binary, read.on_cpu) == ("encoder.bin", ())
    [graph] = made.info.graphs
    assert read.graphs == (graph.name,)
    assert graph.name.startswith("encoder_")
    assert {(t.name, t.dtype) for t in graph.inputs} == {("ids", "int64"), ("mask", "bool")}
    nodes = {node.name for node in onnx.load(str(networks("encoder"))).graph.node}
    assert ({*made.partition.htp[0]}, made.partition.cpu) == (nodes, ())


def test_fallback_shows_what_the_cpu_runs(compiled: Compiled) -> None:
    made = compiled("erf")
    [node] = made.partition.cpu
    assert (node.name, node.op_type, node.module) == ("activation", "Erf", "net.activation")
    assert "`Erf` are not supported" in node.why
    first, second = made.partition.htp
    assert "context" in first
    assert second == ("norm", "best")
    assert len(made.info.graphs) == 2
    assert read_network_wrapper(made.wrapper).on_cpu == ("activation",)


def test_no_silent_island(networks: Networks, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match=r"HTP does not take net\.activation: Erf") as caught:
        compile_here(networks("erf"), tmp_path)
    assert caught.value.where.module == "net.activation"
    assert "--allow-cpu-fallback" in caught.value.hint


def test_nor_where_conversions_are_the_cpus(networks: Networks, tmp_path: Path) -> None:
    options = dataclasses.replace(QUANTISED, boundary="cpu")
    with pytest.raises(ToolFailed, match="Erf") as caught:
        compile_here(networks("stranded"), tmp_path, options)
    assert "net.middle" in caught.value.message
    assert not list(tmp_path.glob("net.*"))


def test_conversions_of_the_boundary(
    networks: Networks, compiled: Compiled, tmp_path: Path
) -> None:
    """The network's tensors stay what they are; the binary's are codes; both are said. HTP rounds
    another way than the CPU, so that a code may differ by one."""
    inside = compiled("quantised")
    made = compile_here(
        networks("quantised"), tmp_path, dataclasses.replace(QUANTISED, boundary="cpu")
    )
    assert [(node.name, node.why) for node in made.partition.cpu] == [
        ("x.q", BOUNDARY),
        ("r.dq", BOUNDARY),
    ]
    assert [t.dtype for t in made.info.graphs[0].inputs] == ["uint8"]
    assert (inside.partition.cpu, inside.info.graphs[0].inputs[0].dtype) == ((), "float32")
    feed = feed_of(networks("quantised"))
    outputs = [
        run_network(each.wrapper, [feed], workdir=tmp_path, timeout_s=TIMEOUT)[0]["y"]
        for each in (inside, made)
    ]
    np.testing.assert_allclose(*outputs, atol=0.0601)


def test_one_binary_for_each_chipset_and_the_same_bytes(
    networks: Networks, compiled: Compiled, tmp_path: Path
) -> None:
    rows = [find_chipset(name) for name in (CHIPSET, "snapdragon-8gen2")]
    folder = tmp_path / "out"
    made = compile_for_chipsets(
        networks("cnn"), "cnn", rows, FLOAT, folder, workdir=tmp_path / "work", timeout_s=TIMEOUT
    )
    assert [*made] == [row.name for row in rows]
    for row in rows:
        info = made[row.name].info
        assert (info.soc_model, info.htp_arch) == (row.soc_model, row.htp_arch)
        assert made[row.name].binary == folder / row.name / "cnn.bin"
    again, first = made[rows[0].name], compiled("cnn")
    for mine, theirs in zip(
        (again.binary, again.wrapper, again.operators),
        (first.binary, first.wrapper, first.operators),
        strict=True,
    ):
        assert mine.read_bytes() == theirs.read_bytes()


def test_what_turned_channels_last_cannot_go_back(networks: Networks, tmp_path: Path) -> None:
    """A chipset without fp16 refuses the Conv only after ONNX Runtime turned it."""
    with pytest.raises(ToolFailed, match=r"HTP refuses net\.conv: Conv, and it can't be left"):
        compile_here(networks("cnn"), tmp_path, QUANTISED, "qcs6490", fallback=True)


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "é", "x" * 129, "-x"])
def test_names_that_no_graph_can_have(name: str, networks: Networks, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't be the name of a graph"):
        compile_here(networks("cnn"), tmp_path, name=name)


def test_no_fp16(networks: Networks, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no fp16"):
        compile_here(networks("cnn"), tmp_path, FLOAT, "qcs6490")


def custom(folder: Path) -> Path:
    node = onnx.helper.make_node("Halve", ["x"], ["y"], "halve", domain="my.ops")
    ports = (onnx.TensorProto.FLOAT, [1, 8])
    return save(folder / "custom.onnx", [node], {"x": ports}, {"y": ports}, {})


def test_an_op_package_reaches_the_compiler(tmp_path: Path) -> None:
    """HTP itself tries to load it: a file that is no library is an error with a remedy."""
    library = tmp_path / "libHalve.so"
    library.write_bytes(b"\x7fELF but no more")
    package = parse_op_package(f"Halve:{library}:HalveInterfaceProvider")
    options = dataclasses.replace(FLOAT, op_packages=(package,))
    with pytest.raises(BadInput, match="can't load the op package") as caught:
        compile_here(custom(tmp_path), tmp_path, options)
    assert "x86-64" in caught.value.hint


@pytest.mark.parametrize(("names", "message"), [(("a", "a"), "'a'"), (("a", ""), "no name")])
def test_nodes_that_can_not_be_told_apart(
    names: tuple[str, str], message: str, tmp_path: Path
) -> None:
    first, last = (onnx.helper.make_node("Relu", ["x"], [f"y{i}"]) for i in range(2))
    port = (onnx.TensorProto.FLOAT, [1, 8])
    first.name, last.name = names
    outputs = {"y0": port, "y1": port}
    model = save(tmp_path / "net.onnx", [first, last], {"x": port}, outputs, {})
    with pytest.raises(BadInput, match=message):
        compile_here(model, tmp_path)


def test_a_custom_operator_without_its_package(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no op package is for my\.ops:Halve"):
        compile_here(custom(tmp_path), tmp_path)


def test_a_library_that_is_not_there() -> None:
    with pytest.raises(Missing, match="op package of Halve is not there"):
        parse_op_package("Halve:/nowhere/lib.so:HalveInterfaceProvider")


@pytest.mark.parametrize("text", [b"", b"not onnx", b"\x08\x0a\x12\x00"])
def test_damaged_wrappers(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(text)
    with pytest.raises(Damaged, match="not the wrapper"):
        read_network_wrapper(path)


@pytest.mark.parametrize("binary", ["../other.bin", "/etc/passwd", "a/b.bin", ""])
def test_a_wrapper_loads_only_what_lies_beside_it(
    binary: str, compiled: Compiled, tmp_path: Path
) -> None:
    model = onnx.load(str(compiled("cnn").wrapper))
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "ep_cache_context":
            attribute.s = binary.encode()
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Damaged, match="not the wrapper"):
        read_network_wrapper(path)

"""A network as a DLC and as C++ source: the same operators, whole, and read back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from support.qnn_networks import CHIPSET, FLOAT, QUANTISED, TIMEOUT

from modelc.errors import Damaged, ToolFailed
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.dlc import read_dlc
from modelc.targets.snapdragon.network.compile import CompiledNetwork
from modelc.targets.snapdragon.network.dlc import write_network_dlc
from modelc.targets.snapdragon.network.op_trace import read_operators
from modelc.targets.snapdragon.network.saver import write_source
from modelc.targets.snapdragon.network.saver_source import PARAMS, SOURCE, SaverInfo, read_saver

Networks = Callable[[str], Path]


@pytest.fixture(scope="module")
def source(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SaverInfo]:
    """The CNN as source."""
    pytest.importorskip("onnxruntime_qnn", reason="Saver is not here")
    folder = tmp_path_factory.mktemp("source")
    info = write_source(
        networks("cnn"),
        "cnn",
        find_chipset(CHIPSET),
        FLOAT,
        folder / "out",
        workdir=folder / "work",
        timeout_s=TIMEOUT,
    )
    return folder / "out", info


@pytest.mark.simulator
def test_source_builds_what_was_compiled(
    source: tuple[Path, SaverInfo], compiled: Callable[[str], CompiledNetwork]
) -> None:
    """As many operators of each kind as the binary, and constants of the right size."""
    folder, info = source
    assert {path.name for path in folder.iterdir()} == {SOURCE, PARAMS}
    [operators] = read_operators(compiled("cnn").operators).values()
    kinds = [operator.kind for operator in operators.values()]
    assert info.operators == {kind: kinds.count(kind) for kind in sorted(kinds)}
    assert info.graphs == ("cnn_cnn_0_1_0",)
    weights = 4 * (8 * 3 * 3 * 3 + 8 + 8 * 10 + 10)
    assert info.params_bytes > weights
    assert info.tensors > len(kinds)
    assert read_saver(folder) == info
    text = (folder / SOURCE).read_text()
    assert '"x"' in text
    assert '"y"' in text


def test_damaged_source(tmp_path: Path) -> None:
    program = (
        b'   VALIDATE(error, interface.graphCreate(context_0, "net_1", config, &graph));\n'
        b"   fread(w_data, 4, 3, fp);\n"
        b'   Qnn_OpConfigV1_t n_v1 = {"a \\" b", "qti.aisw", "Relu", 0, params, 1, in, 1, out};\n'
        b"   VALIDATE(error, interface.graphAddNode(graph, n));\n"
        b"   VALIDATE(error, interface.graphFinalize(graph, NULL, NULL));\n"
    )
    with pytest.raises(Damaged, match=f"there is no {SOURCE}"):
        read_saver(tmp_path)
    (tmp_path / SOURCE).write_bytes(program)
    with pytest.raises(Damaged, match=f"there is no {PARAMS}"):
        read_saver(tmp_path)
    (tmp_path / PARAMS).write_bytes(bytes(11))
    with pytest.raises(Damaged, match="reads 12 bytes of constants; there are 11"):
        read_saver(tmp_path)
    (tmp_path / PARAMS).write_bytes(bytes(12))
    assert read_saver(tmp_path) == SaverInfo(("net_1",), {"Relu": 1}, 0, len(program), 12)
    for cut in (program[:-70], b"", program.replace(b"graphAddNode", b"graphAddNoNode")):
        (tmp_path / SOURCE).write_bytes(cut)
        with pytest.raises(Damaged, match="not a whole source"):
            read_saver(tmp_path)


@pytest.mark.simulator
def test_dlc_has_the_models_tensors(networks: Networks, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_qnn", reason="the converter is not here")
    path = tmp_path / "encoder.dlc"
    info = write_network_dlc(
        networks("encoder"),
        "encoder",
        find_chipset(CHIPSET),
        FLOAT,
        path,
        workdir=tmp_path,
        timeout_s=TIMEOUT,
    )
    [graph] = info.graphs
    assert [(t.name, t.dtype, t.shape) for t in graph.inputs] == [
        ("ids", "int64", (1, 8)),
        ("mask", "bool", (1, 1, 8)),
    ]
    assert [t.name for t in graph.outputs] == ["y", "best"]
    assert read_dlc(path, workdir=tmp_path) == info


@pytest.mark.simulator
def test_a_dlc_that_would_lose_names_is_refused(networks: Networks, tmp_path: Path) -> None:
    """With the conversions outside, ONNX Runtime names the codes that come out."""
    pytest.importorskip("onnxruntime_qnn", reason="the converter is not here")
    with pytest.raises(ToolFailed, match="renamed inputs or outputs"):
        write_network_dlc(
            networks("quantised"),
            "quantised",
            find_chipset(CHIPSET),
            dataclasses.replace(QUANTISED, boundary="cpu"),
            tmp_path / "net.dlc",
            workdir=tmp_path,
            timeout_s=TIMEOUT,
        )
    assert not (tmp_path / "net.dlc").exists()

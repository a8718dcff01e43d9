"""Models on disk: external weights, streamed, shared and aligned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modelc.ir.emit import Scope, Sheet, new_value
from modelc.ir.stored import StoredMatrix
from modelc.ir.weights import DerivedWeight
from modelc.ir.write import ALIGNMENT, write_model

ROWS = 64


@pytest.fixture
def source(tmp_path: Path) -> StoredMatrix:
    path = tmp_path / "weights.bin"
    path.write_bytes(np.random.default_rng(0).normal(size=(ROWS, 33)).astype("<f4").tobytes())
    return StoredMatrix(path, 0, "F32", (ROWS, 33))


def graph(source: StoredMatrix) -> ir.Model:
    def twice() -> np.ndarray:
        return 2 * source.decode()

    scope = Scope("m", Sheet())
    shapes = {"a": (ROWS, 33), "b": (ROWS * 33,), "c": (ROWS, 33)}
    hows = {"a": "twice", "b": "twice", "c": "two times"}
    values = [
        scope.tensor(
            DerivedWeight(
                [source],
                hows[name],
                lambda shape=shape: twice().reshape(shape),  # type: ignore[misc]
                ir.DataType.FLOAT,
                shape,
                name,
            )
        )
        for name, shape in shapes.items()
    ]
    values += [scope.weight("d", source), scope.constant("small", np.arange(3.0))]
    outputs = [new_value(f"{v.name}.out", v.shape.numpy(), v.dtype) for v in values]  # type: ignore
    for value, output in zip(values, outputs, strict=True):
        scope.emit_many("Identity", [value], [output])
    made = ir.Graph(
        [],
        outputs,
        nodes=scope.sheet.nodes,
        initializers=list(scope.sheet.initializers.values()),
        opset_imports={"": 21},
        name="g",
    )
    return ir.Model(made, ir_version=10)


def test_onnx_reads_it_back(source: StoredMatrix, tmp_path: Path) -> None:
    seen: list[str] = []
    write_model(graph(source), tmp_path / "m.onnx", lambda name, tensor: seen.append(name))
    proto = onnx.load(tmp_path / "m.onnx")
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    expected = source.decode()
    np.testing.assert_array_equal(found["a"], 2 * expected)
    np.testing.assert_array_equal(found["b"], 2 * expected.reshape(-1))
    np.testing.assert_array_equal(found["d"], expected)
    assert found["small"].tolist() == [0, 1, 2]
    assert seen == ["a", "c", "d"]
    onnx.checker.check_model(tmp_path / "m.onnx")


def test_equal_computations_share_their_bytes(source: StoredMatrix, tmp_path: Path) -> None:
    write_model(graph(source), tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    places = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in proto.graph.initializer
    }
    assert places["a"] == places["b"] != places["c"]
    assert places["small"] == {}
    offsets = [int(places[name]["offset"]) for name in "acd"]
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    assert (tmp_path / "m.onnx.data").stat().st_size == offsets[-1] + ROWS * 33 * 4


def test_same_bytes_each_time_and_never_over_another(source: StoredMatrix, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_model(graph(source), tmp_path / name / "m.onnx")
    for file in ("m.onnx", "m.onnx.data"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    with pytest.raises(FileExistsError):
        write_model(graph(source), tmp_path / "one" / "m.onnx")


def test_the_model_is_left_as_it_was(source: StoredMatrix, tmp_path: Path) -> None:
    model = graph(source)
    write_model(model, tmp_path / "m.onnx")
    assert isinstance(model.graph.initializers["a"].const_value, DerivedWeight)

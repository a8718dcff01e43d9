"""Models on disk: external weights, streamed, shared and aligned."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from modelc.ir.emit import Scope, Sheet, new_value
from modelc.ir.stored import StoredMatrix
from modelc.ir.weights import DerivedWeight
from modelc.ir.write import ALIGNMENT, write_model, write_models

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


def test_models_share_one_file_of_weights(source: StoredMatrix, tmp_path: Path) -> None:
    seen: list[str] = []
    models = {tmp_path / f"{name}.onnx": graph(source) for name in ("m", "n")}
    data = tmp_path / "part.data"
    write_models(models, data, lambda name, tensor: seen.append(name))
    assert seen == ["a", "c", "d"]
    write_model(graph(source), tmp_path / "alone.onnx")
    assert data.read_bytes() == (tmp_path / "alone.onnx.data").read_bytes()
    alone = onnx.load(tmp_path / "alone.onnx").graph.initializer
    for path in models:
        assert {
            entry.value
            for tensor in onnx.load(path, load_external_data=False).graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        } == {"part.data"}
        for tensor, wanted in zip(onnx.load(path).graph.initializer, alone, strict=True):
            assert tensor.raw_data == wanted.raw_data


def test_lazy_tensors_are_computed_in_turn_and_once(source: StoredMatrix, tmp_path: Path) -> None:
    """Of any size: neighbours share what they are computed of, until the next ones come."""
    made: list[str] = []

    def make(name: str, count: int) -> np.ndarray:
        made.append(name)
        return np.zeros(count, np.float32)

    def model() -> ir.Model:
        scope, sizes = Scope("m", Sheet()), {"codes": 1000, "scale": 4, "next": 1000}
        for name, size in sizes.items():
            tensor = DerivedWeight(
                [source], name, partial(make, name, size), ir.DataType.FLOAT, [size], name
            )
            scope.tensor(tensor)
        initializers = list(scope.sheet.initializers.values())
        graph = ir.Graph([], [], nodes=[], initializers=initializers, name="g")
        return ir.Model(graph, ir_version=10)

    write_models({tmp_path / "a.onnx": model(), tmp_path / "b.onnx": model()}, tmp_path / "data")
    assert made == ["codes", "scale", "next"]
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert onnx.load(tmp_path / "b.onnx").graph.initializer[1].raw_data == bytes(16)


def test_four_bits_are_packed(tmp_path: Path) -> None:
    codes = np.random.default_rng(1).integers(-8, 8, (33, 65)).astype(ml_dtypes.int4)
    scope = Scope("m", Sheet())
    inputs = [scope.constant("codes", codes), scope.constant("scale", np.array(1, np.float32))]
    back = new_value("y", codes.shape)
    scope.emit_many("DequantizeLinear", inputs, [back])
    made = ir.Graph(
        [], [back], nodes=scope.sheet.nodes, initializers=inputs, opset_imports={"": 21}, name="g"
    )
    write_model(ir.Model(made, ir_version=10), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").stat().st_size == (33 * 65 + 1) // 2
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(["y"], {})[0], codes.astype(np.float32))

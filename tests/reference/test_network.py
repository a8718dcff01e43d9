import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support.network_models import Net, cnn, encoder, images, sentences

from modelc.errors import ModelcError
from modelc.ir.write import write_model
from modelc.reference.network import NetworkReference

GRAPHS = {"cnn": (cnn, images), "encoder": (encoder, sentences)}


def whole(model: ir.Model, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """ONNX Runtime on the graph as it is, every tensor an output."""
    proto = ir.serde.serialize_model(model)
    known = {output.name for output in proto.graph.output}
    for node in proto.graph.node:
        for name in node.output:
            if name not in known:
                proto.graph.output.add().name = name
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize(
    ("name", "limit"), [("cnn", 1), ("cnn", 1 << 30), ("encoder", 5000), ("encoder", 1 << 30)]
)
def test_every_tensor_however_it_is_cut(name: str, limit: int) -> None:
    make, feeds = GRAPHS[name]
    (feed,) = feeds(1)
    seen: dict[str, np.ndarray] = {}
    reference = NetworkReference(make(), segment_bytes=limit)
    outputs = reference.observe(feed, lambda name, values: seen.update({name: values.copy()}))
    wanted = whole(make(), feed)
    assert set(seen) == set(wanted) | set(feed)
    for tensor, values in wanted.items():
        np.testing.assert_allclose(seen[tensor], values, rtol=1e-4, atol=1e-5, err_msg=tensor)
    assert list(outputs) == [value.name for value in make().graph.outputs]


def test_tensors_are_dropped_when_nothing_reads_them() -> None:
    reference = NetworkReference(encoder(), segment_bytes=5000)
    done = [name for segment in reference._segments for name in segment.done]
    outputs = {value.name for value in encoder().graph.outputs}
    assert len(done) == len(set(done)) and not outputs & set(done)
    made = {value.name for node in encoder().graph for value in node.outputs}
    inside = {name for segment in reference._segments for name in segment.outputs}
    assert made == inside and made - outputs <= set(done)


def test_weights_stay_in_their_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    write_model(encoder(width=64), tmp_path / "x.onnx")
    model = ir.load(tmp_path / "x.onnx")
    (feed,) = sentences(1)
    stored = NetworkReference(model).run(feed)
    np.testing.assert_array_equal(
        stored["pooler.tanh"], NetworkReference(encoder(width=64)).run(feed)["pooler.tanh"]
    )


def test_an_output_that_is_an_input() -> None:
    net = Net()
    x = net.input("x", [2])
    model = net.model(net.op("Abs", [x], "m", dims=[2]), x)
    feed = {"x": np.array([-1, 2], np.float32)}
    assert {k: v.tolist() for k, v in NetworkReference(model).run(feed).items()} == {
        "m": [1, 2],
        "x": [-1, 2],
    }


def test_what_onnx_runtime_refuses() -> None:
    net = Net()
    model = net.model(net.op("NoSuch", [net.input("x", [2])], "some.module", dims=[2]))
    with pytest.raises(ModelcError, match="does not take the float model") as error:
        NetworkReference(model)
    assert error.value.where.module == "some.module"


def test_a_feed_on_which_it_fails() -> None:
    net = Net()
    ids = net.input("ids", [1], ir.DataType.INT64)
    model = net.model(net.op("Gather", [net.weight("table", 4, 2), ids], "look", dims=[1, 2]))
    with pytest.raises(ModelcError, match="the float model fails") as error:
        NetworkReference(model).run({"ids": np.array([9])})
    assert error.value.where.module == "look"

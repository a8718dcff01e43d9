"""Bias correction, held against means that ONNX Runtime's outputs have."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import pytest
from support.network_models import Net, cnn, encoder, images, sentences
from support.network_statistics import model_of, seen_of

from modelc.errors import BadInput
from modelc.ir.network_encodings import NetworkEncodings, Precision
from modelc.passes.network_quantise.quantise import QuantiseNetwork
from modelc.quant.network import correct_biases as module
from modelc.quant.network.calibrate import NetworkStatistics, gather_network_statistics
from modelc.quant.network.correct_biases import CorrectedBiases, correct_biases, mean_outputs
from modelc.quant.network.encodings import choose_encodings
from modelc.reference.network import Feed, NetworkReference
from modelc.verify.network import compare_outputs

W4 = Precision("uint16", "int4")
W8_PER_TENSOR = Precision("uint8", "int8", per_channel=False)


def nodes_of(model: ir.Model, precision: Precision = W4) -> dict[str, Precision]:
    return {str(node.name): precision for node in model.graph}


def corrected(
    model: ir.Model, seen: NetworkStatistics, nodes: Mapping[str, Precision], feeds: Sequence[Feed]
) -> tuple[ir.Model, CorrectedBiases]:
    """Correct the biases of a graph in place, and return its quantised form."""
    wanted = mean_outputs(model, nodes, feeds)
    coded = QuantiseNetwork(choose_encodings(model, seen, nodes)).apply(model.clone())
    done = correct_biases(model, coded, nodes, wanted)
    encodings: NetworkEncodings = choose_encodings(model, seen, nodes)
    return QuantiseNetwork(encodings).apply(model.clone()), done


def means(
    model: ir.Model, feeds: Sequence[Feed], names: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Return the mean of each channel of some tensors; axes by name."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}

    def observe(name: str, values: np.ndarray) -> None:
        if name in names:
            others = tuple(i for i in range(values.ndim) if i != names[name] % values.ndim)
            found[name].append(values.mean(axis=others))

    reference = NetworkReference(model)
    for feed in feeds:
        reference.observe(feed, observe)
    return {name: np.mean(rows, axis=0) for name, rows in found.items()}


CONVOLUTIONS = dict.fromkeys(
    ("stem.conv", "block.depthwise", "block.pointwise", "up", "head.conv"), 1
)


@pytest.mark.parametrize("precision", [W4, W8_PER_TENSOR], ids=["w4a16", "w8a8"])
def test_means_are_those_of_the_float_graph(precision: Precision) -> None:
    """Of every kind of convolution, on what the corrected ones before it make."""
    feeds, seen, model = images(8), seen_of("cnn"), cnn()
    nodes = nodes_of(model, precision)
    wanted = means(cnn(), feeds, CONVOLUTIONS)
    plain = means(
        QuantiseNetwork(choose_encodings(model, seen, nodes)).apply(cnn()), feeds, CONVOLUTIONS
    )
    quantised, done = corrected(model, seen, nodes, feeds)
    found = means(quantised, feeds, CONVOLUTIONS)
    assert not done.left
    assert set(done.shifts) == {*CONVOLUTIONS, "head.fc"}
    for name, mean in wanted.items():
        before, after = np.abs(plain[name] - mean).max(), np.abs(found[name] - mean).max()
        # Biases are rounded to steps of input times weight.
        assert after < 0.1 * before + 2e-4, name
        assert before > 1e-3, name


@pytest.mark.parametrize(
    ("name", "precision"), [("cnn", W4), ("cnn", W8_PER_TENSOR), ("encoder", W4)]
)
def test_outputs_come_closer(name: str, precision: Precision) -> None:
    """Of feeds that it has not seen."""
    feeds = {"cnn": images, "encoder": sentences}[name]
    model, exact, seen = model_of(name), NetworkReference(model_of(name)), seen_of(name)
    nodes = nodes_of(model, precision)
    plain = QuantiseNetwork(choose_encodings(model, seen, nodes)).apply(model_of(name))
    quantised, _ = corrected(model, seen, nodes, feeds(16))
    unseen = feeds(12, seed=7)

    def quality(graph: ir.Model) -> float:
        reference = NetworkReference(graph)
        pairs = [(exact.run(feed), reference.run(feed)) for feed in unseen]
        return min(output.sqnr_db for output in compare_outputs(pairs))

    assert quality(quantised) > quality(plain) + 0.5


def places() -> ir.Model:
    """Linear nodes without a bias, with one for all channels, with one that others read too, with
    one that is no number for each channel; a MatMul that nothing is added to."""
    net = Net()
    x = net.input("x", [1, 4, 6, 6])
    shared = net.weight("shared", 4)
    x = net.op("Conv", [x, net.weight("a", 4, 4, 1, 1)], "bare", dims=[1, 4, 6, 6])
    for name in ("first", "second"):
        weight = net.weight(f"{name}.weight", 4, 4, 1, 1)
        x = net.op("Conv", [x, weight, shared], name, dims=[1, 4, 6, 6])
    x = net.op(
        "ConvTranspose", [x, net.weight("up.weight", 4, 3, 2, 2)], "up",
        dims=[1, 6, 12, 12], kernel_shape=[2, 2], strides=[2, 2], group=2,
    )  # fmt: skip
    x = net.op("Reshape", [x, net.constant("shape", np.array([6, 144]))], "flat", dims=[6, 144])
    one = net.weight("one", 1)
    x = net.op("Gemm", [x, net.weight("b", 144, 5), one], "scalar", dims=[6, 5], beta=2.0)
    x = net.op("Gemm", [x, net.weight("c", 5, 5)], "none", dims=[6, 5])
    x = net.op(
        "Gemm", [x, net.weight("d", 5, 5), net.weight("rows", 6, 1)], "rows.gemm", dims=[6, 5]
    )
    x = net.op("MatMul", [x, net.weight("e", 5, 5)], "product", dims=[6, 5])
    x = net.op("Add", [net.weight("sum.bias", 1, 5), x], "sum", dims=[6, 5])
    return net.model(net.op("MatMul", [x, net.weight("f", 5, 5)], "last", dims=[6, 5]))


def test_where_there_is_a_place() -> None:
    random = np.random.default_rng(0)
    feeds = [{"x": random.normal(size=(1, 4, 6, 6)).astype(np.float32) + 1} for _ in range(4)]
    model, axes = places(), {"bare": 1, "first": 1, "second": 1, "up": 1, "scalar": 1, "none": 1}
    nodes, seen = nodes_of(model), gather_network_statistics(model, feeds)
    quantised, done = corrected(model, seen, nodes, feeds)
    assert done.left == {
        "rows.gemm": "what is added to it is no number for each channel",
        "last": "no Add alone reads it",
    }
    assert set(done.shifts) == {*axes, "product"}
    axes["sum"] = 1
    wanted, found = means(places(), feeds, axes), means(quantised, feeds, axes)
    for name, mean in wanted.items():
        np.testing.assert_allclose(found[name], mean, rtol=1e-3, atol=1e-3, err_msg=name)
    # What was written holds for the float graph too: each bias is its node's own.
    names = [str(value.name) for value in model.graph.initializers.values()]
    assert "shared" not in names and "first.corrected_bias" in names
    assert all(value.uses() for value in model.graph.initializers.values())


def test_what_stays_float_is_left_alone() -> None:
    model = cnn()
    nodes = {**nodes_of(model), "head.conv": Precision("float", "float")}
    before = model.graph.initializers["head.conv.bias"]
    _, done = corrected(model, seen_of("cnn"), nodes, images(4))
    assert "head.conv" not in done.shifts and "head.conv" not in done.left
    assert before.uses()


def test_fewer_feeds_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    model = encoder()
    everything = mean_outputs(model, nodes_of(model), sentences(5))
    assert len(everything.feeds) == 5
    monkeypatch.setattr(module, "HELD_BYTES", 1)
    assert len(mean_outputs(model, nodes_of(model), sentences(5)).feeds) == 1
    with pytest.raises(BadInput, match="no calibration feeds"):
        mean_outputs(model, nodes_of(model), [])

"""What HTP's compiler makes of quantised networks: it takes them whole, and computes the same."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.network_models import Net, images, sentences
from support.network_statistics import model_of, seen_of

from modelc.ir.network_encodings import Precision
from modelc.ir.write import write_model
from modelc.passes.network_quantise.quantise import QuantiseNetwork
from modelc.quant.network.calibrate import NetworkStatistics, gather_network_statistics
from modelc.quant.network.correct_biases import correct_biases, mean_outputs
from modelc.quant.network.encodings import choose_encodings
from modelc.quant.network.precisions import assign_precisions
from modelc.quant.network.schemes import find_network_scheme
from modelc.reference.network import NetworkReference
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import CompileOptions, compile_graphs
from modelc.verify.network import compare_outputs

pytestmark = pytest.mark.simulator

FEEDS = {"cnn": images, "encoder": sentences, "outliers": sentences}
A8, A16 = Precision("uint8"), Precision("uint16")
W4A16 = Precision("uint16", "int4")


def simulate(
    model: ir.Model, feed: dict[str, np.ndarray], folder: Path, fp16: bool = False
) -> dict[str, np.ndarray]:
    """Compile a graph for HTP as a whole, and run it there."""
    write_model(model, folder / "network.onnx")
    made = compile_graphs(
        {"network": folder / "network.onnx"},
        find_chipset("snapdragon-8gen3"),
        CompileOptions(fp16=fp16, finalization=1),
        folder / "out" / "network.bin",
        workdir=folder / "work",
        timeout_s=120,
        feeds={"network": feed},
    )
    return dict(made.results["network"])


def sqnr(wanted: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> float:
    return min(output.sqnr_db for output in compare_outputs([(wanted, found)]))


@pytest.mark.parametrize(
    ("name", "scheme", "overrides", "least"),
    [
        ("cnn", "w8a8", {}, 30),
        ("cnn", "w4a8", {}, 9),
        ("encoder", "w8a16", {}, 30),
        ("outliers", "w8a8", {}, 20),
        ("encoder", "w8a8", {"op:LayerNormalization": "float", "op:Softmax": "a16"}, 20),
    ],
)
def test_schemes(
    name: str, scheme: str, overrides: dict[str, str], least: float, tmp_path: Path
) -> None:
    model, (feed,) = model_of(name), FEEDS[name](1, seed=9)
    chosen = assign_precisions(model, find_network_scheme(scheme), seen_of(name), overrides)
    encodings = choose_encodings(model, seen_of(name), chosen.nodes)
    quantised = QuantiseNetwork(encodings).apply(model_of(name))
    found = simulate(quantised, feed, tmp_path, chosen.needs_fp16)
    assert sqnr(NetworkReference(model).run(feed), found) > least
    # HTP rounds 16 bits less finely than ONNX Runtime, but it must be the same computation.
    assert sqnr(NetworkReference(quantised).run(feed), found) > least


def test_fp16(tmp_path: Path) -> None:
    (feed,) = sentences(1, seed=9)
    found = simulate(model_of("encoder"), feed, tmp_path, fp16=True)
    assert sqnr(NetworkReference(model_of("encoder")).run(feed), found) > 40


def test_codes_at_the_boundary(tmp_path: Path) -> None:
    model, (feed,) = model_of("cnn"), images(1, seed=9)
    nodes = {str(node.name): A8 for node in model.graph}
    encodings = choose_encodings(model, seen_of("cnn"), nodes)
    given = {"image": encodings.values["image"].quantise(feed["image"])}
    quantised = QuantiseNetwork(encodings, codes_at_boundary=True).apply(model_of("cnn"))
    codes = simulate(quantised, given, tmp_path)["head.fc"]
    assert codes.dtype == np.uint8
    values = {"head.fc": encodings.values["head.fc"].dequantise(codes)}
    assert sqnr(NetworkReference(model).run(feed), values) > 30


@pytest.mark.parametrize("precision", [Precision("uint8", "int8", per_channel=False), W4A16])
def test_biases_that_correction_adds(precision: Precision, tmp_path: Path) -> None:
    """Of nodes that had none: HTP takes them, and computes the same as ONNX Runtime."""
    net = Net()
    x = net.input("x", [1, 4, 6, 6])
    for name, group in (("conv", 1), ("depthwise", 4)):
        weight = net.weight(f"{name}.weight", 4, 4 // group, 3, 3)
        x = net.op("Conv", [x, weight], name, dims=[1, 4, 6, 6], group=group, pads=[1] * 4)
    x = net.op(
        "ConvTranspose", [x, net.weight("up.weight", 4, 3, 2, 2)], "up",
        dims=[1, 3, 12, 12], kernel_shape=[2, 2], strides=[2, 2],
    )  # fmt: skip
    x = net.op("Reshape", [x, net.constant("shape", np.array([3, 144]))], "flat", dims=[3, 144])
    x = net.op("Gemm", [x, net.weight("fc.weight", 144, 5)], "fc", dims=[3, 5])
    model = net.model(x)
    random = np.random.default_rng(0)
    feeds = [{"x": random.normal(size=(1, 4, 6, 6)).astype(np.float32) + 1} for _ in range(8)]
    nodes = {str(node.name): precision for node in model.graph}
    seen = gather_network_statistics(model, feeds)
    plain = QuantiseNetwork(choose_encodings(model, seen, nodes)).apply(model.clone())
    correct_biases(model, plain, nodes, mean_outputs(model, nodes, feeds))
    quantised = QuantiseNetwork(choose_encodings(model, seen, nodes)).apply(model)
    found = simulate(quantised, feeds[0], tmp_path)
    wanted, without = (NetworkReference(graph).run(feeds[0]) for graph in (quantised, plain))
    assert sqnr(wanted, found) > max(35, sqnr(without, found) + 1)


def operators() -> ir.Model:
    """What HTP takes only if its constants or weights are quantised in one way."""
    net = Net()
    x = net.input("x", [1, 4, 8, 8])
    x = net.op("PRelu", [x, net.weight("slope", 4, 1, 1, scale=0.3)], "prelu", dims=[1, 4, 8, 8])
    weight, bias = net.weight("up.weight", 4, 3, 2, 2), net.weight("up.bias", 6, scale=0.3)
    x = net.op(
        "ConvTranspose", [x, weight, bias], "up",
        dims=[1, 6, 16, 16], kernel_shape=[2, 2], strides=[2, 2], group=2,
    )  # fmt: skip
    pads = net.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    x = net.op("Pad", [x, pads, net.constant("fill", np.float32(0))], "pad", dims=[1, 6, 18, 18])
    scales = net.constant("scales", np.array([1, 1, 0.5, 0.5], np.float32))
    x = net.op("Resize", [x, None, scales], "resize", dims=[1, 6, 9, 9], mode="linear")
    x = net.op("Sigmoid", [x], "sigmoid", dims=[1, 6, 9, 9])
    x = net.op("CumSum", [x, net.constant("axis", np.array(1))], "sums", dims=[1, 6, 9, 9])
    x = net.op("Reshape", [x, net.constant("shape", np.array([6, 81]))], "flat", dims=[6, 81])
    bias = net.weight("fc.bias", 1, 5)
    return net.model(net.op("Gemm", [x, net.weight("fc.weight", 81, 5), bias], "fc", dims=[6, 5]))


@pytest.mark.parametrize("scheme", ["w8a8", "w8a16"])
def test_operators_with_ways_of_their_own(scheme: str, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    feeds: Sequence[dict[str, np.ndarray]] = [
        {"x": random.normal(size=(1, 4, 8, 8)).astype(np.float32)} for _ in range(8)
    ]
    model = operators()
    seen: NetworkStatistics = gather_network_statistics(model, feeds)
    nodes = assign_precisions(model, find_network_scheme(scheme), seen).nodes
    quantised = QuantiseNetwork(choose_encodings(model, seen, nodes)).apply(operators())
    found = simulate(quantised, feeds[0], tmp_path)
    assert sqnr(NetworkReference(model).run(feeds[0]), found) > 30


def test_small_probabilities(tmp_path: Path) -> None:
    """Of codes up to 1 these would have 18 dB."""
    net = Net()
    model = net.model(net.op("Softmax", [net.input("x", [4, 300])], "p", dims=[4, 300], axis=-1))
    feed = {"x": np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)}
    encodings = choose_encodings(model, gather_network_statistics(model, [feed]), {"p": A8})
    wanted = NetworkReference(model).run(feed)
    found = simulate(QuantiseNetwork(encodings).apply(model), feed, tmp_path)
    assert sqnr(wanted, found) > 30


def test_what_hangs_on_how_far_the_codes_reach(tmp_path: Path) -> None:
    """In codes as wide as what was seen the logarithm would be 0, and softmax have 14 dB."""
    net = Net()
    x = net.input("x", [2, 8])
    log = net.op("Log", [x], "log", dims=[2, 8])
    scores = net.op("Mul", [x, net.constant("small", np.float32(0.1))], "scores", dims=[2, 8])
    chances = net.op("Softmax", [scores], "chances", dims=[2, 8], axis=-1)
    model = net.model(log, chances)
    feed = {"x": np.random.default_rng(0).uniform(1, 2, (2, 8)).astype(np.float32)}
    seen = gather_network_statistics(model, [feed])
    nodes = {str(node.name): A16 for node in model.graph}
    wanted = NetworkReference(model).run(feed)
    quantised = QuantiseNetwork(choose_encodings(model, seen, nodes)).apply(model)
    assert sqnr(wanted, simulate(quantised, feed, tmp_path)) > 60


def test_a_channel_that_is_next_to_nothing(tmp_path: Path) -> None:
    """With scales of its own HTP makes anything of it, in 16 bits."""
    net, random = Net(), np.random.default_rng(0)
    weight = random.normal(size=(10, 6)).astype(np.float32)
    weight[:, 0] *= 1e-6
    product = net.op("MatMul", [net.input("x", [1, 4, 10]), net.constant("weight", weight)], "y",
                     dims=[1, 4, 6])  # fmt: skip
    model = net.model(product)
    feed = {"x": random.uniform(0, 10, (1, 4, 10)).astype(np.float32)}
    seen = gather_network_statistics(model, [feed])
    wanted = NetworkReference(model).run(feed)
    quantised = QuantiseNetwork(choose_encodings(model, seen, {"y": A16})).apply(model)
    assert sqnr(wanted, simulate(quantised, feed, tmp_path)) > 40

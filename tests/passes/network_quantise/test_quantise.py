from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.golden import check_golden
from support.network_models import Net, images, sentences
from support.network_statistics import model_of, seen_of

from modelc.errors import BadInput, ModelcError
from modelc.ir.encodings import Encoding, from_range
from modelc.ir.network_encodings import NetworkEncodings, Precision
from modelc.ir.text import to_text
from modelc.ir.write import write_model
from modelc.passes.base import run_passes
from modelc.passes.network_quantise.quantise import QuantiseNetwork
from modelc.quant.network.calibrate import gather_network_statistics
from modelc.quant.network.encodings import choose_encodings
from modelc.reference.network import NetworkReference
from modelc.verify.network import compare_outputs

GOLDEN = Path(__file__).parent / "golden"
A8, A16, FLOAT = Precision("uint8"), Precision("uint16"), Precision("float", "float")
FEEDS = {"cnn": images, "encoder": sentences, "outliers": sentences}


def quantise(
    model: ir.Model, seen: str, plain: Precision, codes: bool = False, **other: Precision
) -> ir.Model:
    nodes = {str(node.name): other.get(str(node.name), plain) for node in model.graph}
    encodings = choose_encodings(model, seen_of(seen), nodes)
    (result, _) = run_passes(model, [QuantiseNetwork(encodings, codes)], graph="network")
    return result


def sqnr(name: str, model: ir.Model) -> float:
    wanted, found = NetworkReference(model_of(name)), NetworkReference(model)
    pairs = [(wanted.run(feed), found.run(feed)) for feed in FEEDS[name](4, seed=5)]
    return min(output.sqnr_db for output in compare_outputs(pairs))


def small() -> ir.Model:
    """A convolution with bias and Relu, and what comes behind at another precision."""
    net = Net()
    x = net.input("x", [1, 2, 4, 4])
    weight, bias = net.weight("conv.weight", 3, 2, 1, 1), net.weight("conv.bias", 3, scale=0.1)
    y = net.op("Conv", [x, weight, bias], "conv", dims=[1, 3, 4, 4], kernel_shape=[1, 1])
    y = net.op("Relu", [y], "relu", dims=[1, 3, 4, 4])
    y = net.op("Mul", [y, net.constant("two", np.float32(2))], "double", dims=[1, 3, 4, 4])
    y = net.op("Exp", [y], "exp", dims=[1, 3, 4, 4])
    return net.model(net.op("ReduceMax", [y], "most", dims=[1, 1, 1, 1]))


@pytest.mark.parametrize("codes", [False, True])
def test_golden(codes: bool) -> None:
    model = small()
    random = np.random.default_rng(0)
    feeds = [{"x": random.normal(size=(1, 2, 4, 4)).astype(np.float32)} for _ in range(4)]
    seen = gather_network_statistics(model, feeds)
    nodes = {"conv": A8, "relu": A8, "double": A16, "exp": FLOAT, "most": A8}
    encodings = choose_encodings(model, seen, nodes)
    check_golden(GOLDEN / "small_before.txt", to_text(model))
    result, _ = run_passes(model, [QuantiseNetwork(encodings, codes)], graph="small")
    check_golden(GOLDEN / f"small_after{'_codes' if codes else ''}.txt", to_text(result))


@pytest.mark.parametrize(
    ("name", "precision", "least"),
    [
        ("cnn", A8, 30),
        ("cnn", A16, 33),
        ("cnn", Precision("int16"), 33),
        ("cnn", Precision("int8"), 30),
        ("cnn", Precision("uint16", "int16"), 60),
        ("cnn", Precision("uint8", per_channel=False), 25),
        ("cnn", Precision("uint8", "uint8", per_channel=False), 25),
        ("cnn", Precision("uint16", "int4"), 10),
        ("encoder", A8, 20),
        ("encoder", A16, 30),
        ("encoder", Precision("uint16", "int16"), 40),
        ("encoder", Precision("uint16", "int4"), 9),
    ],
)
def test_numbers(name: str, precision: Precision, least: float) -> None:
    assert sqnr(name, quantise(model_of(name), name, precision)) > least


def test_16_bits_around_outliers_help() -> None:
    wide = {f"encoder.layer.{i}.{n}": A16 for i in (0, 1) for n in ("down.product", "down")}
    wide |= {f"encoder.layer.{i}.residual2": A16 for i in (0, 1)}
    mixed = quantise(model_of("outliers"), "outliers", A8, **wide)
    assert sqnr("outliers", mixed) > sqnr(
        "outliers", quantise(model_of("outliers"), "outliers", A8)
    )


def test_float_islands() -> None:
    names = dict.fromkeys(("block.add", "pool", "head.conv", "head.relu"), FLOAT)
    model = quantise(model_of("cnn"), "cnn", A8, **names)
    by_name = {node.name: node for node in model.graph}
    assert by_name["head.conv"].inputs[1].is_initializer()  # type: ignore[union-attr]
    assert sqnr("cnn", model) > sqnr("cnn", quantise(model_of("cnn"), "cnn", A8)) - 1


def test_nothing_at_all_is_quantised() -> None:
    before = to_text(model_of("cnn"))
    assert to_text(quantise(model_of("cnn"), "cnn", FLOAT)) == before


def test_the_boundary_keeps_names_and_types() -> None:
    for codes, kind in ((False, ir.DataType.FLOAT), (True, ir.DataType.UINT8)):
        graph = quantise(model_of("encoder"), "encoder", A8, codes).graph
        source = model_of("encoder").graph
        assert [v.name for v in graph.inputs] == [v.name for v in source.inputs]
        assert [v.name for v in graph.outputs] == [v.name for v in source.outputs]
        assert [v.dtype for v in graph.inputs] == [ir.DataType.INT64, kind]
        assert {v.dtype for v in graph.outputs} == {kind}


def test_codes_at_the_boundary_are_the_same_numbers() -> None:
    nodes = {str(node.name): A8 for node in model_of("cnn").graph}
    encodings = choose_encodings(model_of("cnn"), seen_of("cnn"), nodes)
    floats = NetworkReference(QuantiseNetwork(encodings).apply(model_of("cnn")))
    codes = NetworkReference(QuantiseNetwork(encodings, True).apply(model_of("cnn")))
    (feed,) = images(1)
    given = {"image": encodings.values["image"].quantise(feed["image"])}
    found = encodings.values["head.fc"].dequantise(codes.run(given)["head.fc"])
    np.testing.assert_array_equal(found, floats.run(feed)["head.fc"])


def test_every_zero_point_of_int4_is_written_out() -> None:
    model = quantise(model_of("cnn"), "cnn", Precision("uint16", "int4"))
    for node in model.graph:
        if node.op_type == "DequantizeLinear":
            assert len(node.inputs) == 3 and node.inputs[2] is not None


def test_a_bias_too_large_for_its_scale_widens_the_weights() -> None:
    net = Net()
    weight = net.constant("w", np.array([[1e-7], [1.0]], np.float32))
    bias = net.constant("b", np.array([5000.0, 1.0], np.float32))
    y = net.op("Gemm", [net.input("x", [1, 1]), weight, bias], "m", dims=[1, 2], transB=1)
    model = net.model(y)
    feeds = [{"x": np.array([[v]], np.float32)} for v in (-1e-3, 1e-3)]
    seen = gather_network_statistics(model, feeds)
    result = QuantiseNetwork(choose_encodings(model, seen, {"m": A16})).apply(model)
    found = NetworkReference(result).run(feeds[0])["m"]
    assert found[0, 0] == pytest.approx(5000, rel=1e-3)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1,), (1, 1)])
def test_biases_of_gemm(shape: tuple[int, ...]) -> None:
    net = Net()
    bias = net.constant("b", np.full(shape, 2.0, np.float32))
    inputs = [net.input("x", [2, 4]), net.weight("w", 4, 3), bias]
    model = net.model(net.op("Gemm", inputs, "m", dims=[2, 3], beta=0.5))
    feed = {"x": np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)}
    wanted = NetworkReference(model).run(feed)["m"]
    seen = gather_network_statistics(model, [feed])
    result = QuantiseNetwork(choose_encodings(model, seen, {"m": A16})).apply(model)
    assert {node.op_type for node in result.graph} == {"QuantizeLinear", "DequantizeLinear", "Gemm"}
    np.testing.assert_allclose(NetworkReference(result).run(feed)["m"], wanted, atol=0.02)


def test_weights_with_nan_are_refused() -> None:
    net = Net()
    weight = net.constant("w", np.array([[np.nan]], np.float32))
    model = net.model(net.op("MatMul", [net.input("x", [1, 1]), weight], "m", dims=[1, 1]))
    values = {"x": seen_encoding(), "m": seen_encoding()}
    with pytest.raises(BadInput, match="NaN") as error:
        QuantiseNetwork(NetworkEncodings(values, {"m": A8})).apply(model)
    assert error.value.where.module == "w"


def test_encodings_of_another_graph() -> None:
    model = model_of("cnn")
    with pytest.raises(ModelcError, match="nothing says how image is encoded in uint8"):
        QuantiseNetwork(NetworkEncodings({}, {"stem.conv": A8})).apply(model)


def seen_encoding() -> Encoding:

    return from_range(-1, 1, "uint8")


def test_constants_of_a_file_find_their_way_into_another(tmp_path: Path) -> None:
    source = model_of("cnn")
    ir.save(source, tmp_path / "source.onnx", external_data="data", size_threshold_bytes=0)
    model = quantise(ir.load(tmp_path / "source.onnx"), "cnn", A16)
    (tmp_path / "made").mkdir()
    write_model(model, tmp_path / "made" / "network.onnx")
    (tmp_path / "data").unlink()
    read = ir.load(tmp_path / "made" / "network.onnx")
    (feed,) = images(1)
    wanted = NetworkReference(quantise(model_of("cnn"), "cnn", A16)).run(feed)["head.fc"]
    np.testing.assert_array_equal(NetworkReference(read).run(feed)["head.fc"], wanted)


def test_biases_of_norms_are_int32() -> None:
    model = quantise(model_of("encoder"), "encoder", A16)
    (norm,) = (node for node in model.graph if node.name == "encoder.layer.0.norm")
    types = []
    for value in norm.inputs[1:]:
        node = value.producer() if value is not None else None
        assert node is not None and node.inputs[0] is not None
        types.append(node.inputs[0].dtype)
    assert types == [ir.DataType.UINT8, ir.DataType.INT32]

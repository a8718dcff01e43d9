import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference.ops.op_conv import _conv_implementation
from support.network_models import Net, cnn, encoder, images, sentences
from support.network_statistics import model_of, seen_of

from modelc.errors import BadInput
from modelc.ir.network_encodings import Precision
from modelc.ir.operands import linear_of
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.kinds import IntegerForm
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.passes.network_quantise.quantise import QuantiseNetwork
from modelc.quant.network import round_weights as module
from modelc.quant.network.encodings import choose_encodings
from modelc.quant.network.patches import patches_of
from modelc.quant.network.round_weights import Rounding, round_weights
from modelc.reference.network import NetworkReference
from modelc.verify.network import compare_outputs

W4 = Precision("uint16", "int4")


def nodes_of(model: ir.Model) -> dict[str, Precision]:
    return {str(node.name): W4 for node in model.graph}


def quality(name: str, how: Rounding | None) -> float:
    feeds = {"cnn": images, "encoder": sentences}[name]
    model, wanted = model_of(name), NetworkReference(model_of(name))
    scales = round_weights(model, nodes_of(model), lambda: feeds(16), how).scales if how else {}
    encodings = choose_encodings(model, seen_of(name), nodes_of(model), scales=scales)
    found = NetworkReference(QuantiseNetwork(encodings).apply(model))
    pairs = [(wanted.run(feed), found.run(feed)) for feed in feeds(6, seed=7)]
    return min(output.sqnr_db for output in compare_outputs(pairs))


@pytest.mark.parametrize("how", ["gptq", "adaround"])
@pytest.mark.parametrize("name", ["cnn", "encoder"])
def test_outputs_come_closer(name: str, how: Rounding) -> None:
    assert quality(name, how) > quality(name, None) + 1


@pytest.mark.parametrize("how", ["gptq", "adaround"])
def test_weights_lie_on_their_codes(how: Rounding) -> None:
    model = cnn()
    done = round_weights(model, nodes_of(model), lambda: images(2), how)
    for node in model.graph:
        linear = linear_of(node)
        if linear is None or node.name in done.left:
            continue
        assert linear.weight.const_value is not None
        rows = linear.rows(linear.weight.const_value.numpy())
        scales = np.array(done.scales[str(linear.weight.name)])[:, None]
        codes = rows / scales
        np.testing.assert_allclose(codes, np.rint(codes), atol=1e-3)
        assert np.rint(codes).min() >= -8 and np.rint(codes).max() <= 7
    assert set(done.left) == {"up"}


@pytest.mark.parametrize("how", ["gptq", "adaround"])
@pytest.mark.parametrize("group", [2, 4, 8])
def test_groups_are_rounded_as_convolutions_of_their_own(group: int, how: Rounding) -> None:
    """Each group's slices of input and weight as a Conv in one group have the same codes."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(8, 8 // group, 3, 3)).astype(np.float32)
    x = random.normal(size=(2, 8, 9, 9)).astype(np.float32)

    def rounded(weights: np.ndarray, data: np.ndarray, groups: int) -> np.ndarray:
        net = Net()
        read = [net.input("x", data.shape), net.constant("w", weights)]
        dims = [len(data), len(weights), *data.shape[2:]]
        model = net.model(net.op("Conv", read, "conv", dims=dims, group=groups, pads=[1] * 4))
        round_weights(model, nodes_of(model), lambda: [{"x": data}], how)
        (value,) = [v for v in model.graph.initializers.values() if v.const_value is not None]
        assert value.const_value is not None
        return value.const_value.numpy()

    parts = [
        rounded(*pair, 1)
        for pair in zip(np.split(weight, group), np.split(x, group, axis=1), strict=True)
    ]
    whole = rounded(weight, x, group)
    np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-6)
    assert (whole != weight).any()


@pytest.mark.parametrize("how", ["gptq", "adaround"])
@pytest.mark.parametrize(("channels", "group"), [(8, 1), (8, 2), (96, 96)])
def test_less_is_lost_of_grouped_convolutions_than_by_the_nearest_codes(
    channels: int, group: int, how: Rounding
) -> None:
    """On the calibration data; ONNX's reference computes the outputs."""
    random = np.random.default_rng(1)
    weight = random.normal(size=(channels, channels // group, 3, 3)).astype(np.float32)
    mixed = random.normal(size=(channels, channels)).astype(np.float32) / channels**0.5
    white = random.normal(size=(2, channels, 9, 9)) + 1
    x = np.einsum("ij,bjhw->bihw", mixed, white).astype(np.float32)
    net = Net()
    read = [net.input("x", x.shape), net.constant("w", weight)]
    model = net.model(net.op("Conv", read, "conv", dims=x.shape, group=group, pads=[1] * 4))
    (node,) = model.graph
    linear = linear_of(node)
    assert linear is not None
    nearest = dequantise_rows(quantise_rows(linear.rows(weight), IntegerForm(4)))
    done = round_weights(model, nodes_of(model), lambda: [{"x": x}], how)
    assert not done.left and linear.weight.const_value is not None
    wanted, plain, found = (
        _conv_implementation(x, w, None, "NOTSET", None, group, [3, 3], [1] * 4, None)
        for w in (weight, nearest.reshape(weight.shape), linear.weight.const_value.numpy())
    )
    assert np.square(found - wanted).sum() < 0.8 * np.square(plain - wanted).sum()


def test_moments_in_waves(monkeypatch: pytest.MonkeyPatch) -> None:
    together = encoder()
    round_weights(together, nodes_of(together), lambda: sentences(4), "gptq")
    monkeypatch.setattr(module, "MOMENTS_BYTES", 1)
    apart, calls = encoder(), []
    round_weights(apart, nodes_of(apart), lambda: calls.append(1) or sentences(4), "gptq")
    assert len(calls) == sum(linear_of(node) is not None for node in encoder().graph)
    for name, value in together.graph.initializers.items():
        assert value.const_value is not None
        other = apart.graph.initializers[name].const_value
        assert other is not None
        np.testing.assert_array_equal(value.const_value.numpy(), other.numpy())


def test_no_feeds() -> None:
    model = encoder()
    with pytest.raises(BadInput, match="no calibration feeds"):
        round_weights(model, nodes_of(model), list, "gptq")


@pytest.mark.parametrize(
    ("attributes", "kernel"),
    [
        ({}, [3, 3]),
        ({"pads": [1, 0, 2, 1]}, [3, 3]),
        ({"strides": [2, 3], "pads": [1, 1, 1, 1]}, [3, 2]),
        ({"dilations": [2, 1]}, [3, 3]),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, [3, 3]),
        ({"auto_pad": "SAME_LOWER"}, [2, 4]),
        ({"auto_pad": "VALID"}, [2, 2]),
    ],
)
def test_patches_times_weights_are_the_convolution(
    attributes: dict[str, object], kernel: list[int]
) -> None:
    net = Net()
    weight = net.weight("w", 5, 3, *kernel)
    x = net.random.normal(size=(2, 3, 9, 8)).astype(np.float32)
    made = net.op(
        "Conv", [net.input("x", x.shape), weight], "m", dims=[1], kernel_shape=kernel, **attributes
    )
    (node,) = net.model(made).graph
    array = net.sheet.initializers["w"].const_value
    assert array is not None
    settings = {"auto_pad": "NOTSET", "dilations": None, "pads": None, "strides": None}
    wanted = _conv_implementation(
        x, array.numpy(), None, **{**settings, **attributes, "group": 1, "kernel_shape": kernel}
    )
    found = patches_of(node, x) @ array.numpy().reshape(5, -1).T
    np.testing.assert_allclose(found, wanted.transpose(0, 2, 3, 1).reshape(-1, 5), atol=1e-4)

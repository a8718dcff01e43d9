from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest
from support.network_models import Net
from support.network_statistics import model_of, seen_of

from modelc.errors import BadInput, ModelcError
from modelc.ir.encodings import Encoding, from_range
from modelc.ir.network_encodings import Precision, is_float
from modelc.quant.network.calibrate import gather_network_statistics
from modelc.quant.network.encodings import HEADROOM, choose_encodings
from modelc.quant.network.known_ranges import LEAST_PEAK, PEAK_ROOM
from modelc.quant.network.unshare import unshare_constants
from modelc.quant.observers import make_observer
from modelc.reference.network import NetworkReference

A8, A16, FLOAT = Precision("uint8"), Precision("uint16"), Precision("float", "float")


def nodes_of(model: ir.Model, plain: Precision, **other: Precision) -> dict[str, Precision]:
    return {str(node.name): other.get(str(node.name), plain) for node in model.graph}


def chosen(name: str, plain: Precision, **other: Precision) -> Mapping[str, Encoding]:
    model = model_of(name)
    return choose_encodings(model, seen_of(name), nodes_of(model, plain, **other)).values


def test_ranges_are_what_was_seen() -> None:
    found, seen = chosen("cnn", A8), seen_of("cnn").tensors
    assert found["image"] == from_range(seen["image"].low, seen["image"].high, "uint8")
    wide = chosen("cnn", A16)["image"]
    assert wide.maximum == pytest.approx(seen["image"].high * HEADROOM, rel=1e-3)


def test_all_values_have_one() -> None:
    model = model_of("encoder")
    found = chosen("encoder", A8)
    made = {str(v.name) for node in model.graph for v in node.outputs if is_float(v)}
    assert made <= set(found)
    assert {"encoder.layer.0.norm.weight", "embeddings.weight", "scale"} <= set(found)
    assert not {"input_ids", "encoder.layer.0.up.weight", "encoder.layer.0.norm.bias"} & set(found)


def test_relu_and_clip_are_folded() -> None:
    found = chosen("cnn", A8)
    assert found["stem.conv"] == found["stem.relu"] and found["stem.relu"].minimum == 0
    assert found["block.depthwise"] == found["block.relu6"]


def test_what_is_only_moved_shares_one() -> None:
    found = chosen("cnn", A8)
    assert found["join"] == found["up"] == found["block.add"] == found["pool"]
    assert found["head.pool"] == found["head.flatten"] != found["head.relu"]
    encoder = chosen("encoder", A16)
    assert encoder["embeddings"] == encoder["embeddings.weight"]
    query = "encoder.layer.0.query"
    assert encoder[query] == encoder[f"{query}.heads"] == encoder[f"{query}.turned"]


def test_known_ranges() -> None:
    found = chosen("encoder", A8)
    assert found["pooler.tanh"] == Encoding(1 / 128, 128, "uint8")
    assert chosen("encoder", A16)["pooler.tanh"] == Encoding(1 / 32768, 32768, "uint16")
    assert chosen("encoder", Precision("int8"))["pooler.tanh"] == Encoding(1 / 128, 0, "int8")


@pytest.mark.parametrize(
    ("spread", "reach"), [(20, 1.0), (2.5, None), (0.01, LEAST_PEAK)], ids=["full", "seen", "least"]
)
def test_probabilities_reach_as_far_as_seen(spread: float, reach: float | None) -> None:
    """Even if an observer would clip them; not so little that HTP can't compute it."""
    net = Net()
    model = net.model(net.op("Softmax", [net.input("x", [4, 300])], "p", dims=[4, 300], axis=-1))
    x = np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)
    seen = gather_network_statistics(model, [{"x": spread * x}])
    wanted = seen.tensors["p"].high * PEAK_ROOM if reach is None else reach
    observer = make_observer("percentile", kept=90.0)
    found = choose_encodings(model, seen, nodes_of(model, A8), observer).values["p"]
    assert found == from_range(0, wanted, "uint8")


def test_codes_of_a_logarithm_reach_far_enough() -> None:
    net = Net()
    log = net.op("Log", [net.input("x", [1, 8])], "log", dims=[1, 8])
    flat = net.op("Reshape", [log, net.constant("sizes", [8])], "flat", dims=[8])
    model = net.model(flat)
    seen = gather_network_statistics(model, [{"x": np.linspace(1, 1.2, 8, dtype=np.float32)[None]}])
    found = choose_encodings(model, seen, nodes_of(model, A16)).values
    assert found["log"] == found["flat"]
    assert 4 < found["log"].maximum < 4.01 and found["log"].minimum == 0
    assert choose_encodings(model, seen, nodes_of(model, A8)).values["log"].maximum < 0.2


def test_scores_reach_far_enough_for_softmax() -> None:
    net = Net()
    chances = net.op("Softmax", [net.input("x", [1, 8])], "chances", dims=[1, 8], axis=-1)
    model = net.model(chances)
    seen = gather_network_statistics(model, [{"x": np.linspace(-1, 1, 8, dtype=np.float32)[None]}])
    wide = choose_encodings(model, seen, nodes_of(model, A16)).values["x"]
    assert wide.minimum == pytest.approx(-HEADROOM, rel=1e-3)
    assert wide.maximum - wide.minimum == pytest.approx(12, rel=1e-3)
    assert choose_encodings(model, seen, nodes_of(model, A8)).values["x"].maximum < 1.01


def test_masks_that_are_added_and_bounded_do_not_spoil_each_other() -> None:
    net = Net()
    hidden = net.constant("hidden", np.array([[0, 0, -30000, -30000]], np.float32))
    bias = net.op("Add", [net.input("bias", [1, 4]), hidden], "bias.sum", dims=[1, 4])
    bounded = net.op("Max", [bias, net.constant("lowest", np.float32(-30000))], "max", dims=[1, 4])
    scores = net.op("Add", [net.input("x", [1, 4]), bounded], "scores", dims=[1, 4])
    model = net.model(net.op("Softmax", [scores], "chances", dims=[1, 4], axis=-1))
    feed = {name: np.linspace(-1, 1, 4, dtype=np.float32)[None] for name in ("x", "bias")}
    seen = gather_network_statistics(model, [feed])
    found = choose_encodings(model, seen, nodes_of(model, A16)).values
    assert all(-50 < found[name].minimum < -15 for name in ("hidden", "bias.sum", "max", "scores"))


def test_what_is_hidden_wholly_is_as_far_down_as_the_floor() -> None:
    net = Net()
    x, shown = net.input("x", [1, 4]), net.constant("shown", np.array([True, True, False, False]))
    scores = net.op("Where", [shown, x, net.constant("low", np.float32(-30000))], "scores",
                    dims=[1, 4])  # fmt: skip
    model = net.model(net.op("Softmax", [scores], "chances", dims=[1, 4], axis=-1))
    seen = gather_network_statistics(model, [{"x": np.ones((1, 4), np.float32)}])
    found = choose_encodings(model, seen, nodes_of(model, A16)).values
    assert found["low"] == found["scores"] and -21 < found["scores"].minimum < -15


def test_a_constant_that_is_moved_twice_has_two_encodings() -> None:
    net = Net()
    zero = net.constant("zero", np.zeros((1, 4), np.float32))
    large = net.op("Mul", [net.input("x", [1, 4]), net.constant("k", np.float32(1000))], "large",
                   dims=[1, 4])  # fmt: skip
    one = net.op("Concat", [large, zero], "one", dims=[2, 4], axis=0)
    two = net.op("Concat", [net.input("y", [1, 4]), zero], "two", dims=[2, 4], axis=0)
    model = net.model(one, two)
    unshare_constants(model.graph)
    feed = {name: np.linspace(-1, 1, 4, dtype=np.float32)[None] for name in ("x", "y")}
    seen = gather_network_statistics(model, [feed])
    found = choose_encodings(model, seen, nodes_of(model, A16)).values
    assert found["one"].maximum > 1000 and found["two"].maximum < 2
    np.testing.assert_equal(NetworkReference(model).run(feed)["two"][1], np.zeros(4))


def test_masks_do_not_spoil_the_scores() -> None:
    found = chosen("encoder", A8)
    scores = found["encoder.layer.0.masked"]
    assert -60 < scores.minimum < -10 and scores.maximum < 20
    # Hidden plus the largest score is no more than the lowest of the codes.
    largest = found["encoder.layer.0.scaled"].maximum
    assert found["mask"].minimum + largest <= scores.minimum + 1.5 * found["mask"].scale


def test_where_two_types_meet() -> None:
    found = chosen("cnn", A8, **{"block.add": A16})
    assert found["block.add"].dtype == "uint16" and found["block.pointwise"].dtype == "uint8"
    assert found["block.pointwise.uint16"].dtype == "uint16"
    assert found["stem.relu.uint16"].dtype == "uint16"
    assert found["pool"].dtype == "uint16"  # moves it, and never rounds
    assert found["pool.uint8"].dtype == "uint8"  # for the convolution behind


def test_float_islands() -> None:
    found = chosen("cnn", A8, **{"block.add": FLOAT, "pool": FLOAT})
    assert "block.add" not in found and "pool" not in found
    assert found["pool.uint8"].dtype == "uint8"
    assert "block.pointwise" in found  # a quantised node makes it


def test_symmetric_activations() -> None:
    found = chosen("encoder", Precision("uint16", symmetric=True))
    assert found["encoder.layer.0.up"].zero_point == 32768
    signed = chosen("encoder", Precision("int16"))
    assert {row.zero_point for row in signed.values()} <= {0, -32768}
    assert signed["encoder.layer.0.up"].zero_point == 0


def test_another_observer() -> None:
    model = model_of("cnn")
    nodes = nodes_of(model, A8)
    narrow = choose_encodings(
        model, seen_of("cnn"), nodes, make_observer("percentile", kept=90)
    ).values
    assert narrow["image"].scale < chosen("cnn", A8)["image"].scale


def test_statistics_of_another_graph() -> None:
    with pytest.raises(ModelcError, match="nothing was seen"):
        choose_encodings(model_of("cnn"), seen_of("encoder"), nodes_of(model_of("cnn"), A8))


def test_a_constant_with_nan() -> None:
    net = Net()
    bad = net.constant("bad", np.array([1, np.nan], np.float32))
    model = net.model(net.op("Add", [net.input("x", [2]), bad], "m", dims=[2]))
    clean = Net()
    good = clean.constant("bad", np.array([1, 2], np.float32))
    same = clean.model(clean.op("Add", [clean.input("x", [2]), good], "m", dims=[2]))
    seen = gather_network_statistics(same, [{"x": np.ones(2, np.float32)}])
    with pytest.raises(BadInput, match="holds NaN"):
        choose_encodings(model, seen, {"m": A8})

import numpy as np
import pytest
from support.network_models import Net
from support.network_statistics import model_of, seen_of

from modelc.errors import BadInput
from modelc.ir.network_encodings import Precision
from modelc.quant.network.calibrate import gather_network_statistics
from modelc.quant.network.precisions import assign_precisions, parse_precision
from modelc.quant.network.schemes import find_network_scheme
from modelc.quant.network.sensitive import middle_db
from modelc.quant.statistics import TensorStatistics

W8A8 = find_network_scheme("w8a8")
W8A16 = find_network_scheme("w8a16")


def test_every_node_of_floats_has_one() -> None:
    model = model_of("encoder")
    found = assign_precisions(model, W8A16, seen_of("encoder"))
    assert set(found.nodes) == {node.name for node in model.graph}
    assert set(found.nodes.values()) == {W8A16.precision}
    assert not found.widened and not found.needs_fp16


def test_outliers_get_16_bits() -> None:
    found = assign_precisions(model_of("outliers"), W8A8, seen_of("outliers"))
    assert set(found.widened) == {
        f"encoder.layer.{i}.{name}"
        for i in (0, 1)
        for name in ("down.product", "down", "residual2")
    }
    assert found.nodes["encoder.layer.0.down"].activations == "uint16"
    pure = assign_precisions(
        model_of("outliers"), find_network_scheme("w8a8_pure"), seen_of("outliers")
    )
    assert not pure.widened
    assert not assign_precisions(model_of("encoder"), W8A8, seen_of("encoder")).widened


def test_the_middle_of_a_tensor() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 100_000)
    # Of an even spread over the whole range the variance is (255 step)^2 / 12.
    assert middle_db(TensorStatistics.of(values)) == pytest.approx(20 * np.log10(255), abs=0.2)
    wide = TensorStatistics.of(np.append(values, 100.0))
    assert middle_db(wide) < middle_db(TensorStatistics.of(values)) - 30
    assert middle_db(TensorStatistics.of(np.full(4, 3.0))) == np.inf


def test_overrides() -> None:
    found = assign_precisions(
        model_of("outliers"),
        W8A8,
        seen_of("outliers"),
        {
            "op:LayerNormalization": "float",
            "encoder.layer.*": "a16",
            "encoder.layer.1.down": "a8",
            "*.query": "w4",
        },
    ).nodes
    assert found["embeddings.norm"] == Precision("float", "float")
    assert found["encoder.layer.0.norm"].activations == "uint16"  # the last one counts
    assert found["encoder.layer.1.down"].activations == "uint8"  # named, so it is left alone
    assert found["encoder.layer.1.down.product"].activations == "uint8"
    assert found["encoder.layer.0.query.product"] == Precision("uint8", "int4")
    assert found["encoder.layer.0.query"].activations == "uint16"  # has no weight to speak of
    assert found["pooler.dense"] == W8A8.precision


def test_float_needs_fp16() -> None:
    found = assign_precisions(model_of("cnn"), W8A8, seen_of("cnn"), {"head": "float"})
    assert found.needs_fp16


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [("encoder.layer.7", "encoder.layer"), ("op:LayerNorm", "op:LayerNormalization")],
)
def test_patterns_that_match_nothing(pattern: str, hint: str) -> None:
    with pytest.raises(BadInput, match="no node fits") as error:
        assign_precisions(model_of("encoder"), W8A8, seen_of("encoder"), {pattern: "a16"})
    assert hint in error.value.hint


@pytest.mark.parametrize("text", ["", "w16", "a4", "a16w8", "int8", "w8a8 "])
def test_texts_that_are_no_precision(text: str) -> None:
    with pytest.raises(BadInput, match="is no precision"):
        parse_precision(text, W8A8.precision)


def test_signed_schemes_stay_signed() -> None:
    assert parse_precision("a16", Precision("int8")).activations == "int16"


def test_a_float_scheme_has_nothing_to_override() -> None:
    with pytest.raises(BadInput, match="no precisions to override"):
        assign_precisions(
            model_of("cnn"), find_network_scheme("fp16"), seen_of("cnn"), {"head": "a8"}
        )


def test_sums_along_an_axis_are_never_of_8_bits() -> None:
    net = Net()
    axis = net.constant("axis", np.array(1))
    model = net.model(net.op("CumSum", [net.input("x", [1, 4]), axis], "sums", dims=[1, 4]))
    seen = gather_network_statistics(model, [{"x": np.ones((1, 4), np.float32)}])
    scheme = find_network_scheme("w8a8_pure")
    found = assign_precisions(model, scheme, seen, {"sums": "a8"})
    assert found.nodes["sums"].activations == "uint16" and found.widened == ("sums",)


def test_what_crashes_in_codes_is_refused() -> None:
    net = Net()
    weights = [net.weight("w", 1, 6, 4), net.weight("r", 1, 6, 2)]
    gru = net.op("GRU", [net.input("x", [3, 1, 4]), *weights], "gru", dims=[3, 1, 1, 2],
                 hidden_size=2)  # fmt: skip
    model = net.model(gru)
    seen = gather_network_statistics(model, [{"x": np.ones((3, 1, 4), np.float32)}])
    with pytest.raises(BadInput, match="GRU can't be quantised") as caught:
        assign_precisions(model, W8A16, seen)
    assert "op:GRU=float" in caught.value.hint
    assert assign_precisions(model, W8A16, seen, {"op:GRU": "float"}).needs_fp16

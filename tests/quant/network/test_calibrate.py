import numpy as np
import pytest
from support.network_models import Net, cnn, encoder, images, sentences
from support.network_statistics import seen_of

from modelc.errors import BadInput, ModelcError
from modelc.quant.network.calibrate import gather_network_statistics
from modelc.quant.network.floors import floors_of
from modelc.reference.network import NetworkReference

LOWEST = np.finfo(np.float32).min


def test_ranges_of_all_float_tensors() -> None:
    seen = gather_network_statistics(cnn(), images(3))
    lows: dict[str, float] = {}

    def observe(name: str, values: np.ndarray) -> None:
        lows[name] = min(lows.get(name, np.inf), float(values.min()))

    for feed in images(3):
        NetworkReference(cnn()).observe(feed, observe)
    assert {name: row.low for name, row in seen.tensors.items()} == lows
    assert seen.feeds == 3


def test_integers_have_no_ranges() -> None:
    assert "input_ids" not in seen_of("encoder").tensors


def test_progress() -> None:
    told: list[int] = []
    gather_network_statistics(cnn(), iter(images(2)), lambda done, message: told.append(done))
    assert told == [1, 2]


def test_no_feeds() -> None:
    with pytest.raises(BadInput, match="no calibration feeds"):
        gather_network_statistics(cnn(), [])


def test_nan_is_refused_where_it_arises() -> None:
    net = Net()
    y = net.op("Log", [net.input("x", [2])], "some.log", dims=[2])
    model = net.model(net.op("Exp", [y], "later", dims=[2]))
    with pytest.raises(ModelcError, match="NaN") as error:
        gather_network_statistics(model, [{"x": np.array([-1, 1], np.float32)}])
    assert error.value.where.module == "some.log"


def masked(hidden: float) -> tuple[Net, dict[str, np.ndarray]]:
    """Softmax of scores plus a mask that comes from outside."""
    net = Net()
    scores, mask = net.input("scores", [2, 4]), net.input("mask", [1, 4])
    half = net.constant("half", np.float32(0.5))
    scaled = net.op("Mul", [scores, half], "scaled", dims=[2, 4])
    added = net.op("Add", [scaled, mask], "added", dims=[2, 4])
    net.last = net.op("Softmax", [added], "softmax", dims=[2, 4])  # type: ignore[attr-defined]
    feed = {
        "scores": np.array([[2, 4, -6, 8], [2, -2, 0, 20]], np.float32),
        "mask": np.array([[0, 0, 0, hidden]], np.float32),
    }
    return net, feed


@pytest.mark.parametrize("hidden", [-10000.0, LOWEST, -np.inf])
def test_floors_in_front_of_softmax(hidden: float) -> None:
    net, feed = masked(hidden)
    model = net.model(net.last)  # type: ignore[attr-defined]
    seen = gather_network_statistics(model, [feed])
    assert seen.peaks == {"added": 1.0}  # of the rows' largest, 2 and 1
    floors = {value.name: floor for value, floor in floors_of(model.graph, seen, 20.0).items()}
    assert floors["added"] == -19
    assert floors["mask"] == -19 - 10  # hides the largest of the scaled scores as well
    assert floors["scaled"] == -19 - 0
    assert floors["scores"] == -38
    assert ("mask" in seen.hidden) == (hidden < -1e30)


def test_what_others_read_has_no_floor() -> None:
    net, feed = masked(-10000.0)
    added = net.sheet.nodes[-1].inputs[0]
    assert added is not None
    model = net.model(net.last, added)  # type: ignore[attr-defined]
    seen = gather_network_statistics(model, [feed])
    assert not floors_of(model.graph, seen, 20.0)


def test_rows_that_are_hidden_wholly_do_not_count() -> None:
    net, feed = masked(-10000.0)
    feed["scores"][1] = -30000.0
    model = net.model(net.last)  # type: ignore[attr-defined]
    assert gather_network_statistics(model, [feed]).peaks == {"added": 2.0}


def test_the_encoder_s_mask_is_found() -> None:
    model = encoder()
    floors = {v.name: f for v, f in floors_of(model.graph, seen_of("encoder"), 10.0).items()}
    assert -200 < floors["mask"] < -10
    assert "embeddings.norm" not in floors
    assert sentences(1)

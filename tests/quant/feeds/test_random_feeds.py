import numpy as np
import onnx_ir as ir
from support.network_models import Net, cnn, encoder

from modelc.quant.feeds import random_feeds
from modelc.reference.network import NetworkReference


def test_ids_are_rows_of_the_table() -> None:
    feeds = list(random_feeds(encoder(), 50))
    ids = np.concatenate([feed["input_ids"] for feed in feeds])
    assert ids.dtype == np.int64 and ids.min() == 0 and ids.max() == 39  # the table has 40 rows
    assert all((feed["attention_mask"] == 1).all() for feed in feeds)


def test_images_are_normal_and_repeatable() -> None:
    (one,), (same,), (other,) = (list(random_feeds(cnn(), 1, seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one["image"], same["image"])
    assert (one["image"] != other["image"]).all() and 0.9 < one["image"].std() < 1.1


def test_other_types() -> None:
    net = Net()
    for name, dtype in (
        ("flags", ir.DataType.BOOL),
        ("pixels", ir.DataType.UINT8),
        ("token_type_ids", ir.DataType.INT64),
    ):
        net.input(name, [1, 400], dtype)
    out = net.op("Identity", [net._inputs[0]], "m", dims=[1, 400], dtype=ir.DataType.BOOL)
    (feed,) = random_feeds(net.model(out), 1)
    assert 0 < feed["flags"].sum() < 400
    assert feed["pixels"].dtype == np.uint8 and feed["pixels"].max() > 200
    assert not feed["token_type_ids"].any()


def test_the_graph_runs_on_them() -> None:
    reference = NetworkReference(encoder())
    for feed in random_feeds(encoder(), 3):
        assert all(np.isfinite(output).all() for output in reference.run(feed).values())

import numpy as np
import onnx_ir as ir
import pytest
from support.network_models import Net, encoder

from modelc.errors import BadInput, Where
from modelc.quant.feeds import InputSpec, fit_feed, inputs_of

IDS = InputSpec("ids", np.dtype(np.int64), (1, 4))
IMAGE = InputSpec("image", np.dtype(np.float32), (1, 3, 2, 2))


def fit(array: np.ndarray, spec: InputSpec) -> np.ndarray:
    return fit_feed({spec.name: array}, [spec], "sample 0", Where())[spec.name]


def test_inputs_of_a_graph() -> None:
    ids, mask = inputs_of(encoder(tokens=8))
    assert str(ids) == "input_ids int64[1, 8]"
    assert mask.dtype == np.float32 and mask.nbytes == 32


def test_a_size_must_be_fixed() -> None:
    net = Net()
    net.input("x", ["batch", 3])  # type: ignore[list-item]
    with pytest.raises(BadInput, match="x has no fixed sizes"):
        inputs_of(ir.Model(ir.Graph(net._inputs, [], nodes=[]), ir_version=10))


def test_whole_floats_become_ids() -> None:
    fitted = fit(np.array([[1.0, 2.0, 3.0, 4.0]], np.float32), IDS)
    assert fitted.dtype == np.int64 and fitted.tolist() == [[1, 2, 3, 4]]


def test_a_missing_batch_axis_is_added() -> None:
    assert fit(np.zeros((3, 2, 2), np.float32), IMAGE).shape == (1, 3, 2, 2)


def test_a_double_becomes_a_float() -> None:
    assert fit(np.full((1, 3, 2, 2), 0.1), IMAGE).dtype == np.float32


@pytest.mark.parametrize(
    ("array", "spec", "message"),
    [
        (np.array([[1.5, 2, 3, 4]]), IDS, "can't become it without loss"),
        (np.array([[1, np.nan, 3, 4]]), IDS, "can't become it without loss"),
        (np.array([[1e30, 2, 3, 4]]), IDS, "can't become it without loss"),
        (np.full((1, 3, 2, 2), 1e300), IMAGE, "can't become it without loss"),
        (np.zeros((1, 2, 2, 3), np.float32), IMAGE, r"is given \[1, 2, 2, 3\]"),
        (np.zeros((2, 4), np.int64), IDS, r"is given \[2, 4\]"),
        (np.array([["a", "b", "c", "d"]]), IDS, "no numbers"),
        (np.array([[None] * 4]), IDS, "no numbers"),
    ],
)
def test_what_does_not_fit(array: np.ndarray, spec: InputSpec, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        fit(array, spec)


def test_names_are_checked() -> None:
    with pytest.raises(BadInput, match="no input is called 'idz'") as error:
        fit_feed({"idz": np.zeros((1, 4))}, [IDS], "line 3", Where())
    assert "did you mean ids" in error.value.hint
    with pytest.raises(BadInput, match=r"line 3: nothing is given for ids int64\[1, 4\]"):
        fit_feed({}, [IDS], "line 3", Where())

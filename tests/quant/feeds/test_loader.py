from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelc.errors import BadInput
from modelc.quant.feeds import InputSpec, files_of, open_feeds, read_loader

IMAGE = InputSpec("image", np.dtype(np.float32), (1, 3))
IDS = InputSpec("ids", np.dtype(np.int64), (1, 2))


class Tensor:
    """Quacks like torch's."""

    dtype = "torch.float32"

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.seen: list[str] = []

    def detach(self) -> "Tensor":
        self.seen.append("detach")
        return self

    def cpu(self) -> "Tensor":
        self.seen.append("cpu")
        return self

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return self._array


@pytest.mark.parametrize(
    "sample",
    [
        {"image": [1, 2, 3], "ids": np.array([4, 5])},
        {"image": np.ones((1, 3)), "ids": [[4, 5]], "label": 3},
        ([1, 2, 3], [4, 5]),
        [np.array([[1, 2, 3]]), [4.0, 5.0], "a label"],
    ],
)
def test_forms_of_samples(sample: Any) -> None:
    (feed,) = read_loader([sample], [IMAGE, IDS])
    assert feed["image"].shape == (1, 3) and feed["image"].dtype == np.float32
    np.testing.assert_array_equal(feed["ids"], [[4, 5]])


def test_an_array_for_the_only_input() -> None:
    (feed,) = read_loader([np.array([1, 2, 3])], [IMAGE])
    assert feed["image"].tolist() == [[1, 2, 3]]


def test_tensors_leave_their_device() -> None:
    tensor = Tensor(np.ones((1, 3), np.float32))
    assert list(read_loader([tensor], [IMAGE])) and tensor.seen == ["detach", "cpu"]


def test_real_tensors() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    sample = {"image": torch.ones(1, 3, dtype=torch.bfloat16, requires_grad=True)}
    (feed,) = read_loader([sample], [IMAGE])
    assert feed["image"].dtype == np.float32


def test_a_batch_is_cut() -> None:
    batch = {"image": np.arange(9).reshape(3, 3), "ids": np.arange(6).reshape(3, 2)}
    feeds = list(read_loader([batch], [IMAGE, IDS]))
    assert [feed["ids"].tolist() for feed in feeds] == [[[0, 1]], [[2, 3]], [[4, 5]]]


def test_only_what_is_asked_for_is_made() -> None:
    made = []

    def loader() -> Iterator[np.ndarray]:
        for index in range(1000):
            made.append(index)
            yield np.zeros(3)

    assert next(read_loader(loader(), [IMAGE])) and made == [0]


@pytest.mark.parametrize(
    ("sample", "specs", "message"),
    [
        (np.zeros(3), [IMAGE, IDS], "is one array, and the model has 2 inputs"),
        ((np.zeros(3),), [IMAGE, IDS], "has 1 arrays, and the model 2 inputs"),
        ({"imag": np.zeros(3)}, [IMAGE], "no input is called 'imag'"),
        ({"image": "text"}, [IMAGE], "no numbers"),
        ({"image": [[1], [2, 3]]}, [IMAGE], "is no array"),
        (np.zeros(4), [IMAGE], r"is given \[4\]"),
    ],
)
def test_samples_that_do_not_fit(sample: Any, specs: list[InputSpec], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        list(read_loader([sample], specs))


def test_a_function_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text("def feeds():\n    for i in range(3):\n        yield {'image': [i, 1, 2]}\n")
    feeds = list(open_feeds(f"{path}:feeds", [IMAGE], limit=2))
    assert [feed["image"][0, 0] for feed in feeds] == [0, 1]
    assert files_of(f"{path}:feeds", [IMAGE]) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def feedz(): pass", "no function is called feeds"),
        ("1 / 0", "the file fails: ZeroDivisionError"),
        ("def feeds(): return 3", "returns int, no samples"),
        ("def feeds(): raise KeyError('x')", "the function fails: KeyError"),
        ("def feeds():\n    yield [1, 2, 3]\n    1 / 0", "fails: ZeroDivisionError"),
    ],
)
def test_functions_that_fail(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        list(open_feeds(f"{path}:feeds", [IMAGE]))


def test_no_such_file() -> None:
    with pytest.raises(BadInput, match="no such file"):
        list(open_feeds("gone.py:feeds", [IMAGE]))

"""What a backend can't be given here is delivered as a DLC, and said."""

from __future__ import annotations

import pytest

from modelc.errors import BadInput
from modelc.targets.snapdragon.network.backends import BACKENDS, delivery, find_backend


@pytest.mark.parametrize(
    ("backend", "wanted", "given"),
    [
        ("HTP", "context-binary", "context-binary"),
        ("htp", "dlc", "dlc"),
        ("gpu", "context-binary", "dlc"),
        ("GPU", "cpp", "cpp"),
        ("cpu", "context-binary", "dlc"),
    ],
)
def test_delivery(backend: str, wanted: str, given: str) -> None:
    found = delivery(find_backend(backend), wanted)
    assert found.format == given
    assert bool(found.note) == (given != wanted)
    assert (wanted == given) or "what is delivered is a DLC" in found.note


def test_another_backend() -> None:
    with pytest.raises(BadInput, match="no backend is called 'NPU'"):
        find_backend("NPU")


def test_names() -> None:
    assert all(backend.name == name for name, backend in BACKENDS.items())

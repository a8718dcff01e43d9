import json
from pathlib import Path

import pytest

from modelc.errors import Damaged
from modelc.ir.encodings import Encoding
from modelc.ir.network_encodings import NetworkEncodings, Precision, load, save

WHOLE = NetworkEncodings(
    {"x": Encoding(0.5, 3, "uint8"), "x.uint16": Encoding(0.25, 0, "uint16")},
    {"n": Precision("uint8"), "m": Precision("float", "float", False, True)},
    {"w": (0.5, 0.25)},
)


def test_saved_and_loaded(tmp_path: Path) -> None:
    save(WHOLE, tmp_path / "a.json")
    assert load(tmp_path / "a.json") == WHOLE


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("values", "x", "scale"), -1.0),
        (("values", "x", "dtype"), "uint4"),
        (("nodes", "n", "activations"), "uint32"),
        (("nodes", "n", "weights"), "int2"),
        (("nodes", "n", "per_channel"), 1),
        (("nodes", "n"), []),
        (("scales", "w"), [0.5, 0.0]),
        (("scales", "w"), [0.5, float("nan")]),
        (("scales", "w"), "0.5"),
        (("values",), []),
        ((), {"values": {}}),
        ((), []),
    ],
)
def test_damage(tmp_path: Path, path: tuple[str, ...], value: object) -> None:
    save(WHOLE, tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    if path:
        place = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
    else:
        document = value
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(Damaged):
        load(tmp_path / "a.json")

"""Encodings files: what AIMET wrote, what modelc writes, and what neither would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelc.errors import BadInput
from modelc.quant.aimet import layouts, read
from modelc.quant.aimet.encodings import (
    AimetEncodings,
    TensorEncoding,
    from_low_power_blocks,
    from_scales,
)
from modelc.quant.aimet.read import read_encodings
from modelc.quant.aimet.write import write_encodings

FILES = Path(__file__).parent / "aimet_files"


def same(one: TensorEncoding, other: TensorEncoding) -> bool:
    def told(found: TensorEncoding) -> tuple[Any, ...]:
        blocks = None if found.block_scales is None else found.block_scales.tolist()
        numbers = (found.scales.tolist(), found.offsets.tolist(), blocks)
        kind = (found.granularity, found.bits, found.block_size, found.compressed_bits)
        return (*kind, found.symmetric, *numbers)

    return told(one) == told(other)


def everything(found: AimetEncodings) -> dict[str, TensorEncoding]:
    return {**found.activations, **found.parameters}


@pytest.mark.parametrize("kind", ["channels", "blocks", "lpbq"])
def test_generations_say_the_same(kind: str) -> None:
    """AIMET wrote one quantised model in each."""
    newer = everything(read_encodings(FILES / f"{kind}_2.0.0.json"))
    found = [everything(read_encodings(FILES / f"{kind}_1.0.0.json"))]
    if kind == "channels":
        found.append(everything(read_encodings(FILES / f"{kind}_0.6.1.json")))
    for older in found:
        assert len(older) == 77
        for name, encoding in older.items():
            other = newer[name]
            assert encoding.granularity == other.granularity, name
            assert (encoding.bits, encoding.block_size) == (other.bits, other.block_size), name
            np.testing.assert_allclose(encoding.scales, other.scales, rtol=1e-12)
            np.testing.assert_array_equal(encoding.offsets, other.offsets)
            if encoding.block_scales is not None:
                np.testing.assert_array_equal(encoding.block_scales, other.block_scales)


def test_offsets_count_from_the_smallest_code() -> None:
    """The older generation writes the range out, which the newer leaves to scale and offset."""
    path = FILES / "channels_0.6.1.json"
    document, found = json.loads(path.read_text()), read_encodings(path)
    for name, channels in document["activation_encodings"].items():
        encoding, (row,) = found.activations[name], channels
        low = encoding.offsets[0] * encoding.scales[0]
        high = (encoding.offsets[0] + 2**16 - 1) * encoding.scales[0]
        assert (low, high) == pytest.approx((row["min"], row["max"]), rel=1e-6, abs=1e-9)
    up = found.parameters["model.layers.0.mlp.up_proj.weight"]
    assert (up.granularity, up.bits, up.symmetric) == ("channel", 4, True)
    assert set(up.offsets) == {-8}


def test_low_power_blocks_multiply_out() -> None:
    """[in 32, out 16] in blocks of 8: four whole factors for each of 16 channels."""
    found = read_encodings(FILES / "lpbq_1.0.0.json")
    down = found.parameters["model.layers.0.mlp.down_proj.weight"]
    assert (down.granularity, down.bits, down.stored_bits) == ("lpbq", 8, 4)
    assert down.block_scales is not None
    scales = down.by_channel(16)
    assert scales.shape == (16, 4)
    assert scales[3, 2] == np.float32(down.scales[3] * down.block_scales[3 * 4 + 2])
    plain = read_encodings(FILES / "blocks_1.0.0.json")
    unrounded = plain.parameters["model.layers.0.mlp.down_proj.weight"].by_channel(16)
    step = scales.max(axis=1, keepdims=True) / 16
    assert np.all(np.abs(scales - unrounded) <= step * 1.01)  # 4-bit factors of the largest


def test_scales_of_ours_are_those_of_aimet() -> None:
    """What a matrix's scales make is what AIMET wrote of them."""
    for kind, name in (("channels", "q"), ("blocks", "k"), ("lpbq", "o")):
        weights = read_encodings(FILES / f"{kind}_1.0.0.json").parameters
        theirs = weights[f"model.layers.0.self_attn.{name}_proj.weight"]
        channels = 8 if name == "k" else 16
        if theirs.block_scales is not None:
            factors = theirs.block_scales.reshape(channels, -1)
            ours = from_low_power_blocks(theirs.scales, factors, 4, 8)
        else:
            shape = (channels, -1) if theirs.block_size else channels
            ours = from_scales(theirs.scales.reshape(shape), 4, theirs.block_size)
        assert same(ours, theirs)
        np.testing.assert_array_equal(ours.by_channel(channels), theirs.by_channel(channels))
    asymmetric = read_encodings(FILES / "channels_1.0.0.json").activations["logits"]
    assert not asymmetric.centred
    with pytest.raises(ValueError, match="without their offsets"):
        asymmetric.by_channel(1)


def test_the_older_generation_writes_ranges_as_aimet_does(tmp_path: Path) -> None:
    theirs, path = FILES / "channels_0.6.1.json", tmp_path / "encodings.json"
    write_encodings(path, read_encodings(theirs), "0.6.1")
    ours, original = (json.loads(file.read_text()) for file in (path, theirs))
    for section in ("activation_encodings", "param_encodings"):
        assert ours[section].keys() == original[section].keys()
        for name, rows in original[section].items():
            for mine, row in zip(ours[section][name], rows, strict=True):
                assert mine.keys() == row.keys()
                for key, value in row.items():
                    expected = value if isinstance(value, str) else pytest.approx(value, rel=1e-6)
                    assert mine[key] == expected, (name, key)


def test_the_newer_generation_has_the_fields_of_aimet(tmp_path: Path) -> None:
    for kind in ("channels", "blocks", "lpbq"):
        theirs, path = FILES / f"{kind}_1.0.0.json", tmp_path / "encodings.json"
        write_encodings(path, read_encodings(theirs))
        ours, original = (json.loads(file.read_text()) for file in (path, theirs))
        for section in ("activation_encodings", "param_encodings"):
            rows = sorted(original[section], key=lambda row: row["name"])
            assert ours[section] == rows  # 3 equals 3.0


def numbers(count: int, low: float, high: float) -> st.SearchStrategy[np.ndarray]:
    number = st.floats(low, high, allow_subnormal=False)
    return st.lists(number, min_size=count, max_size=count).map(np.array)


@st.composite
def tensor_encodings(draw: st.DrawFn, blocks: bool = True) -> TensorEncoding:
    kind = draw(st.sampled_from(["tensor", "channel", "block", "lpbq"][: 4 if blocks else 2]))
    channels = 1 if kind == "tensor" else draw(st.integers(2, 4))
    each = draw(st.integers(1, 3)) if kind in ("block", "lpbq") else 1
    scales = draw(numbers(channels * (each if kind == "block" else 1), 1e-30, 1e30))
    bits = 8 if kind == "lpbq" else draw(st.integers(2, 32))
    symmetric = kind == "lpbq" or draw(st.booleans())
    offset = -(1 << bits - 1) if symmetric else -draw(st.integers(0, (1 << bits) - 1))
    offsets = np.full(scales.size, offset, np.int64)
    if kind in ("tensor", "channel"):
        return TensorEncoding(kind, bits, symmetric, scales, offsets)
    if kind == "block":
        return TensorEncoding(kind, bits, symmetric, scales, offsets, 16)
    factors = np.array(draw(st.lists(st.integers(1, 16), min_size=channels * each, max_size=12)))
    factors = np.resize(factors, channels * each)
    return TensorEncoding(kind, bits, symmetric, scales, offsets, 16, 4, factors)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(["1.0.0", "0.6.1"]))
def test_what_is_written_is_read(tmp_path: Path, data: st.DataObject, version: Any) -> None:
    names = st.text(min_size=1, max_size=8).filter(lambda name: name != "float")
    tensors = st.dictionaries(names, tensor_encodings(blocks=version == "1.0.0"), max_size=4)
    written = AimetEncodings(data.draw(tensors), data.draw(tensors), ("float",))
    path = tmp_path / "encodings.json"
    write_encodings(path, written, version)
    found = read_encodings(path)
    assert found.floats == written.floats
    for ours, theirs in (
        (written.activations, found.activations),
        (written.parameters, found.parameters),
    ):
        assert ours.keys() == theirs.keys()
        assert all(same(ours[name], theirs[name]) for name in ours)
    first = path.read_bytes()
    backwards = dict(reversed(list(written.parameters.items())))
    write_encodings(path, AimetEncodings(written.activations, backwards, ("float",)), version)
    assert path.read_bytes() == first


def test_the_older_generation_has_no_blocks(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"0\.6\.1 can't say that .*_proj.weight has blocks"):
        write_encodings(
            tmp_path / "encodings.json", read_encodings(FILES / "blocks_1.0.0.json"), "0.6.1"
        )


ROW = {
    "name": "x",
    "enc_type": "PER_TENSOR",
    "dtype": "INT",
    "bw": 16,
    "is_sym": False,
    "scale": [0.5],
    "offset": [-3],
}
CHANNEL = {"bitwidth": 8, "is_symmetric": "True", "scale": 0.5, "offset": -128.0}
BLOCK = {**ROW, "enc_type": "PER_BLOCK", "block_size": 4}
LPBQ = {**BLOCK, "enc_type": "LPBQ", "bw": 8, "compressed_bw": 4, "per_block_int_scale": [1, 2]}
NEWER = {"name": "x", "output_dtype": "uint8", "y_scale": [[0.5], [1.0]], "axis": 0}


def second(*rows: Any, **changes: Any) -> dict[str, Any]:
    sections = {"activation_encodings": [], "param_encodings": list(rows)}
    return {"version": "1.0.0", **sections, **changes}


def first(rows: Any) -> dict[str, Any]:
    return {"activation_encodings": {"x": rows}, "param_encodings": {}}


def third(**changes: Any) -> dict[str, Any]:
    return {"version": "2.0.0", "encodings": [{**NEWER, **changes}]}


BAD = {
    "list": ([], "not a JSON object"),
    "empty": ({}, "no encodings"),
    "version": (second(version="3.0.0"), "unknown version '3.0.0'"),
    "no text version": (second(version=1), "unknown version '1'"),
    "other layout": (second(version="0.6.1"), "says version 0.6.1, but is laid out as 1"),
    "mixed layouts": (second(activation_encodings={}), "activation_encodings is not a list"),
    "no name": (second({**ROW, "name": 3}), "without a usable name"),
    "no row": (second(3), "without a usable name"),
    "long name": (second({**ROW, "name": "x" * 2000}), "without a usable name"),
    "twice": (second(ROW, ROW), "x: there are two entries"),
    "kind": (second({**ROW, "enc_type": "PER_CUBE"}), "x: enc_type is 'PER_CUBE'"),
    "dtype": (second({**ROW, "dtype": "COMPLEX"}), "x: dtype is 'COMPLEX'"),
    "bits": (second({**ROW, "bw": 99}), "x: bw is 99"),
    "bits true": (second({**ROW, "bw": True}), "x: bw is True"),
    "flag": (second({**ROW, "is_sym": "yes"}), "x: is_sym is 'yes'"),
    "zero scale": (second({**ROW, "scale": [0.0]}), r"x: scale is \[0.0\]"),
    "negative scale": (second({**ROW, "scale": [-1.0]}), "x: scale is"),
    "text scale": (second({**ROW, "scale": ["1"]}), "x: scale is"),
    "ragged": (second({**ROW, "scale": [[1], [1, 2]]}), "x: scale is"),
    "huge": (second({**ROW, "scale": [10**400]}), "x: scale is"),
    "no scales": (second({**ROW, "scale": []}), "x: scale is"),
    "absent": (second({**ROW, "scale": None}), "x: scale is None"),
    "many scales": (second({**ROW, "scale": [1, 2], "offset": [0, 0]}), "x: 2 scales and 2"),
    "half offset": (second({**ROW, "offset": [0.5]}), "x: offset is"),
    "far offset": (second({**ROW, "offset": [2**40]}), "x: offset is"),
    "shift": (second({**ROW, "zero_point_shift": [0.5]}), "x: it has a zero_point_shift"),
    "block size": (second({**BLOCK, "block_size": 0}), "x: block_size is 0"),
    "no factors": (second({**LPBQ, "per_block_int_scale": [0, 1]}), "x: per_block_int_scale"),
    "uneven": (
        second({**LPBQ, "scale": [1, 2, 3], "offset": [0, 0, 0]}),
        "x: 2 blocks of 3 channels",
    ),
    "no channels": (first([]), "x: not a list"),
    "channel": (first([3]), "x: bitwidth is missing"),
    "channels differ": (first([CHANNEL, {**CHANNEL, "bitwidth": 4}]), "x: its channels differ"),
    "channel list": (first([{**CHANNEL, "scale": [1, 2]}]), "x: scale is"),
    "half float": (first([CHANNEL, {"dtype": "float"}]), "x: its channels differ in dtype"),
    "unknown dtype": (first([{**CHANNEL, "dtype": ["int"]}]), "x: dtype is"),
    "third bits": (third(output_dtype="int64"), "x: output_dtype is 'int64'"),
    "third zeros": (third(y_zero_point=[1]), "x: y_scale and y_zero_point differ"),
    "third axis": (third(block_size=4, axis=2), "x: axis is 2"),
    "third cube": (third(block_size=4, y_scale=[[[1, 1], [1, 1]]] * 2), "x: blocks along one"),
    "third nested": (third(y_scale={"x": "no", "x_scale": [1.0]}, block_size=4), "x: y_scale"),
}


@pytest.mark.parametrize("case", BAD)
def test_nonsense_is_refused_with_its_tensor(case: str, tmp_path: Path) -> None:
    document, message = BAD[case]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(BadInput, match=message) as caught:
        read_encodings(path)
    assert caught.value.where.path == str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100000, "not valid JSON"),
        ('{"param_encodings": {"a": [], "a": []}}', "'a' is there twice"),
        ("\xff", "not valid JSON"),
        (json.dumps(second(ROW)).replace("0.5", "NaN"), "x: scale is"),
        (json.dumps(second(ROW)).replace("0.5", "1e999"), "x: scale is"),
        (json.dumps(second(ROW)).replace("-3", "9" * 5000), "not valid JSON"),
    ],
)
def test_text_that_is_no_such_file(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=message):
        read_encodings(path)


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = FILES / "channels_1.0.0.json"
    with monkeypatch.context() as bound, pytest.raises(BadInput, match="larger than"):
        bound.setattr(read, "MAX_BYTES", 1000)
        read_encodings(path)
    with monkeypatch.context() as bound, pytest.raises(BadInput, match="not a list of tensors"):
        bound.setattr(read, "MAX_TENSORS", 10)
        read_encodings(path)
    with monkeypatch.context() as bound, pytest.raises(BadInput, match="not a list of encodings"):
        bound.setattr(layouts, "MAX_VALUES", 4)
        read_encodings(FILES / "channels_0.6.1.json")
    with pytest.raises(BadInput, match="can't be read"):
        read_encodings(tmp_path / "absent.json")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_never_gets_past(tmp_path: Path, data: st.DataObject) -> None:
    """A field of a good file set to anything gives encodings or BadInput, nothing else."""
    document = json.loads((FILES / "lpbq_2.0.0.json").read_text())
    rows = document["encodings"]
    row = data.draw(st.sampled_from([rows[0], rows[-1]]))
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("x"), inner),
        max_leaves=5,
    )
    row[data.draw(st.sampled_from(sorted(row)))] = data.draw(anything)
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(document))
    try:
        read_encodings(path)
    except BadInput as error:
        assert error.where.path == str(path)

"""The loop around the graphs: which AR is taken, what each call sees, where new keys go."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from modelc.errors import BadInput
from modelc.targets.snapdragon.binary import Tensor
from modelc.targets.snapdragon.decode_loop import Decoder, Part, dequantise, quantise
from modelc.targets.snapdragon.rotary import Rotary

CONTEXT, WIDTH = 12, 4
CODES = {"dtype": "uint8", "scale": 0.5, "zero_point": 128}
TURNS = {"dtype": "uint16", "scale": 1 / 32768, "zero_point": 32768}


class Recorder:
    """Parts of a decoder whose keys are its tokens, in the order of the calls.

    The first part gives the hidden state to the second, which gives it out as logits.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, Mapping[str, np.ndarray]]] = []

    def parts(self, ar: int, context: int) -> list[Part]:
        hidden = Tensor("hidden", (1, ar, 1), "float32")
        past = Tensor("past_key_0_in", (1, 1, WIDTH, context - ar), **CODES)
        inputs = (
            Tensor("input_ids", (1, ar), "int32"),
            Tensor("attention_mask", (1, 1, ar, context), "uint16", 0.1, 65535),
            Tensor("position_ids_cos", (1, 1, ar, 1), **TURNS),
            Tensor("position_ids_sin", (1, 1, ar, 1), **TURNS),
            past,
        )
        new = Tensor("past_key_0_out", (1, 1, WIDTH, ar), **CODES)

        def first(feed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
            assert {tensor.name: tensor.shape for tensor in inputs} == {
                name: value.shape for name, value in feed.items()
            }
            self.calls.append((ar, context, feed))
            ids = feed["input_ids"]
            keys = np.broadcast_to(ids[0].astype(np.uint8), new.shape)
            return {"hidden": ids[..., None].astype(np.float32), "past_key_0_out": keys}

        def second(feed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
            return {"logits": feed["hidden"]}

        return [
            Part(inputs, (hidden, new), first),
            Part((hidden,), (Tensor("logits", (1, ar, 1), "float32"),), second),
        ]


def decoder(
    recorder: Recorder, ars: tuple[int, ...] = (4, 1), contexts: tuple[int, ...] = (CONTEXT,)
) -> Decoder:
    graphs = {(ar, context): recorder.parts(ar, context) for ar in ars for context in contexts}
    return Decoder(graphs, Rotary((0.25,)))


@pytest.mark.parametrize(
    ("ars", "reads", "expected"),
    [
        ((4, 1), [1], [1]),
        ((4, 1), [2], [4]),
        ((4, 1), [4], [4]),
        ((4, 1), [5], [4, 1]),
        ((4, 1), [6], [4, 4]),
        ((4, 1), [12], [4, 4, 4]),
        # No room for a whole AR-4 at the end.
        ((4, 1), [4, 1, 1, 1, 1, 4], [4, 1, 1, 1, 1, 4]),
        ((4, 1), [4, 4, 1, 3], [4, 4, 1, 1, 1, 1]),
        ((1,), [3], [1, 1, 1]),
        ((8, 4, 1), [3, 9], [4, 8, 1]),
    ],
)
def test_choice_of_ar(ars: tuple[int, ...], reads: list[int], expected: list[int]) -> None:
    recorder = Recorder()
    made = decoder(recorder, ars)
    for count in reads:
        rows = np.concatenate(list(made.read(range(count))))
        assert rows[:, 0].tolist() == list(range(count))
    assert [ar for ar, _, _ in recorder.calls] == expected
    assert made.position == sum(reads)


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        # As Genie's own log has them, for a prompt and the tokens after it.
        ([1, *[1] * 62, 1], [*["1/64"] * 63, "1/128"]),
        ([40, 1], ["24/64", "24/64", "1/64"]),
        ([41, 1], ["24/64", "24/128", "1/64"]),
        ([52, 1], ["24/64", "24/128", "8/64", "1/64"]),
        ([57, *[1] * 7], ["24/64", *["24/128"] * 2, *["1/64"] * 6, "1/128"]),
        ([104, 1], ["24/64", *["24/128"] * 3, "8/128", "1/128"]),
    ],
)
def test_choice_of_context(reads: list[int], expected: list[str]) -> None:
    recorder, tokens = Recorder(), list(range(1, 129))
    made = decoder(recorder, (1, 8, 24), (128, 64))
    assert made.context_length == 128
    for count in reads:
        list(made.read(tokens[made.position : made.position + count]))
    assert [f"{ar}/{context}" for ar, context, _ in recorder.calls] == expected
    _, _, feed = recorder.calls[-1]
    past = sum(reads) - reads[-1]
    # The cache came along from context to context.
    assert feed["past_key_0_in"][0, 0, 0, :past].tolist() == tokens[:past]


@pytest.mark.parametrize(
    ("ars", "contexts", "count", "expected"),
    [
        # A short text as a prompt alone would be one call of AR-24 in the shortest context.
        ((24, 1), (64, 128), 20, ["24/64", "1/64", "1/128", "1/64", "1/128"]),
        ((24, 1), (64, 128), 5, ["24/64", "1/64", "1/128"]),
        ((24, 1), (128,), 30, ["24/128", "24/128", *["1/128"] * 4]),
        # Beyond the short context there is only the long one.
        ((24, 1), (64, 128), 66, ["24/64", "24/128", "24/128", "1/64", *["1/128"] * 3]),
        ((24, 1), (64, 128), 1, ["1/64"]),
        # One by one, tokens of AR-8 alone would not all fit.
        ((8,), (32,), 32, ["8/32"] * 4),
        ((8,), (32,), 25, ["8/32"] * 7),
    ],
)
def test_a_text_is_measured_in_every_context(
    ars: tuple[int, ...], contexts: tuple[int, ...], count: int, expected: list[str]
) -> None:
    recorder = Recorder()
    made = decoder(recorder, ars, contexts)
    rows = np.concatenate(list(made.measure(range(count))))
    assert rows[:, 0].tolist() == list(range(count))
    assert [f"{ar}/{context}" for ar, context, _ in recorder.calls] == expected
    for _, _, feed in recorder.calls[-3:]:
        start = int(feed["input_ids"][0, 0])
        assert feed["past_key_0_in"][0, 0, 0, :start].tolist() == list(range(start))


def test_what_a_call_sees() -> None:
    recorder = Recorder()
    made = decoder(recorder)
    list(made.read([10, 11, 12, 13, 14, 15]))  # AR-4 twice, the second half full
    _, _, feed = recorder.calls[1]
    assert feed["input_ids"].tolist() == [[14, 15, 0, 0]]
    seen = feed["attention_mask"][0, 0]
    assert set(np.unique(seen)) == {0, 65535}
    # Columns: 8 past slots, of which 4 are filled, then the new tokens.
    assert np.flatnonzero(seen[0]).tolist() == [0, 1, 2, 3, 8]
    assert np.flatnonzero(seen[1]).tolist() == [0, 1, 2, 3, 8, 9]
    assert not seen[2:].any()
    past = feed["past_key_0_in"][0, 0]
    assert past.shape == (WIDTH, CONTEXT - 4)
    assert past[0].tolist() == [10, 11, 12, 13, 128, 128, 128, 128]
    angles = 0.25 * np.arange(4, 8)
    cos = (feed["position_ids_cos"][0, 0, :, 0].astype(int) - 32768) / 32768
    np.testing.assert_allclose(cos, np.cos(angles), atol=1 / 32768)
    list(made.read([16]))
    _, _, feed = recorder.calls[2]
    assert feed["past_key_0_in"][0, 0, 0].tolist() == [10, 11, 12, 13, 14, 15, *[128] * 5]


def test_a_full_context() -> None:
    made = decoder(Recorder())
    list(made.read(range(CONTEXT)))
    with pytest.raises(BadInput, match="context of 12 tokens is full"):
        list(made.read([1]))


def test_codes() -> None:
    tensor = Tensor("x", (4,), "uint8", 0.5, 128)
    values = np.array([-1e9, -0.25, 0.74, 1e9])
    assert quantise(values, tensor).tolist() == [0, 127, 129, 255]
    assert dequantise(np.array([0, 128, 129], np.uint8), tensor).tolist() == [-64, 0, 0.5]
    plain = Tensor("x", (4,), "float32")
    assert dequantise(quantise(values, plain), plain).tolist() == values.astype("f").tolist()


def test_an_input_that_genie_does_not_know() -> None:
    part = Part((Tensor("colour", (1,), "float32"),), (), lambda feed: {})
    with pytest.raises(BadInput, match="'colour', which Genie does not know"):
        list(Decoder({(1, 4): [part]}, Rotary((1.0,))).read([0]))

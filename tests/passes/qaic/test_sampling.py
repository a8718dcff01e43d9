"""Tokens chosen in the graph, against the same choice made in numpy from the reference's logits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from support.card import CONTEXT, reference, write_card_graph
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.config import DecoderModel
from modelc.errors import BadInput
from modelc.passes.qaic.options import QaicGraphOptions
from modelc.targets.qaic.engine import CallShapes
from modelc.targets.qaic.engine_onnx import OnnxEngine
from modelc.targets.runtime import Sampling
from modelc.targets.sampling import Sampler

MOST = 12
PROMPTS = np.random.default_rng(3).integers(0, 40, (2, 11))
Settings = Mapping[str, float]
PLAIN: Settings = {"repetition_penalties": 1, "presence_penalties": 0, "temperatures": 0,
                   "top_ks": 0, "top_ps": 1, "min_ps": 0}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DecoderModel:
    made = tiny_source(tiny_config(), tmp_path_factory.mktemp("source") / "weights.bin")
    write_weights(made)
    return made


@pytest.fixture(scope="module", params=[False, True], ids=["in rows", "batched"])
def card_graph(
    request: pytest.FixtureRequest, source: DecoderModel, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bool]:
    """The graph, and whether its states are picked by `batch_index`."""
    folder, batched = tmp_path_factory.mktemp("graph"), request.param
    options = {"max_top_k": MOST, "continuous_batching": batched}
    return write_card_graph(source, folder, **options), batched


class Device:
    """Feeds the sampling contract for two sequences of a state of two."""

    def __init__(self, path: Path, settings: Settings, random: np.ndarray, batched: bool) -> None:
        self.shapes = CallShapes(CONTEXT, 8, sequences=2, continuous_batching=batched)
        self.engine = OnnxEngine(path, self.shapes, threads=1)
        self.settings = settings
        self.random = random

    def call(
        self, slots: list[int], rows: list[list[int]], past: list[int], width: int
    ) -> list[int]:
        ids, positions = np.zeros((len(slots), width), "q"), np.full((len(slots), width), -1, "q")
        for row, (tokens, first) in enumerate(zip(rows, past, strict=True)):
            ids[row, : len(tokens)] = tokens
            positions[row, : len(tokens)] = range(first, first + len(tokens))
        column = np.ones((len(slots), 1), "f")
        feeds = {name: column * np.float32(value) for name, value in self.settings.items()}
        feeds["top_ks"] = feeds["top_ks"].astype("i")
        feeds |= {"input_ids": ids, "position_ids": positions, "last_accepted_output_tokens": ids}
        feeds["random_numbers"] = self.random[slots]
        if "batch_index" in self.engine.inputs:
            feeds["batch_index"] = np.array(slots)[:, None]
        return [int(token) for token in self.engine.run(feeds)["next_tokens"].reshape(-1)]

    def generate(self, count: int) -> list[list[int]]:
        """Prompts in chunks of 8, then together."""
        rows = [[*prompt] for prompt in PROMPTS]
        together = [[0], [1]] if self.shapes.continuous_batching else [[0, 1]]
        first = [0, 0]
        for slots in together:
            for start in (0, 8):
                chunks = [rows[slot][start : start + 8] for slot in slots]
                found = self.call(slots, chunks, [start] * len(slots), 8)
            for slot, token in zip(slots, found, strict=True):
                first[slot] = token
        made = [[token] for token in first]
        for _ in range(count - 1):
            past = [len(row) + len(new) - 1 for row, new in zip(rows, made, strict=True)]
            tokens = self.call([0, 1], [new[-1:] for new in made], past, 1)
            for new, token in zip(made, tokens, strict=True):
                new.append(token)
        return made


def chosen(
    logits: np.ndarray, prompt: list[int], answer: list[int], s: Settings, random: np.ndarray
) -> int:
    """The next token, in float64."""
    x = logits.astype(np.float64)
    for token in {*prompt, *answer}:
        x[token] = x[token] / s["repetition_penalties"] if x[token] > 0 else (
            x[token] * s["repetition_penalties"]
        )  # fmt: skip
    for token in {*answer}:
        x[token] -= s["presence_penalties"]
    if s["temperatures"] == 0:
        return int(x.argmax())
    x /= s["temperatures"]
    order = np.argsort(x)[-MOST:]
    keep = int(s["top_ks"]) if s["top_ks"] > 0 else MOST
    allowed = np.arange(MOST) >= MOST - keep
    weights = np.where(allowed, np.exp(x[order] - x.max()), 0)
    weights /= weights.sum()
    allowed &= (np.cumsum(weights) > 1 - s["top_ps"]) | (np.arange(MOST) == MOST - 1)
    allowed &= weights >= s["min_ps"] * weights[-1]
    noisy = np.where(allowed, x[order] - np.log(-np.log(random)), -np.inf)
    return int(order[noisy.argmax()])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"repetition_penalties": 1.7},
        {"presence_penalties": 2.5},
        {"temperatures": 1.3},
        {"temperatures": 1.5, "top_ks": 4},
        {"temperatures": 1.5, "top_ps": 0.6},
        {"temperatures": 1.5, "min_ps": 0.5},
        {"temperatures": 0.9, "top_ks": 6, "top_ps": 0.9, "min_ps": 0.05,
         "repetition_penalties": 1.2, "presence_penalties": 0.5},
    ],
)  # fmt: skip
def test_tokens(changes: Settings, card_graph: tuple[Path, bool], source: DecoderModel) -> None:
    settings = {**PLAIN, **changes}
    random = np.random.default_rng(5).uniform(1e-6, 1 - 1e-6, (2, MOST)).astype("f")
    device = Device(card_graph[0], settings, random, card_graph[1])
    for made, prompt, numbers in zip(device.generate(6), PROMPTS, random, strict=True):
        rows = reference(source, [*prompt, *made])[len(prompt) - 1 : -1]
        for place, (token, row) in enumerate(zip(made, rows, strict=True)):
            assert token == chosen(row, [*prompt], made[:place], settings, numbers)


def test_a_new_prompt_starts_clear(source: DecoderModel, tmp_path: Path) -> None:
    """What a state held of another sequence is not punished."""
    path = write_card_graph(source, tmp_path, max_top_k=MOST, continuous_batching=True)
    settings = {**PLAIN, "repetition_penalties": 3.0}
    device = Device(path, settings, np.full((2, MOST), 0.5, "f"), True)
    first = device.call([1], [[*range(8)]], [0], 8)
    device.call([0], [[*range(32, 40)]], [0], 8)
    assert device.call([1], [[*range(8)]], [0], 8) == first
    device.call([1], [[*range(20, 28)]], [0], 8)
    logits = reference(source, [*range(8)])[-1]
    expected = Sampler(Sampling(repetition_penalty=3.0)).choose(logits, [*range(8)])
    assert device.call([1], [[*range(8)]], [0], 8) == first == [expected]


def test_what_is_refused(source: DecoderModel, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="speculated ones need several"):
        QaicGraphOptions(max_top_k=4, num_logits_to_keep=True)
    with pytest.raises(BadInput, match="no 41 largest of 40"):
        write_card_graph(source, tmp_path, max_top_k=41)

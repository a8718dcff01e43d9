"""One tiny decoder in both schemes, compiled once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support import random_models
from support.htp_decoder import CHIPSET, Lowered, lower
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.config import DecoderSource, Rope
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.genie import Genie
from modelc.targets.snapdragon.genie_config import GenieModel, genie_model
from modelc.targets.snapdragon.rotary import rotary_of
from modelc.targets.snapdragon.simulate import Simulator

CONTEXT = 32
EOS = (1, 2)


@dataclass(frozen=True)
class Tiny:
    """A compiled decoder."""

    lowered: Lowered
    wrappers: list[Path]
    tokenizer: Path
    folder: Path

    @property
    def model(self) -> GenieModel:
        config = self.lowered.source.config
        return genie_model(config, context_length=CONTEXT, binaries=(), eos_ids=EOS)

    def simulator(self, timeout_s: float = 120) -> Simulator:
        rotary = rotary_of(self.lowered.source.config, CONTEXT)
        workdir = self.folder / "simulator"
        return Simulator(self.wrappers, rotary, workdir=workdir, timeout_s=timeout_s)

    def genie(self, model: GenieModel | None = None, timeout_s: float = 120) -> Genie:
        return Genie(
            model or self.model,
            find_chipset(CHIPSET),
            [wrapper.with_suffix(".bin") for wrapper in self.wrappers],
            self.tokenizer,
            workdir=self.folder / "genie",
            timeout_s=timeout_s,
        )


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> DecoderSource:
    """A decoder whose greedy answers are printable ASCII in the random models' tokenizer."""
    rope = Rope(dim=16)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16, "rope": rope}
    config = tiny_config(vocab_size=random_models.VOCAB, attention_scale=0.25, **sizes)
    made = tiny_source(config, tmp_path_factory.mktemp("source") / "weights.bin")
    write_weights(made)
    head = made.weights["lm_head.weight"]
    weights = np.memmap(head.path, np.float32, "r+", head.offset, head.shape)
    tokenizer = random_models.tokenizer()
    texts = [tokenizer.decode([token]) for token in range(len(tokenizer))]
    silent = [not (text.isascii() and text.isprintable()) for text in texts]
    weights[[*np.flatnonzero(silent), 0, *EOS, *range(len(texts), config.vocab_size)]] = 0
    weights.flush()
    return made


@pytest.fixture(scope="session")
def lowered(
    source: DecoderSource, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Lowered]:
    """The graphs of a scheme."""
    return cache(lambda scheme: lower(source, CONTEXT, scheme, tmp_path_factory.mktemp(scheme)))


@pytest.fixture(scope="session")
def compile_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Lowered], Tiny]:
    """Compile lowered graphs."""

    def make(lowered: Lowered) -> Tiny:
        folder = tmp_path_factory.mktemp("compiled")
        tokenizer = folder / "tokenizer.json"
        random_models.tokenizer().backend_tokenizer.save(str(tokenizer))
        return Tiny(lowered, lowered.twins(folder / "twins"), tokenizer, folder)

    return make


@pytest.fixture(scope="session")
def tiny(
    lowered: Callable[[str], Lowered], compile_tiny: Callable[[Lowered], Tiny]
) -> Callable[[str], Tiny]:
    """The compiled decoder of a scheme."""
    return cache(lambda scheme: compile_tiny(lowered(scheme)))

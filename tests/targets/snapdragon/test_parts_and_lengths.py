"""Models in several parts and context lengths: Genie and our loop take the same graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support import random_models
from support.htp_decoder import CHIPSET, compile_twin, lower_parts

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderSource
from modelc.decoder.parts import DecoderPart
from modelc.ir.genie import LOGITS
from modelc.quant.schemes import SCHEMES, Scheme
from modelc.reference.stream import StreamedReference
from modelc.targets.runtime import Sampling
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import CompileOptions
from modelc.targets.snapdragon.decode_loop import Decoder, Part
from modelc.targets.snapdragon.genie import Genie
from modelc.targets.snapdragon.genie_config import genie_model
from modelc.targets.snapdragon.graph_names import parse
from modelc.targets.snapdragon.host import Host
from modelc.targets.snapdragon.rotary import rotary_of
from modelc.targets.snapdragon.simulate import Simulator
from modelc.verify.metrics import sqnr_db

pytest.importorskip("onnxruntime_qnn", reason="the simulator is not here")
pytestmark = pytest.mark.simulator

TOKENS = np.random.default_rng(6).integers(3, 384, 40).tolist()
CONTEXTS = (24, 40)
LONGEST = max(CONTEXTS)


@dataclass(frozen=True)
class Case:
    scheme: Scheme
    parts: tuple[DecoderPart, ...]


EMBEDDING, HEAD = DecoderPart(0, 0, embedding=True), DecoderPart(2, 2, head=True)
FIRST_HALF, SECOND_HALF = DecoderPart(0, 1, embedding=True), DecoderPart(1, 2, head=True)
CASES = {
    "w8a16": Case(SCHEMES["w8a16"], (EMBEDDING, DecoderPart(0, 2), HEAD)),
    "fp16": Case(SCHEMES["fp16"], (FIRST_HALF, SECOND_HALF)),
}


@dataclass(frozen=True)
class Compiled:
    graphs: list[Path]
    simulator: Simulator
    genie: Genie


@pytest.fixture(scope="module")
def compiled(
    source: DecoderSource, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Compiled]:
    """The compiled decoder of a case."""

    def make(name: str) -> Compiled:
        case, folder = CASES[name], tmp_path_factory.mktemp("compiled")
        options = CompileOptions(fp16=case.scheme.activations == "float", finalization=1)
        chipset = find_chipset(CHIPSET)
        graphs = lower_parts(source, case.parts, CONTEXTS, case.scheme, folder / "graphs")
        twins = [compile_twin(graph, folder / "twins", options, chipset) for graph in graphs]
        tokenizer = folder / "tokenizer.json"
        random_models.tokenizer().backend_tokenizer.save(str(tokenizer))
        genie = Genie(
            genie_model(source.config, context_length=LONGEST, binaries=(), eos_ids=(1, 2)),
            chipset,
            [twin.with_suffix(".bin") for twin in twins],
            tokenizer,
            workdir=folder / "genie",
            timeout_s=120,
        )
        rotary = rotary_of(source.config, LONGEST)
        simulator = Simulator(twins, rotary, workdir=folder / "simulator", timeout_s=120)
        return Compiled(graphs, simulator, genie)

    return cache(make)


# From the shorter context into the longer one, back into the shorter one (17 to 23 tokens are read
# by AR-8 in the longer, and AR-1 goes on in the shorter), and the longest prompt: 40 - 8 + 1.
@pytest.mark.parametrize(
    ("case", "length"),
    [("w8a16", 1), ("w8a16", 18), ("w8a16", 33), ("fp16", 18)],
)
def test_greedy_tokens(case: str, length: int, compiled: Callable[[str], Compiled]) -> None:
    """As many as fit, to the end of the longest context."""
    made = compiled(case)
    found = made.genie.generate(TOKENS[:length], Sampling(), LONGEST, ())
    expected = made.simulator.generate(TOKENS[:length], Sampling(), LONGEST, ())
    assert found.token_ids == expected.token_ids
    assert len(found.token_ids) == LONGEST - length
    assert made.genie.longest_prompt == 33
    assert made.simulator.context_length == LONGEST


@pytest.mark.parametrize("case", CASES)
def test_greedy_tokens_of_the_cpu(
    case: str, compiled: Callable[[str], Compiled], source: DecoderSource
) -> None:
    """Genie's tokens are those of the same graphs on the CPU, where these are not in doubt.

    Rounding differs, so two logits that are within ten steps of their encoding may change places.
    """
    made, length = compiled(case), 18
    tokens = made.genie.generate(TOKENS[:length], Sampling(), LONGEST, ()).token_ids
    logits, step = on_cpu(made.graphs, source, TOKENS[:length], tokens[:-1])
    margins = logits.max(1) - logits[np.arange(len(tokens)), list(tokens)]
    assert len(tokens) == LONGEST - length
    assert margins.max() <= 10 * (step or 1e-3)
    assert np.mean(margins == 0) > 0.9


def on_cpu(
    graphs: list[Path], source: DecoderSource, prompt: list[int], answer: Sequence[int]
) -> tuple[np.ndarray, float]:
    """Return the logits after a prompt and each token after it, and their encoding's step."""
    with ExitStack() as opened:
        chains: dict[tuple[int, int], list[Part]] = {}
        for key, path in sorted((parse(path.stem), path) for path in graphs):
            part = opened.enter_context(Host(path)).part
            chains.setdefault((key.ar, key.context_length), []).append(part)
        decoder = Decoder(chains, rotary_of(source.config, LONGEST))
        *_, last = decoder.read(prompt)
        rows = [last[-1], *(row for token in answer for [row] in decoder.read([token]))]
        [step] = {t.scale for t in part.outputs if t.name == LOGITS}
        return np.stack(rows), step


@pytest.mark.parametrize(("case", "least"), [("w8a16", 24), ("fp16", 45)])
def test_logits(
    case: str, least: float, compiled: Callable[[str], Compiled], source: DecoderSource
) -> None:
    """The cache is whole in every context: the logits are the float model's throughout."""
    found = compiled(case).simulator.logits(TOKENS)
    expected = StreamedReference(build_decoder(source, LONGEST)).logits(TOKENS)
    for rows in (slice(0, 16), slice(16, 24), slice(24, 40)):
        assert sqnr_db(expected[rows], found[rows]) > least

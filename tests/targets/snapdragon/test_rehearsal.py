"""Parts run one after the other on the CPU give what the whole decoder gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.htp_decoder import lower_parts

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderSource
from modelc.decoder.parts import DecoderPart
from modelc.errors import Missing
from modelc.ir.arrays import Arrays
from modelc.ir.genie import LOGITS
from modelc.quant.schemes import SCHEMES
from modelc.reference.stream import StreamedReference
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.decode_loop import Decoder, Part
from modelc.targets.snapdragon.graph_names import parse
from modelc.targets.snapdragon.host import Host
from modelc.targets.snapdragon.rehearsal import load, rehearse, save
from modelc.targets.snapdragon.rehearsed import Rehearsed
from modelc.targets.snapdragon.rotary import rotary_of

PARTS = (DecoderPart(0, 0, embedding=True), DecoderPart(0, 2), DecoderPart(2, 2, head=True))
TOKENS = np.random.default_rng(4).integers(3, 300, 21).tolist()
CONTEXT = 32


def chained(files: list[Path], source: DecoderSource, folder: Path) -> np.ndarray:
    """Rehearse part after part, each from what the one before left on disk."""
    rotary = rotary_of(source.config, CONTEXT)
    given: tuple[Arrays, ...] = ()
    for number in range(1, len(PARTS) + 1):
        models = {file.stem: file for file in files if parse(file.stem).part == number}
        save(rehearse(models, TOKENS, given, rotary), folder / f"{number}.npz")
        found = load(folder / f"{number}.npz")
        assert found.tokens == tuple(TOKENS)
        given = found.calls
    return np.concatenate([call[LOGITS] for call in given])


@pytest.mark.parametrize("scheme", ["fp16", "w8a16"])
def test_parts_give_what_the_whole_gives(
    scheme: str, source: DecoderSource, tmp_path: Path
) -> None:
    files = lower_parts(source, PARTS, (24, CONTEXT), SCHEMES[scheme], tmp_path / "graphs")
    keys = {parse(file.stem): file for file in files}
    graphs: dict[tuple[int, int], list[Part]] = {}
    for key in sorted(keys):
        graphs.setdefault((key.ar, key.context_length), []).append(Host(keys[key]).part)
    whole = Decoder(graphs, rotary_of(source.config, CONTEXT))
    expected = np.concatenate(list(whole.measure(TOKENS)))
    assert np.array_equal(chained(files, source, tmp_path), expected)
    if scheme == "fp16":  # on the CPU, float graphs are float
        reference = StreamedReference(build_decoder(source, CONTEXT)).logits(TOKENS)
        assert np.abs(expected - reference).max() < 1e-4 * np.abs(reference).max()


def test_logits_are_those_of_the_rehearsed_tokens() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    runtime = Rehearsed([7, 8, 9, 7], rows, find_chipset("sm8750"), {}, {})
    np.testing.assert_array_equal(runtime.logits([7, 8, 9, 7]), rows)
    np.testing.assert_array_equal(runtime.logits([7, 8]), rows[:2])
    for others in ([8, 7], [7, 8, 9, 8], [7, 8, 9, 7, 8]):
        with pytest.raises(Missing, match="only the verification text"):
            runtime.logits(others)


def test_multiply_adds_are_counted(source: DecoderSource, tmp_path: Path) -> None:
    """Twice the tokens take twice the work; the embedding takes none."""
    files = lower_parts(source, PARTS, (CONTEXT,), SCHEMES["fp16"], tmp_path, ars=(8, 4))
    macs = {parse(file.stem): Host(file).macs for file in files}
    for key, count in macs.items():
        assert count == key.ar * macs[replace(key, ar=4)] // 4
    config = source.config
    heads = {key.ar: count for key, count in macs.items() if key.part == 3}
    assert heads == {ar: ar * config.hidden_size * config.vocab_size for ar in (8, 4)}
    assert {count for key, count in macs.items() if key.part == 1} == {0}

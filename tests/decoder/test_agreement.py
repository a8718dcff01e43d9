"""Every architecture, rope kind and source format: logits as in transformers.

The graph runs as it would be used, a prefill and then decoding from the KV cache; transformers
sees the whole sequence at once.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.random_models import CONTEXT, GGUF_IDS, IDS, ORIGINAL_CONTEXT, VOCAB, make
from support.whole_reference import WholeReference
from support.write_gguf import write_gguf

from modelc.decoder.builder import build_decoder
from modelc.frontends import read_source

TOLERANCE = 2e-5
CASES = [*((name, "hf") for name in IDS), *((name, "gguf") for name in GGUF_IDS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    @cache
    def made(identity: str) -> Path:
        return make(identity, tmp_path_factory.mktemp(identity))

    return made


@cache
def transformers_logits(folder: Path, count: int) -> np.ndarray:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with torch.no_grad():
        logits: np.ndarray = model(torch.tensor(tokens(count))).logits.numpy()
    return logits


def tokens(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, VOCAB, (2, count))


@pytest.mark.parametrize(("identity", "kind"), CASES)
def test_logits_agree(identity: str, kind: str, folder) -> None:  # type: ignore[no-untyped-def]
    path = folder(identity)
    source = path if kind == "hf" else write_gguf(path, path / "model.gguf")
    decoder = read_source(source)
    # Longer than any window and, with the long context, than the original one; transformers
    # chooses longrope's factors by the length of the sequence, the builder by its context.
    runs = [(CONTEXT, ORIGINAL_CONTEXT + 8)]
    if decoder.config.rope.kind == "longrope":
        runs.append((ORIGINAL_CONTEXT, ORIGINAL_CONTEXT - 8))
    for context_length, count in runs:
        expected = transformers_logits(path, count)
        reference = WholeReference(build_decoder(decoder, context_length), threads=1)
        chunks = np.split(tokens(count), [count - 12, count - 1], axis=1)
        found = np.concatenate([reference.step(chunk) for chunk in chunks], axis=1)
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error < TOLERANCE, f"{error:.1e} at a context of {context_length}"

"""A text encoder as it is trained and saved elsewhere: a BERT's folder, and a function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import modelc
from modelc.pipeline.store import Store

torch = pytest.importorskip("torch", reason="needs PyTorch, which reads these sources")
transformers = pytest.importorskip("transformers", reason="needs transformers")
pytest.importorskip("onnxruntime_qnn", reason="HTP's compiler is not here")

WORDS, LENGTH = 100, 16
SENTENCES = 8

# The folder's encoder as a function of a user's own, with the pooling inside.
SOURCE = f"""
import torch
import transformers


class Sentence(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = transformers.BertModel.from_pretrained(
            FOLDER, attn_implementation="eager", add_pooling_layer=False
        )

    def forward(self, input_ids, attention_mask):
        states = self.bert(input_ids, attention_mask).last_hidden_state
        shown = attention_mask[:, :, None].to(states.dtype)
        mean = (states * shown).sum(1) / shown.sum(1)
        return {{"embedding": torch.nn.functional.normalize(mean)}}


def build():
    return Sentence()


def example_inputs():
    return {{
        "input_ids": torch.ones(1, {LENGTH}, dtype=torch.int64),
        "attention_mask": torch.ones(1, {LENGTH}, dtype=torch.int64),
    }}
"""

Feed = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT. Weights are large enough that attention looks somewhere."""
    path = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
        initializer_range=0.15,
    )
    transformers.BertModel(config).save_pretrained(path, safe_serialization=True)
    return path


@pytest.fixture(scope="module")
def sentences() -> list[Feed]:
    """Of different lengths, padded behind their end as tokenizers do."""
    random = np.random.default_rng(1)
    feeds = []
    for words in random.integers(4, LENGTH + 1, 2 * SENTENCES):
        ids, mask = (np.zeros((1, LENGTH), np.int64) for _ in range(2))
        ids[0, :words], mask[0, :words] = random.integers(1, WORDS, words), 1
        types = np.zeros((1, LENGTH), np.int64)
        feeds.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": types})
    return feeds


@pytest.fixture(scope="module")
def embeddings(folder: Path, sentences: list[Feed]) -> np.ndarray:
    """What PyTorch makes of the second half of the sentences."""
    model = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    found = []
    for feed in sentences[SENTENCES:]:
        with torch.inference_mode():
            made = model(**{name: torch.from_numpy(array) for name, array in feed.items()})
        found.append(_pooled(made.last_hidden_state.numpy(), feed))
    return np.concatenate(found)


@pytest.mark.simulator
@pytest.mark.parametrize(("scheme", "least"), [("fp16", 0.9999), ("w8a16", 0.999)])
def test_embeddings(
    scheme: str,
    least: float,
    folder: Path,
    sentences: list[Feed],
    embeddings: np.ndarray,
    store: Store,
    tmp_path: Path,
) -> None:
    """Calibrated on half of the sentences, the others' embeddings are PyTorch's."""
    data = _save(tmp_path / "sentences.npz", sentences[:SENTENCES])
    bundle = modelc.compile(
        folder,
        target="snapdragon-8gen3",
        quant=scheme,
        network={"dims": {"batch": 1, "sequence": LENGTH}},
        calibration={} if scheme == "fp16" else {"data": data},
        verify={"data": data, "samples": 2},
        output=tmp_path / "bert",
        store=store,
    )
    assert isinstance(bundle, modelc.NetworkBundle)
    feeds = sentences[SENTENCES:]
    made = bundle.run(feeds)
    found = np.concatenate(
        [
            _pooled(outputs["last_hidden_state"], feed)
            for outputs, feed in zip(made, feeds, strict=True)
        ]
    )
    cosines = (found * embeddings).sum(axis=1)
    assert cosines.min() > least
    assert not np.array_equal(found, embeddings)
    # Embeddings of different sentences are further apart, so that the cosine says something.
    others = (np.roll(found, 1, axis=0) * embeddings).sum(axis=1)
    assert others.max() < 0.99


def test_function(
    folder: Path, sentences: list[Feed], embeddings: np.ndarray, store: Store, tmp_path: Path
) -> None:
    """A function's module keeps its names of inputs and outputs, and computes the same."""
    source = tmp_path / "sentence.py"
    source.write_text(f"FOLDER = {str(folder)!r}\n{SOURCE}")
    bundle = modelc.compile(
        f"{source}:build",
        target="cpu",
        network={"random_feeds": 1},
        output=tmp_path / "sentence",
        store=store,
    )
    assert isinstance(bundle, modelc.NetworkBundle)
    assert [row["name"] for row in bundle.inputs] == ["input_ids", "attention_mask"]
    feeds = [
        {row["name"]: feed[row["name"]] for row in bundle.inputs} for feed in sentences[SENTENCES:]
    ]
    found = np.concatenate([outputs["embedding"] for outputs in bundle.run(feeds)])
    np.testing.assert_allclose(found, embeddings, atol=1e-5)


def _pooled(states: np.ndarray, feed: Feed) -> np.ndarray:
    """Return the mean of the tokens that are shown, of length 1."""
    shown = feed["attention_mask"][:, :, None].astype(np.float32)
    mean = (states * shown).sum(axis=1) / shown.sum(axis=1)
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True))


def _save(path: Path, feeds: list[Feed]) -> Path:
    np.savez(path, **{name: np.stack([feed[name] for feed in feeds]) for name in feeds[0]})
    return path

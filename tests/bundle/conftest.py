from collections.abc import Callable
from pathlib import Path

import pytest

from modelc.bundle.manifest import Graph, Manifest, Source, Tensor
from modelc.bundle.write import Draft, FromFile


@pytest.fixture
def make_draft(tmp_path: Path) -> Callable[..., Draft]:
    """Draft a small bundle; `text` goes into its weights."""

    def make(text: str = "weights") -> Draft:
        weights = tmp_path / f"weights-{text}.bin"
        weights.write_text(text)
        logits = Tensor("logits", "float32", ("batch", 1, 4))
        manifest = Manifest(
            target="cpu",
            runtime="cpu",
            source=Source("tiny.gguf", {"": "ab" * 32}),
            recipe={"target": "cpu", "ar": [128, 1]},
            tools={"onnx": "1.0"},
            metrics={"sqnr_db": 30.5},
            graphs=(Graph("decode", "graphs/model.onnx", (), (logits,)),),
            settings={"context_length": 64},
        )
        files = {
            "graphs/model.onnx": b"graph",
            "graphs/model.bin": FromFile(weights),
            "config.json": b"{}",
        }
        return Draft(manifest, files)

    return make

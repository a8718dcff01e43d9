"""The models that these scripts train, by the name of their architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from transformers import LlamaConfig, PretrainedConfig, Qwen3Config

BOS, EOS = "<bos>", "<eos>"
BOS_ID, EOS_ID = 0, 1
VOCABULARY = 4096
EXAMPLES: Final = Path(__file__).parents[1]


@dataclass(frozen=True)
class Model:
    """A model to train.

    Attributes:
        name: Of its folder in ``examples/`` and of its GGUF files.
        config: Architecture and sizes; ``max_position_embeddings`` is the length of a crop.
        size: Parameters, as people say them.
        steps: Of ``batch`` crops each.
        gguf: Kinds of the GGUF files that ship.
        texts: Whether the texts ship with this model; they are the same for all.
    """

    name: str
    config: PretrainedConfig
    size: str
    steps: int
    gguf: tuple[str, ...] = ()
    texts: bool = False
    batch: int = 8

    @property
    def folder(self) -> Path:
        """Where the files that ship are."""
        return EXAMPLES / self.name

    @property
    def context(self) -> int:
        """Tokens of a crop or a window."""
        return int(self.config.max_position_embeddings)


# Grouped-query attention in both. Rows are multiples of 32 long, and in tiny-qwen3 of 256, the
# blocks of GGML's K quants.
MODELS: Final[Mapping[str, Model]] = MappingProxyType(
    {
        "llama": Model(
            name="tiny-llm",
            config=LlamaConfig(
                vocab_size=VOCABULARY,
                hidden_size=256,
                intermediate_size=704,
                num_hidden_layers=6,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=64,
                max_position_embeddings=512,
                rms_norm_eps=1e-5,
                rope_theta=10000.0,
                tie_word_embeddings=False,
                bos_token_id=BOS_ID,
                eos_token_id=EOS_ID,
            ),
            size="6.5M",
            steps=2000,
            gguf=("q8_0", "q4_0"),
            texts=True,
        ),
        "qwen3": Model(
            name="tiny-qwen3",
            config=Qwen3Config(
                vocab_size=VOCABULARY,
                hidden_size=256,
                intermediate_size=256,
                num_hidden_layers=4,
                num_attention_heads=4,
                num_key_value_heads=1,
                head_dim=64,
                max_position_embeddings=256,
                rms_norm_eps=1e-6,
                rope_theta=10000.0,
                tie_word_embeddings=True,
                bos_token_id=BOS_ID,
                eos_token_id=EOS_ID,
            ),
            size="2.5M",
            steps=2400,
        ),
    }
)

"""Frontends: a GGUF file or a Hugging Face folder becomes a `DecoderSource`."""

from modelc.frontends.detect import (
    FRONTENDS,
    describe,
    detect,
    read_model,
    read_source,
    source_files,
)

__all__ = ["FRONTENDS", "describe", "detect", "read_model", "read_source", "source_files"]

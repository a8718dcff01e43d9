"""Which sources are networks, that is models that are no decoders, and what files they are made of.

A network comes as an ONNX file, or from PyTorch: a function of the user's own, an exported
program, or an encoder's Hugging Face folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from modelc.errors import BadInput
from modelc.frontends.torch.spec import CONFIG, is_encoder, is_spec, parse_spec, spec_files

NetworkKind = Literal["onnx", "torch"]


def network_kind(path: Path) -> NetworkKind | None:
    """Return how a source's network is read; None if it is none, but perhaps a decoder."""
    if is_spec(str(path)):
        return "torch"
    if path.suffix.lower() == ".onnx":
        return "onnx"
    try:
        if path.is_dir() and (path / CONFIG).is_file() and is_encoder(path):
            return "torch"
    except (BadInput, OSError, ValueError):
        return None  # whoever reads it as a decoder says what is wrong with it
    return None


def network_source_files(path: Path) -> tuple[Path, ...]:
    """Return every file whose contents the network at `path` depends on, sorted.

    Raises:
        BadInput: it can't be read, or is no network.
    """
    if network_kind(path) == "torch":
        return spec_files(parse_spec(str(path)))
    from modelc.frontends.onnx.network import network_files  # takes a second to load

    return network_files(path)

"""How a folder says that its weights are quantised: in config.json, or in a file beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from modelc.frontends.fields import Fields, parse_json, read_text

BESIDE: Final = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
"""Files of AutoGPTQ and AutoAWQ before config.json had it all: name -> method."""

_KEYS: Final = ("quantization_config", "compression_config")


def quantisation(folder: Path, config: Fields) -> Fields | None:
    """Return the settings of a folder's quantised weights; None if they are floats.

    Raises:
        BadInput: they are no settings.
    """
    for key in _KEYS:
        if config.has(key):
            found: Any = config.values[key]
            if not isinstance(found, dict):
                raise config.bad(key, "an object")
            # Where compressed-tensors came first, it didn't say so.
            method = "compressed-tensors" if key == _KEYS[1] else None
            return _with_method(found, config.path, method)
    for name, method in BESIDE.items():
        path = folder / name
        if path.exists():
            return _with_method(parse_json(read_text(path, ""), path).values, path, method)
    return None


def _with_method(values: Any, path: Path, method: str | None) -> Fields:
    return Fields({**({"quant_method": method} if method else {}), **values}, path)

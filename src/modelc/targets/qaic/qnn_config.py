"""qnn_config.json, in QEfficient's form: further arguments for the QNN tools."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Final

from modelc.errors import BadInput, nearest

_CONVERTER_FIXED: Final = (
    "--input_network", "--output_path", "--config", "--float_bias_bitwidth", "--float_bitwidth",
    "--preserve_io_datatype", "--onnx_skip_simplification",
)  # fmt: skip
_GENERATOR_FIXED: Final = (
    "--binary_file", "--backend_binary", "--output_dir", "--backend", "--model", "--dlc_path",
    "--config_file",
)  # fmt: skip
CONVERTER_KEY: Final = "converter_args_extension"
GENERATOR_KEY: Final = "context_binary_generator_args_extension"
BACKEND_KEY: Final = "qnn_compilation_backend"
SKIP_KEY: Final = "SKIP_QNN_CONVERTER_STEP"
_KEYS: Final = (CONVERTER_KEY, GENERATOR_KEY, BACKEND_KEY, SKIP_KEY)


def check_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration, checked.

    Raises:
        BadInput: it has what it can't have.
    """
    for key in config:
        if key not in _KEYS:
            raise BadInput(f"qnn_config has no {key}", hint=nearest(key, _KEYS))
    if not isinstance(config.get(BACKEND_KEY, {}), Mapping):
        raise BadInput(f"{BACKEND_KEY} is names and values")
    if not isinstance(config.get(SKIP_KEY, False), bool):
        raise BadInput(f"{SKIP_KEY} is true or false")
    for key, fixed in ((CONVERTER_KEY, _CONVERTER_FIXED), (GENERATOR_KEY, _GENERATOR_FIXED)):
        given = {word.partition("=")[0] for word in words(config, key)}
        if taken := given & set(fixed):
            raise BadInput(f"{key} can't have {min(taken)}, which is always given")
    return config


def words(config: Mapping[str, Any], key: str) -> list[str]:
    """Return the arguments under `key`, taken apart as a shell does."""
    text = config.get(key, "")
    if not isinstance(text, str):
        raise BadInput(f"{key} is text")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BadInput(f"{key} has an open quote") from error

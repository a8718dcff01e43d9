"""Options of a recipe that only models have that are no decoders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer

PANEL: Final = "Models that are no decoders"


def _option(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=PANEL)


Dim = Annotated[
    list[str] | None,
    _option("NAME=SIZE for a size that the model leaves open, such as batch=1; may be repeated."),
]
OPTIONS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "dim": Dim,
        "random_feeds": Annotated[
            int | None, _option("Made-up samples to calibrate and verify on, for want of data.")
        ],
        "verify_data": Annotated[
            Path | None,
            _option(
                "Samples to verify on: an input list, .npz, a folder of images, FILE.py:function; "
                "default: those to calibrate on."
            ),
        ],
        "verify_samples": Annotated[int | None, _option("Samples to verify on, at most.")],
        "preprocess": Annotated[
            Path | None, _option("TOML file that says how images become inputs.")
        ],
        "activations": Annotated[
            str | None, _option("uint8, int8, uint16 or int16; default: the scheme's.")
        ],
        "weights": Annotated[
            str | None, _option("int8, uint8, int4 or int16; default: the scheme's.")
        ],
        "per_tensor": Annotated[bool, _option("One scale for each weight.", "--per-tensor")],
        "symmetric": Annotated[bool, _option("Activations around 0.", "--symmetric")],
        "equalise": Annotated[
            bool, _option("Even out the channels of neighbouring layers first.", "--equalise")
        ],
        "rounding": Annotated[str | None, _option("nearest, gptq or adaround; default: nearest.")],
        "bias_correction": Annotated[
            bool,
            _option("Make up for the mean error of each output channel.", "--bias-correction"),
        ],
        "boundary": Annotated[
            str | None, _option("What a binary takes: float (the model's types) or codes.")
        ],
        "op_package": Annotated[
            list[str] | None,
            _option("OP:LIBRARY:INTERFACE[:TARGET], an operator of your own; may be repeated."),
        ],
        "allow_cpu_fallback": Annotated[
            bool,
            _option("Leave to the CPU what HTP doesn't take, and say so.", "--allow-cpu-fallback"),
        ],
    }
)
FLAGS: Final = ("per_tensor", "symmetric", "equalise", "bias_correction", "allow_cpu_fallback")
# The recipe's names, in its sections [network] and [verify].
NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{name: f"network_{name}" for name in OPTIONS if not name.startswith("verify_")},
        "dim": "network_dims",
        "op_package": "network_op_packages",
    }
)

"""Options of a recipe that only CUDA has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer

PANEL: Final = "CUDA"


def _option(help: str) -> Any:
    return typer.Option(help=help, rich_help_panel=PANEL)


OPTIONS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "opt": Annotated[int | None, _option("How much is fused, 0 to 3; default: 3.")],
        "max_batch": Annotated[
            int | None, _option("Sequences that are decoded together; default: 8.")
        ],
        "prefill_chunk": Annotated[
            int | None, _option("Tokens of prompts that one call takes; default: 512.")
        ],
        "page": Annotated[
            int | None, _option("Positions in a page of the KV cache: 16, 32, 64 or 128.")
        ],
        "tiles": Annotated[
            Path | None, _option("Table of tiles that `modelc tune` wrote, before modelc's own.")
        ],
        "tensor_parallel": Annotated[
            int | None, _option("GPUs that share every matrix; default: 1.")
        ],
        "sliding_window": Annotated[
            int | None,
            _option("Positions that each layer looks back; default: the model's own."),
        ],
    }
)
# The recipe's names, in its section [cuda].
NAMES: Final[Mapping[str, str]] = MappingProxyType({name: f"cuda_{name}" for name in OPTIONS})

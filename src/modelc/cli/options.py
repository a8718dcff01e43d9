"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    Path, typer.Argument(help="A .gguf file or a Hugging Face folder.", show_default=False)
]
BundlePath = Annotated[Path, typer.Argument(help="A bundle that `modelc compile` made.")]
Target = Annotated[
    str | None,
    typer.Option("--target", "-t", help="cpu, or a chipset (see `modelc targets`)."),
]
Quant = Annotated[str | None, typer.Option(help="Quantisation scheme; default: the target's.")]
ContextLength = Annotated[
    int | None, typer.Option(help="KV positions; default: the model's, at most 4096.")
]
Ar = Annotated[
    str | None, typer.Option(help="New tokens per call of each static graph, such as 128,1.")
]
Splits = Annotated[str | None, typer.Option(help="auto, or the number of parts.")]
Gguf = Annotated[
    str | None,
    typer.Option(help="GGUF blocks on the CPU: exact (bit for bit) or fast (some requantised)."),
]
CalibrationText = Annotated[
    Path | None, typer.Option(help="UTF-8 text that ranges are gathered on.")
]
VerifyText = Annotated[
    Path | None, typer.Option(help="UTF-8 text that the bundle is compared with float on.")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="TOML file with all options; others override it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

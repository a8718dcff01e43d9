"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    Path,
    typer.Argument(
        help="A .gguf file, a Hugging Face folder, an .onnx or a .pt2 file, or FILE.py:FUNCTION, "
        "which makes a PyTorch module.",
        show_default=False,
    ),
]
BundlePath = Annotated[Path, typer.Argument(help="A bundle that `modelc compile` made.")]
Target = Annotated[
    str | None,
    typer.Option(
        "--target", "-t", help="cpu, a chipset, a card or cuda:sm90 (see `modelc targets`)."
    ),
]
Quant = Annotated[
    str | None,
    typer.Option(help="Quantisation scheme, or auto with a --budget; default: the target's."),
]
Budget = Annotated[
    str | None,
    typer.Option(help="With --quant auto: ppl+1%, sqnr>=25dB, kl<=0.01, size<=500MB or bits<=4.5."),
]
ContextLength = Annotated[
    str | None,
    typer.Option(
        help="KV positions; several for a Snapdragon, such as 512,4096. Default: the model's, at "
        "most 4096."
    ),
]
Ar = Annotated[
    str | None, typer.Option(help="New tokens per call of each static graph, such as 128,1.")
]
Splits = Annotated[str | None, typer.Option(help="auto, or the number of parts.")]
KvBits = Annotated[
    int | None, typer.Option(help="8 or 16, of the KV cache; default: the scheme's.")
]
Override = Annotated[
    list[str] | None,
    typer.Option(
        help="MODULE=KIND, such as lm_head=w4 or 'layers.*.mlp.down_proj=w8'; may be repeated."
    ),
]
Algorithms = Annotated[
    str | None,
    typer.Option(help="What quantises the weights, such as rotate,gptq; see `modelc targets`."),
]
AlgorithmOption = Annotated[
    list[str] | None,
    typer.Option(help="ALGORITHM.OPTION=VALUE, such as gptq.damping=0.01; may be repeated."),
]
Attention = Annotated[
    str | None, typer.Option(help="sha (a branch for each head) or grouped; default: sha.")
]
Encodings = Annotated[
    Path | None,
    typer.Option(help="AIMET's file: encodings instead of calibrating, and scales of weights."),
]
Format = Annotated[
    str | None,
    typer.Option(
        help="Language models: genie, dlc, ort, aimet, or several with commas; default: genie. "
        "Others: context-binary (default), dlc, cpp, model-library (with a QAIRT SDK)."
    ),
]
Toolchain = Annotated[
    str | None,
    typer.Option(
        help="Snapdragon: pip (the libraries that pip installs) or sdk (an installed QAIRT SDK). "
        "Cloud AI 100: apps (the Apps SDK) or qnn (the QNN tools)."
    ),
]
MemoryLimit = Annotated[
    str | None, typer.Option(help="Memory for compiling, such as 8G; default: what is free.")
]
Gguf = Annotated[
    str | None,
    typer.Option(help="GGUF blocks on the CPU: exact (bit for bit) or fast (some requantised)."),
]
CalibrationText = Annotated[
    Path | None, typer.Option(help="UTF-8 text that ranges are gathered on.")
]
CalibrationData = Annotated[
    Path | None,
    typer.Option(
        help="Samples in place of the text: JSON lines, .npz, or QNN's input list. Of a model that "
        "is no decoder also a folder of images, or FILE.py:function."
    ),
]
CalibrationSamples = Annotated[int | None, typer.Option(help="Sequences to calibrate on.")]
CalibrationLength = Annotated[
    int | None, typer.Option("--calibration-sequence-length", help="Tokens in each of them.")
]
CalibrationObserver = Annotated[
    str | None,
    typer.Option(help="min-max (default), moving-average, percentile, entropy or mse."),
]
CalibrationPercentile = Annotated[
    float | None, typer.Option(help="Percent of the values that the observer percentile keeps.")
]
VerifyText = Annotated[
    Path | None, typer.Option(help="UTF-8 text that the bundle is compared with float on.")
]
KeepTwins = Annotated[
    bool, typer.Option("--keep-twins", help="Put the simulator's binaries into the bundle.")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="TOML file with all options; others override it.")
]
Engine = Annotated[
    str,
    typer.Option(
        help="auto; Cloud AI 100: onnx runs the bundle's ONNX on this machine; CUDA: cuda, "
        "reference (its operators on the CPU) or interpreter (its kernels on the CPU, slowly)."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

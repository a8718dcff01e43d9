"""Which engine a bundle runs on, by what was asked for and what this machine has."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from modelc.errors import BadInput, Missing
from modelc.targets.cuda.engine import Engine, interpreter_engine, reference_engine
from modelc.targets.cuda.interpret import SWITCH

ENGINES: Final = ("auto", "cuda", "reference", "interpreter")


def check_torch() -> None:
    """Raise Missing if torch, which every engine needs, is not installed."""
    if find_spec("torch") is None:
        raise Missing("torch is not installed", hint="pip install 'modelc[cuda]'")


def gpu_name() -> str:
    """Return what torch calls the GPU, "" if it finds none.

    Raises:
        Missing: torch is not installed.
    """
    check_torch()
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


def choose_engine(name: str, kernels: Path | None, index: int = 0) -> Engine:
    """Return the engine of a name; "auto" is a GPU or, where there is none, the reference
    operators.

    Args:
        kernels: folder with the cubins, by architecture.
        index: number of the GPU.

    Raises:
        BadInput: there is no such engine.
        Missing: torch, Triton or a GPU is missing, or the bundle has no kernels for it.
    """
    if name not in ENGINES:
        raise BadInput(f"there is no engine {name}", hint=f"known: {', '.join(ENGINES)}")
    gpu = gpu_name()
    if name == "interpreter":
        os.environ[SWITCH] = "1"  # before Triton is imported
        return interpreter_engine()
    if name == "reference" or (name == "auto" and not gpu):
        return reference_engine()
    if not gpu:
        raise Missing(
            "torch finds no CUDA GPU",
            hint="run it on a machine with one, or with --engine reference, slowly, on the CPU",
        )
    from modelc.targets.cuda.driver import open_gpu

    if kernels is None:
        raise Missing("there are no kernels to run", hint="compile the model for this GPU")
    return open_gpu(kernels, index)

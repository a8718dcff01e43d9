"""Operators that ONNX Runtime doesn't run in opset 23, or not twice the same way."""

from __future__ import annotations

from typing import Final, NoReturn

import onnx_ir as ir

from modelc.frontends.onnx.draft import OPSET, Rewrite

RANDOM: Final = (
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
)  # fmt: skip


def no_kernel(node: ir.Node, rewrite: Rewrite) -> NoReturn:
    raise rewrite.refuse(
        f"of opset {OPSET} is run by no ONNX Runtime, so nothing could be checked",
        "cut the network before it, and do what follows on the CPU",
    )


def random(node: ir.Node, rewrite: Rewrite) -> NoReturn:
    raise rewrite.refuse(
        "gives random numbers, so nothing could be checked",
        "make what it gives an input of the network, and export it again",
    )

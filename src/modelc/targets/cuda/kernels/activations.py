"""Activations of float32, by name."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def activated(x, activation: tl.constexpr):
    """silu; gelu by the error function; gelu_tanh, its approximation by tanh
    (Hendrycks & Gimpel, arXiv:1606.08415)."""
    if activation == "silu":
        result = x * tl.sigmoid(x)
    elif activation == "gelu":
        result = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    else:
        tl.static_assert(activation == "gelu_tanh", "no such activation")
        # (1 + tanh(z)) / 2 is sigmoid(2 z); z = sqrt(2 / pi) * (x + 0.044715 x^3).
        result = x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    return result

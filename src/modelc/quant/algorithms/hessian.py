"""What inputs say about which errors of a matrix matter.

The squared error of a layer's outputs is e H e' for a row of errors e, where H = X'X / tokens are
the second moments of its inputs: half the Hessian of that error, as GPTQ, AdaRound and others call
it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelc.errors import BadInput, Where
from modelc.ir.packing.kinds import Form
from modelc.quant.algorithms.layer import Floats, Layer


def moments_of(layer: Layer) -> Iterator[tuple[str, Floats, Form, Floats]]:
    """Yield every module of a layer that gets a form: its weights [rows, n], the form, and H of its
    inputs, which is computed once for all that read the same ones, and held only for those.

    Raises:
        BadInput: inputs are NaN or infinite, or their squares are; names the module.
    """
    readers: dict[str, list[str]] = {}
    for module in layer.forms:
        readers.setdefault(layer.reads[module], []).append(module)
    for source, modules in readers.items():
        moments = checked(second_moments(layer.inputs[source]), modules[0])
        for module in modules:
            yield module, layer.weights[f"{module}.weight"], layer.forms[module], moments


def second_moments(inputs: Floats) -> Floats:
    """Return X'X / tokens of inputs [tokens, n], float32 [n, n]. Without tokens it is the identity:
    all that is known then is the error of the weights themselves."""
    if not len(inputs):
        return np.eye(inputs.shape[1], dtype=np.float32)
    moments: Floats = inputs.T @ inputs
    moments /= np.float32(len(inputs))
    return moments


def checked(moments: Floats, module: str) -> Floats:
    """Return moments that are finite; others raise BadInput."""
    if not np.isfinite(moments.sum(dtype=np.float64)):
        raise BadInput(
            "the inputs are NaN or infinite for some samples, or their squares are",
            where=Where(module=module),
            hint="look for damaged weights in front of it",
        )
    return moments


def importance(inputs: Floats) -> Floats:
    """Return the mean square of each of the inputs [tokens, n], float32 [n]: H's diagonal."""
    if not len(inputs):
        return np.ones(inputs.shape[1], np.float32)
    squares: Floats = np.einsum("tn,tn->n", inputs, inputs) / np.float32(len(inputs))
    return squares


def damped(moments: Floats, damping: float) -> Floats:
    """Return H plus a part of its mean diagonal, which makes it definite: an input that the
    samples never use keeps a weight nearest to what it was."""
    mean = float(np.diagonal(moments).mean())
    result = moments.copy()
    result.flat[:: len(moments) + 1] += np.float32(damping * mean if mean > 0 else 1.0)
    return result


def output_errors(errors: Floats, moments: Floats) -> Floats:
    """Return e H e' of each row of errors [rows, n], float32 [rows]; H as in `times_moments`."""
    lost: Floats = np.einsum("rn,rn->r", times_moments(errors, moments), errors)
    return lost


def times_moments(errors: Floats, moments: Floats) -> Floats:
    """Return rows of errors [rows, n] times H [n, n]; or times H of their own group
    [groups, n, n], the rows being those of one group after the other."""
    if moments.ndim == 2:
        product: Floats = errors @ moments
        return product
    groups, n, _ = moments.shape
    product = errors.reshape(groups, -1, n) @ moments
    return product.reshape(errors.shape)

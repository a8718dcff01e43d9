"""Einsum as products, sums and transposes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from modelc.passes.network.read import needed, sizes_of, text
from modelc.passes.network.sketch import Sketch


@dataclass(frozen=True)
class _Term:
    """A value and the letter of each of its axes, all different."""

    value: ir.Value
    letters: str


def einsum(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Terms from left to right: what a letter is summed over as soon as no other term has it.

    Diagonals ("ii") are left alone.
    """
    equation = _explicit(node)
    if equation is None:
        return None
    letters, result = equation
    terms = [_Term(needed(node, i), letter) for i, letter in enumerate(letters)]
    if any(len(set(term.letters)) != len(term.letters) for term in terms):
        return None
    current = terms[0]
    for index, term in enumerate(terms[1:], 1):
        kept = set(result).union(*(later.letters for later in terms[index + 1 :]))
        current = _contract(s, current, term, kept)
    current = _sum_out(s, current, set(result))
    perm = [current.letters.index(letter) for letter in result]
    return [s.transpose(current.value, perm)]


def _explicit(node: ir.Node) -> tuple[list[str], str] | None:
    """Return the letters of each term and of the result, "..." replaced by letters."""
    equation = text(node, "equation", "").replace(" ", "")
    left, arrow, result = equation.partition("->")
    parts = left.split(",")
    if len(parts) != len(node.inputs):
        return None
    ranks = [len(sizes_of(needed(node, i))) for i in range(len(parts))]
    spare = [chr(code) for code in range(0x391, 0x391 + 32)]  # Greek: no equation has them
    widths = [rank - len(part.replace("...", "")) for rank, part in zip(ranks, parts, strict=True)]
    most = max((w for w, part in zip(widths, parts, strict=True) if "..." in part), default=0)
    names = "".join(spare[:most])
    expanded = [
        part.replace("...", names[most - width :] if width else "")
        for part, width in zip(parts, widths, strict=True)
    ]
    if not arrow:
        single = [c for c in "".join(expanded) if "".join(expanded).count(c) == 1]
        result = names + "".join(sorted(c for c in single if c not in names))
    else:
        result = result.replace("...", names)
    if any(len(part) != rank for part, rank in zip(expanded, ranks, strict=True)):
        return None
    return expanded, result


def _sum_out(s: Sketch, term: _Term, kept: set[str]) -> _Term:
    axes = [i for i, letter in enumerate(term.letters) if letter not in kept]
    if not axes:
        return term
    value = s.reduce("ReduceSum", term.value, axes, keepdims=False)
    return _Term(value, "".join(letter for letter in term.letters if letter in kept))


def _contract(s: Sketch, left: _Term, right: _Term, kept: set[str]) -> _Term:
    """The product of two terms as one MatMul [batch, rows, summed] x [batch, summed, columns]."""
    left = _sum_out(s, left, kept | set(right.letters))
    right = _sum_out(s, right, kept | set(left.letters))
    size: dict[str, int] = {}
    for term in (left, right):
        for letter, count in zip(term.letters, sizes_of(term.value), strict=True):
            size[letter] = max(size.get(letter, 1), count)
    shared = [letter for letter in left.letters if letter in right.letters]
    batch = "".join(letter for letter in shared if letter in kept)
    summed = "".join(letter for letter in shared if letter not in kept)
    rows = "".join(letter for letter in left.letters if letter not in shared)
    columns = "".join(letter for letter in right.letters if letter not in shared)

    def folded(term: _Term, *groups: str) -> ir.Value:
        order = "".join(groups)
        value = s.transpose(term.value, [term.letters.index(letter) for letter in order])
        full = [size[letter] for letter in order]
        if sizes_of(value) != tuple(full):  # axes of size 1 that stand for more
            value = s.op("Expand", [value, s.integers(full, "full")], full)
        return s.reshape(value, [math.prod(size[c] for c in group) for group in groups])

    if not summed:
        # No sum: a product of numbers, which needs no matrix.
        order = batch + rows + columns
        a = s.reshape(folded(left, batch, rows), [*(size[c] for c in batch + rows),
                                                  *[1] * len(columns)])  # fmt: skip
        b = folded(right, batch, columns)
        b = s.reshape(b, [*(size[c] for c in batch), *[1] * len(rows),
                          *(size[c] for c in columns)])  # fmt: skip
        return _Term(s.mul(a, b), order)
    product = s.matmul(folded(left, batch, rows, summed), folded(right, batch, summed, columns))
    order = batch + rows + columns
    return _Term(s.reshape(product, [size[letter] for letter in order]), order)

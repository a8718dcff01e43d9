"""Rotations that spread outliers over all channels: Hadamard matrices with random signs.

Each entry of a Hadamard matrix over the square root of its size has the same magnitude, so what
one channel carries comes to be the same share of every channel. Random signs make it unlikely that
channels add up in one place again. Sources: QuIP# (Tseng et al. 2024) and QuaRot (Ashkboos et al.
2024) for their use; Paley, "On Orthogonal Matrices" (1933) for the sizes that are no power of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_ROWS: Final = 4096  # turned at once; an embedding has many more
_PAIR: Final = np.array([[1, 1], [1, -1]], np.int8)


@dataclass(frozen=True, eq=False)
class Rotation:
    """An orthogonal matrix diag(signs) (left x right), x being Kronecker's product.

    Attributes:
        signs: float32 [n] of 1 and -1.
        left, right: float32 [a, a] and [b, b], a * b = n; as small as can be, so that a product
            takes a + b multiplications for an element, and not n.
        hadamard: every entry has the same magnitude; otherwise no such matrix of the size is
            known here, and `left` is any orthogonal matrix.
    """

    signs: Floats
    left: Floats
    right: Floats
    hadamard: bool

    def rotate(self, values: Floats) -> Floats:
        """Return values [..., n] times this matrix."""
        rows = values.reshape(-1, len(self.signs))
        turned = np.empty(rows.shape, np.float32)
        for first in range(0, len(rows), _ROWS):
            part = rows[first : first + _ROWS] * self.signs
            part = part.reshape(-1, len(self.right)) @ self.right
            part = self.left.T @ part.reshape(-1, len(self.left), len(self.right))
            turned[first : first + _ROWS] = part.reshape(-1, len(self.signs))
        return turned.reshape(values.shape)


@lru_cache(maxsize=8)
def random_rotation(size: int, seed: int) -> Rotation:
    """Return the same rotation of [size, size] for the same seed."""
    random = np.random.default_rng(seed)
    signs = random.choice(np.array([-1, 1], np.float32), size)
    powers = [2**exponent for exponent in range(size.bit_length()) if size % 2**exponent == 0]
    widths = [power for power in powers if power * power <= size]
    for width in reversed(widths):
        if (left := hadamard(size // width)) is not None:
            return Rotation(signs, _orthogonal(left), _sylvester(width), hadamard=True)
    other = _random_orthogonal(size // widths[-1], random)
    return Rotation(signs, other, _sylvester(widths[-1]), hadamard=False)


def hadamard(size: int) -> NDArray[np.int8] | None:
    """Return a matrix [size, size] of 1 and -1 with orthogonal rows, if Sylvester's and Paley's
    constructions over the integers modulo a prime give one."""
    if size == 1:
        return np.ones((1, 1), np.int8)
    if size % 2 == 0 and (half := hadamard(size // 2)) is not None:
        return np.kron(_PAIR, half)
    if size % 4 == 0 and _is_prime(size - 1):
        return _paley_first(size - 1)
    if size % 8 == 4 and _is_prime(size // 2 - 1):
        return _paley_second(size // 2 - 1)
    return None


def _paley_first(prime: int) -> NDArray[np.int8]:
    """Of size prime + 1, for a prime that leaves 3 over multiples of 4."""
    skew = _bordered(prime)
    skew[1:, 0] = -1
    return skew + np.eye(prime + 1, dtype=np.int8)


def _paley_second(prime: int) -> NDArray[np.int8]:
    """Of size 2 (prime + 1), for a prime that leaves 1 over multiples of 4."""
    eye = np.eye(prime + 1, dtype=np.int8)
    return np.kron(_bordered(prime), _PAIR) + np.kron(eye, np.array([[1, -1], [-1, -1]], np.int8))


def _bordered(prime: int) -> NDArray[np.int8]:
    """Return Jacobsthal's matrix, entry (i, j) being 1 if i - j is a square modulo the prime and
    -1 if not, with a border of ones, and zeros on the diagonal."""
    numbers = np.arange(prime)
    squares = np.isin(numbers, numbers**2 % prime)
    character = np.where(squares, 1, -1).astype(np.int8)
    character[0] = 0
    matrix = np.ones((prime + 1, prime + 1), np.int8)
    matrix[0, 0] = 0
    matrix[1:, 1:] = character[(numbers[:, None] - numbers) % prime]
    return matrix


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, isqrt(number) + 1))


def _sylvester(size: int) -> Floats:
    matrix = hadamard(size)
    assert matrix is not None, "a power of two"
    return _orthogonal(matrix)


def _orthogonal(matrix: NDArray[np.int8]) -> Floats:
    unit: Floats = (matrix / np.sqrt(len(matrix))).astype(np.float32)
    return unit


def _random_orthogonal(size: int, random: np.random.Generator) -> Floats:
    """Return one of all orthogonal matrices, each as likely (Mezzadri 2007)."""
    q, r = np.linalg.qr(random.standard_normal((size, size)))
    signed: Floats = (q * np.sign(np.diag(r))).astype(np.float32)
    return signed

"""Every kind as a pair of pure functions: what holds of any numbers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.ir.packing.coded_rows import CodedRows, dequantise_rows, over_columns
from modelc.ir.packing.kinds import KINDS, FloatForm, Form, IntegerForm
from modelc.ir.packing.quantise_rows import quantise_rows

ALL = sorted(KINDS)
INTEGERS = [kind for kind in ALL if isinstance(KINDS[kind], IntegerForm)]
few = settings(max_examples=4)
seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 200))


def some(shape: tuple[int, int], seed: int, spread: float = 1.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    scales = np.exp(random.normal(0, spread, (shape[0], 1)))
    return (random.laplace(size=shape) * scales).astype(np.float32)


def blocks_of(form: Form, columns: int) -> int:
    return -(-columns // (form.block or columns))


def each(per_block: np.ndarray, coded: CodedRows) -> np.ndarray:
    columns = coded.codes.shape[1]
    return np.broadcast_to(over_columns(per_block, columns, coded.block), coded.codes.shape)


@pytest.mark.parametrize("kind", ALL)
@few
@given(shape=shapes, seed=seeds)
def test_what_is_made(kind: str, shape: tuple[int, int], seed: int) -> None:
    """Shapes and types as `CodedRows` says; scales that rows share are the same."""
    form, values = KINDS[kind], some(shape, seed)
    before = values.copy()
    coded = quantise_rows(values, form)
    np.testing.assert_array_equal(values, before)
    assert coded.codes.shape == shape and coded.codes.dtype == form.array_type
    assert coded.block == form.block
    assert coded.block_scales.shape == (shape[0], blocks_of(form, shape[1]))
    assert coded.scales.dtype == np.float32 and np.all(coded.scales > 0)
    assert dequantise_rows(coded).shape == shape
    height = form.block_rows or shape[0]
    for top in range(0, shape[0], height):
        assert np.ptp(coded.block_scales[top : top + height], axis=0).max() == 0
    if isinstance(form, IntegerForm):
        assert (coded.zeros is not None) == (not form.symmetric)
        assert form.lowest <= coded.codes.min() and coded.codes.max() <= form.highest
    elif form.power_scales:
        assert np.all(np.frexp(coded.scales)[0] == 0.5)


@pytest.mark.parametrize("kind", ALL)
@few
@given(shape=shapes, seed=seeds)
def test_numbers_of_codes_have_the_same_codes(kind: str, shape: tuple[int, int], seed: int) -> None:
    coded = quantise_rows(some(shape, seed), KINDS[kind])
    numbers = dequantise_rows(coded)
    again = quantise_rows(numbers, KINDS[kind], coded.scales, coded.multiples, coded.zeros)
    np.testing.assert_array_equal(again.codes.astype(np.float32), coded.codes.astype(np.float32))
    np.testing.assert_array_equal(dequantise_rows(again), numbers)


@pytest.mark.parametrize("kind", ALL)
@few
@given(shape=shapes, seed=seeds)
def test_half_a_step_at_most(kind: str, shape: tuple[int, int], seed: int) -> None:
    """Within reach of the codes; what lies beyond gets the last one."""
    form, values = KINDS[kind], some(shape, seed)
    coded = quantise_rows(values, form)
    scales, error = each(coded.block_scales, coded), np.abs(dequantise_rows(coded) - values)
    if isinstance(form, FloatForm):
        mantissa = int(form.element[3])
        magnitude = np.minimum(np.abs(values / scales), form.highest)
        smallest = {"e4m3": -6, "e5m2": -14, "e3m2": -2, "e2m3": 0, "e2m1": 0}[form.element]
        exponent = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1e-30))), smallest)
        half = np.exp2(exponent - mantissa - 1)
        inside = np.abs(values) <= form.highest * scales
    else:
        half = np.float32(0.5)
        zeros = 0 if coded.zeros is None else each(coded.zeros.astype(np.float32), coded)
        low, high = (form.lowest - zeros) * scales, (form.highest - zeros) * scales
        inside = (values >= low) & (values <= high)
        clipped = np.where(values > 0, high, low)
        np.testing.assert_allclose(dequantise_rows(coded)[~inside], clipped[~inside], rtol=1e-6)
    assert np.all(error[inside] <= (half * scales * np.float32(1.005))[inside])


@pytest.mark.parametrize("kind", ALL)
def test_zeros_stay_zero(kind: str) -> None:
    values = some((4, 160), 1)
    values[:, ::3] = 0
    values[1] = 0
    values[2, :64] = 0
    found = dequantise_rows(quantise_rows(values, KINDS[kind]))
    assert not found[values == 0].any()
    nothing = quantise_rows(np.zeros((3, 70), np.float32), KINDS[kind])
    assert np.all(np.isfinite(nothing.block_scales)) and np.all(nothing.scales > 0)
    np.testing.assert_array_equal(dequantise_rows(nothing), np.zeros((3, 70)))


@pytest.mark.parametrize("kind", ALL)
def test_tiny_and_huge_numbers(kind: str) -> None:
    """Denormals may be lost, but nothing is made of them; the largest floats have codes."""
    tiny = some((4, 128), 2) * np.float32(1e-42)
    assert np.abs(dequantise_rows(quantise_rows(tiny, KINDS[kind]))).max() <= 1e-37
    huge = np.sign(some((4, 128), 3)) * np.float32(1e38)
    found = dequantise_rows(quantise_rows(huge, KINDS[kind]))
    assert np.all(np.isfinite(found))
    assert np.all(np.sign(found) * np.sign(huge) >= 0)


@pytest.mark.parametrize("kind", ALL)
def test_an_outlier_costs_its_own_block_alone(kind: str) -> None:
    form = KINDS[kind]
    values = some((130, 256), 4, spread=0.1)
    spoiled = values.copy()
    spoiled[0, 5] = 1e4
    plain, found = (dequantise_rows(quantise_rows(rows, form)) for rows in (values, spoiled))
    height, width = form.block_rows or 130, form.block or 256
    changed = plain != found
    if not (isinstance(form, IntegerForm) and form.scale_bits):
        assert not changed[height:].any() and not changed[:, width:].any()
    assert found[0, 5] == pytest.approx(1e4, rel=0.5)


@pytest.mark.parametrize("sign", ["w", "u"])
@pytest.mark.parametrize("block", ["", "_b16", "_b40", "_b128"])
def test_more_bits_lose_less(sign: str, block: str) -> None:
    values = some((16, 320), 5)
    lost = [
        np.linalg.norm(
            dequantise_rows(quantise_rows(values, KINDS[f"{sign}{bits}{block}"])) - values
        )
        for bits in (2, 3, 4, 8)
    ]
    assert all(more < 0.6 * fewer for fewer, more in pairwise(lost))


@pytest.mark.parametrize("kind", [kind for kind in INTEGERS if KINDS[kind].block])
@few
@given(columns=st.integers(1, 150), seed=seeds)
def test_a_narrower_last_block(kind: str, columns: int, seed: int) -> None:
    """Is what it would be with zeros after it."""
    form, values = KINDS[kind], some((3, columns), seed)
    whole = np.pad(values, ((0, 0), (0, -columns % form.block)))
    found, expected = (quantise_rows(rows, form) for rows in (values, whole))
    np.testing.assert_array_equal(found.codes, expected.codes[:, :columns])
    np.testing.assert_array_equal(found.block_scales, expected.block_scales)
    np.testing.assert_array_equal(dequantise_rows(found), dequantise_rows(expected)[:, :columns])

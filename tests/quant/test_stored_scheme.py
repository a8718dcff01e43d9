"""The default scheme of a source that came quantised keeps its codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelc.ir.coded import CodedMatrix
from modelc.ir.packing.kinds import FloatForm, Form, IntegerForm
from modelc.ir.stored import StoredMatrix
from modelc.quant.stored_scheme import stored_scheme


def matrix(form: Form | None, height: int = 64) -> CodedMatrix:
    return CodedMatrix(Path("absent"), 0, "rows", (height, 256), form=form)


@pytest.mark.parametrize(
    ("form", "cpu", "htp"),
    [
        (IntegerForm(4, 128), "w4_b128", "w4a16_b64"),
        (IntegerForm(4, 32), "w4_b32", "w4a16_b32"),
        (IntegerForm(4), "w4", "w4a16"),
        (IntegerForm(8), "w8", "w8a16"),
        (IntegerForm(4, 128, symmetric=False), "u4_b128", None),
        (IntegerForm(4, symmetric=False), "u4", "w8a16"),
        (FloatForm("e4m3", 128, 128), "e4m3_b128", None),
        (IntegerForm(4, 1), None, None),  # inputs out of order
        (None, None, None),
    ],
)
def test_scheme_that_keeps_most(form: Form | None, cpu: str | None, htp: str | None) -> None:
    weights = [matrix(form), StoredMatrix(Path("absent"), 0, "F16", (4096, 256))]
    assert stored_scheme(weights, "cpu") == cpu
    assert stored_scheme(weights, "snapdragon", 79) == htp


def test_the_larger_part_counts() -> None:
    weights = [matrix(FloatForm("e4m3")), matrix(IntegerForm(4, 32), height=96)]
    assert stored_scheme(weights, "cpu") == "w4_b32"


def test_only_what_the_architecture_compiles() -> None:
    assert stored_scheme([matrix(IntegerForm(4, 32))], "snapdragon", 68) is None
    assert stored_scheme([matrix(IntegerForm(4))], "snapdragon", 68) == "w4a16"


def test_floats_have_none() -> None:
    assert stored_scheme([StoredMatrix(Path("absent"), 0, "F16", (64, 256))], "cpu") is None

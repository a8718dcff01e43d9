"""Sizes come out as onnx_ir's own algebra has them."""

import onnx_ir as ir
import pytest

from modelc.ir.sizes import evaluate

SIZES = {"past": 4, "sequence": 2}


@pytest.mark.parametrize(
    "dim",
    ["past", "past + sequence", "past + sequence + past", "past + 1", "2*past", "batch",
     "batch + past", 7, None],
)  # fmt: skip
def test_as_onnx_ir_has_it(dim: str | int | None) -> None:
    shape = ir.Shape([3, dim])
    assert evaluate(shape, SIZES) == shape.evaluate(SIZES)

"""Every row of PIPELINES resolves, and fields are filled by name, all of them."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest

from modelc.errors import ModelcError
from modelc.ir.legality import LEGAL
from modelc.passes.base import Pass
from modelc.passes.pipelines import PIPELINES, build_pipeline, load_pass


@pytest.mark.parametrize("row", PIPELINES)
def test_every_row_resolves(row: str) -> None:
    passes = [load_pass(dotted) for dotted in PIPELINES[row]]
    assert all(issubclass(kind, Pass) and dataclasses.is_dataclass(kind) for kind in passes)
    assert len({kind.name for kind in passes}) == len(passes)
    for kind, following in pairwise(passes):
        made, taken = LEGAL[kind.after], LEGAL[following.before]
        assert all(operators <= taken.get(domain, set()) for domain, operators in made.items())


def test_fields_are_filled_by_name() -> None:
    passes = build_pipeline("htp-float", {"ar": 4, "context_length": 32})
    specialise = next(step for step in passes if step.name == "specialise_shapes")
    assert specialise == load_pass("modelc.passes.htp.specialise_shapes:SpecialiseShapes")(4, 32)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ModelcError, match="specialise_shapes of htp-float needs context_length"):
        build_pipeline("htp-float", {"ar": 4})


def test_a_setting_that_no_pass_takes_is_named() -> None:
    settings = {"ar": 4, "context_length": 32, "encodings": {}}
    with pytest.raises(ModelcError, match="no pass of htp-float has a field encodings"):
        build_pipeline("htp-float", settings)

"""The onnx package's tests of single operators: lowered for HTP they give the same on ONNX
Runtime, with operators that HTP takes, or are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx_ir as ir
import pytest
from support.network_graphs import Feeds, assert_same, lower, node_cases, operators, run

from modelc.errors import BadInput
from modelc.ir.legality import LEGAL
from modelc.ir.provenance import module_of
from modelc.passes.network.decompose.table import TABLE
from modelc.passes.network.taken import refusals
from modelc.passes.pipelines import build_pipeline

RANDOM = ("bernoulli", "training_dropout")


@cache
def cases() -> Mapping[str, tuple[ir.Model, Feeds]]:
    return node_cases()


@cache
def runnable() -> Mapping[str, tuple[ir.Model, Feeds, dict[str, np.ndarray]]]:
    """The cases of operators that aren't simply taken, and what ONNX Runtime gives."""
    found = {}
    for name, (model, feeds) in cases().items():
        (operator,) = operators(model)
        plain = operator in LEGAL["htp-network"][""] and operator not in TABLE
        if plain or name.startswith(RANDOM):
            continue
        try:
            found[name] = (model, feeds, run(model, feeds))
        except Exception:  # it has no kernel, or another rank than the test
            continue
    return found


@cache
def lowered() -> Mapping[str, ir.Model]:
    return {
        name: lower(model, "htp-network-fallback") for name, (model, _, _) in runnable().items()
    }


def test_there_are_enough_cases() -> None:
    assert len(cases()) > 600
    assert len(runnable()) > 350


def test_numbers_stay() -> None:
    wrong = []
    for name, (_, feeds, expected) in runnable().items():
        try:
            assert_same(expected, run(lowered()[name], feeds))
        except Exception as error:
            wrong.append(f"{name}: {error}")
    assert not wrong, "\n".join(wrong)


def test_every_node_is_taken_or_refused_with_a_reason() -> None:
    taken = 0
    (check,) = build_pipeline("htp-network", {})[-1:]
    for name, model in lowered().items():
        found = refusals(model)
        if found:
            with pytest.raises(BadInput, match="HTP doesn't take") as caught:
                check.apply(model)
            assert found[0].reason in caught.value.message, name
            assert caught.value.where.module == "tested"
        else:
            taken += 1
            assert set(operators(model)) <= LEGAL["htp-network"][""]
        assert all(module_of(node) for node in model.graph), name
    assert taken > 250


def test_the_table_has_no_row_in_vain() -> None:
    """Each operator of the table that the package tests is written out in one test at least."""
    met, replaced = set(), set()
    for name, (model, _, _) in runnable().items():
        (before,) = operators(model)
        met.add(before)
        after = operators(lowered()[name])
        if before not in after or len(after) > 1:
            replaced.add(before)
    unneeded = (met & set(TABLE)) - replaced
    # Their forms are tested by graphs of their own: what these tests ask of them, HTP takes.
    assert unneeded <= {
        "Cast", "ConvTranspose", "Equal", "GRU", "Gemm", "LSTM", "Neg", "Pow", "ReduceMean",
        "Reshape", "Sign", "Transpose", "GatherND", "BatchNormalization", "CumSum", "ReduceSum",
        "ReduceLogSumExp", "ReduceL2",
    }  # fmt: skip

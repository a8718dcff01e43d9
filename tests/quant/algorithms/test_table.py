"""The table of algorithms, and a recipe's names and options made algorithms."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from modelc.errors import BadInput
from modelc.quant import algorithms
from modelc.quant.algorithms.choose import choose_algorithms
from modelc.quant.algorithms.gptq import Gptq
from modelc.quant.algorithms.layer import Algorithm
from modelc.quant.algorithms.table import ALGORITHMS


def test_every_algorithm_has_a_row_under_its_own_name() -> None:
    found = {}
    for module in pkgutil.iter_modules(algorithms.__path__):
        for value in vars(importlib.import_module(f"{algorithms.__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Algorithm) and value is not Algorithm:
                found[value.name] = f"{value.__module__}:{value.__name__}"
    assert found == {name: row.dotted for name, row in ALGORITHMS.items()}


def test_order_is_the_tables_and_there_always_is_a_rounding() -> None:
    chosen = choose_algorithms(["gptq", "awq", "rotate"], {})
    assert [algorithm.name for algorithm in chosen] == ["rotate", "awq", "gptq"]
    assert [algorithm.name for algorithm in choose_algorithms(["awq"], {})] == ["awq", "mse"]


def test_options_become_fields() -> None:
    (gptq,) = choose_algorithms(["gptq"], {"gptq.damping": 0.02, "gptq.act_order": False})
    assert gptq == Gptq(damping=0.02, act_order=False)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["gptg"], {}, "no algorithm is called 'gptg'"),
        (["gptq", "gptq"], {}, "twice"),
        (["gptq", "seqmse"], {}, "rounded once"),
        (["gptq"], {"gptq.dampening": 1}, "no option 'dampening'"),
        (["gptq"], {"awq.steps": 1}, "no algorithm in use"),
        (["gptq"], {"gptq.damping": "much"}, "gptq.damping"),
        (["gptq"], {"damping": 1}, "no algorithm in use"),
    ],
)
def test_what_makes_no_sense_is_refused(
    names: list[str], options: dict[str, int | str], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        choose_algorithms(names, options)

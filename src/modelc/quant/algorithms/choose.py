"""From a recipe's names and options to algorithms."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from modelc.errors import BadInput, nearest
from modelc.quant.algorithms.layer import Algorithm
from modelc.quant.algorithms.table import ALGORITHMS

DEFAULT_ROUNDING: Final = "mse"


def choose_algorithms(
    names: Sequence[str], options: Mapping[str, bool | int | float | str]
) -> tuple[Algorithm, ...]:
    """Return the algorithms of a recipe in the table's order; round to nearest with scales of least
    squared error if there is no rounding among them.

    Args:
        options: "gptq.damping" -> value.

    Raises:
        BadInput: an unknown name or option, a value of the wrong type, two roundings, or an option
            of an algorithm that is not used.
    """
    _check_names(names)
    chosen = set(names)
    if not any(ALGORITHMS[name].stage == "rounding" for name in names):
        chosen.add(DEFAULT_ROUNDING)
    fields: dict[str, dict[str, Any]] = {name: {} for name in ALGORITHMS if name in chosen}
    for key, value in options.items():
        name, _, field = key.partition(".")
        if name not in fields:
            raise BadInput(
                f"the option {key} is of no algorithm in use", hint=f"in use: {', '.join(fields)}"
            )
        fields[name][field] = value
    return tuple(_make(name, given) for name, given in fields.items())


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if name not in ALGORITHMS:
            raise BadInput(f"no algorithm is called {name!r}", hint=nearest(name, ALGORITHMS))
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadInput(f"the algorithm {min(twice)} is there twice")
    roundings = [name for name in names if ALGORITHMS[name].stage == "rounding"]
    if len(roundings) > 1:
        raise BadInput(
            f"weights are rounded once, not by {' and '.join(roundings)}", hint="choose one"
        )


def _make(name: str, given: Mapping[str, Any]) -> Algorithm:
    module, _, kind = ALGORITHMS[name].dotted.partition(":")
    algorithm: type[Algorithm] = getattr(importlib.import_module(module), kind)
    known = [field.name for field in dataclasses.fields(algorithm)]
    if unknown := [field for field in given if field not in known]:
        raise BadInput(
            f"the algorithm {name} has no option {unknown[0]!r}",
            hint=f"it has {', '.join(known)}" if known else "it has none",
        )
    try:
        made: Algorithm = TypeAdapter(algorithm).validate_python(dict(given), strict=False)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(map(str, problem["loc"]))
        raise BadInput(f"the option {name}.{field}: {problem['msg']}") from error
    return made

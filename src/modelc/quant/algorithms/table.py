"""All algorithms, in the order in which they are applied, by dotted name; and how a recipe's
options become their fields."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from modelc.errors import BadInput, nearest
from modelc.quant.algorithms.layer import Algorithm

_HERE: Final = "modelc.quant.algorithms"

Stage = Literal["transform", "rounding", "correction"]


@dataclass(frozen=True)
class Row:
    """One algorithm: where it is, and what it does.

    Attributes:
        stage: `transform` gives equivalent float weights, `rounding` codes (a recipe has at most
            one), `correction` makes up for what rounding lost.
    """

    dotted: str
    stage: Stage
    about: str


ALGORITHMS: Final[Mapping[str, Row]] = {
    "rotate": Row(
        f"{_HERE}.rotate:Rotate", "transform", "Hadamard rotations folded into weights (QuaRot)"
    ),
    "smooth": Row(
        f"{_HERE}.smooth:Smooth", "transform", "outliers moved from inputs to weights (SmoothQuant)"
    ),
    "awq": Row(f"{_HERE}.awq:Awq", "transform", "scaling searched for by the outputs' error (AWQ)"),
    "equalise": Row(
        f"{_HERE}.equalise:Equalise", "transform", "ranges of channels made equal across layers"
    ),
    "nearest": Row(
        f"{_HERE}.nearest:Nearest", "rounding", "round to nearest, over the whole range"
    ),
    "mse": Row(f"{_HERE}.mse:Mse", "rounding", "round to nearest, scales of least squared error"),
    "weighted_mse": Row(
        f"{_HERE}.weighted_mse:WeightedMse",
        "rounding",
        "the same, weights weighed by what they are multiplied with",
    ),
    "seqmse": Row(
        f"{_HERE}.seqmse:SequentialMse", "rounding", "scales of least error in the outputs"
    ),
    "gptq": Row(f"{_HERE}.gptq:Gptq", "rounding", "each column makes up for those before (GPTQ)"),
    "adaround": Row(f"{_HERE}.adaround:AdaRound", "rounding", "rounding up or down is learned"),
    "bias_correction": Row(
        f"{_HERE}.bias_correction:BiasCorrection", "correction", "the mean error goes into biases"
    ),
}
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

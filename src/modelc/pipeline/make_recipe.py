"""A recipe out of a TOML file and options."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modelc.errors import BadInput, Where, nearest
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.recipe_sections import Calibration, Cuda, Network, Qaic, Section, Verify


def make_recipe(path: Path | None, options: Mapping[str, Any]) -> Recipe:
    """Merge a TOML file and options, which win, into a recipe.

    An option is named as its key in the file, a section's with the section before it:
    `verify_text` is `text` in [verify]. Relative paths in the file start at its folder.

    Raises:
        BadInput: the file can't be read, or keys or values are wrong; says all that are.
    """
    document = _read_toml(path) if path else {}
    for name, value in options.items():
        section, key = _place(name)
        if section:
            inner = document.setdefault(section, {})
            if isinstance(inner, dict):
                inner[key] = value
                if (other := _INSTEAD.get(name)) and f"{section}_{other}" not in options:
                    inner.pop(other, None)
        else:
            document[name] = value
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise _explained(error, path) from error


def _place(name: str) -> tuple[str, str]:
    """("verify", "text") for "verify_text", ("", name) for what is in no section."""
    for section, model in _SECTIONS.items():
        key = name.removeprefix(f"{section}_")
        if key != name and key in model.model_fields:
            return section, key
    return "", name


def _read_toml(path: Path) -> dict[str, Any]:
    where = Where(path=str(path))
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"the recipe can't be read: {error.strerror}", where=where) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the recipe is no TOML: {error}", where=where) from error
    for section, keys in _PATHS.items():
        table = document.get(section) if section else document
        if not isinstance(table, dict):
            continue
        for key in keys:
            if isinstance(table.get(key), str):
                table[key] = str(path.parent / table[key])
            elif isinstance(table.get(key), list):
                table[key] = [str(path.parent / str(item)) for item in table[key]]
    return document


def _explained(error: ValidationError, path: Path | None) -> BadInput:
    problems: dict[str, None] = {}
    hints: dict[str, None] = {}
    for problem in error.errors():
        place = [str(part) for part in problem["loc"]]
        if problem["type"] == "extra_forbidden":
            problems[f"no option is called {'.'.join(place)}"] = None
            hints[f"{place[-1]}: {nearest(place[-1], _known(place[:-1]))}"] = None
        elif problem["type"] == "missing":
            problems[f"{'.'.join(place)} is not given"] = None
            hints[_MISSING_HINTS.get(place[-1], "")] = None
        else:
            name = ".".join(part for part in place if part in _NAMES) or "the recipe"
            problems[f"{name}: {problem['msg'].removeprefix('Value error, ')}"] = None
    listed = "\n".join(f"  - {problem}" for problem in problems)
    return BadInput(
        f"the recipe is not valid:\n{listed}",
        where=Where(path=str(path) if path else ""),
        hint="; ".join(filter(None, hints)),
    )


def _known(place: list[str]) -> Iterator[str]:
    model = _SECTIONS[place[0]] if place else Recipe
    yield from model.model_fields


_MISSING_HINTS: Mapping[str, str] = {
    "target": "add --target cpu, or a chipset that `modelc targets` lists"
}
_SECTIONS: Mapping[str, type[Section]] = {
    "calibration": Calibration,
    "verify": Verify,
    "network": Network,
    "qaic": Qaic,
    "cuda": Cuda,
}
_PATHS: Mapping[str, tuple[str, ...]] = {
    "": ("encodings",),
    "calibration": ("text", "data"),
    "verify": ("text", "data"),
    "network": ("preprocess",),
    "qaic": ("adapters", "node_precision_info", "mdp_load_partition_config", "qnn_config"),
    "cuda": ("tiles",),
}
"""Options that name files, by section."""
_INSTEAD: Mapping[str, str] = {"calibration_text": "data", "calibration_data": "text"}
"""An option -> what of its section it takes the place of."""
_NAMES = frozenset(
    {*Recipe.model_fields, *(name for model in _SECTIONS.values() for name in model.model_fields)}
)

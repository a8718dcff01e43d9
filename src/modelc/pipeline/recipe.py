"""The recipe: everything that a user decides about a compile, validated once."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from modelc.errors import BadInput, Where, nearest

MAX_CONTEXT = 1 << 22
AUTO: Final = "auto"

Count = Annotated[int, Field(ge=1, le=MAX_CONTEXT)]
Format = Literal["genie", "dlc", "ort", "aimet"]


class Section(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Calibration(Section):
    """[calibration]: what activation ranges are gathered on, and how they are chosen.

    Attributes:
        text: UTF-8 file; None for the one that modelc carries.
        data: samples in place of a text: JSON lines, .npz, or an input list of raw files.
        samples: sequences taken from it, evenly spread.
        sequence_length: tokens in each, at most.
        observer: makes a range of what was seen of a tensor (`quant.observers`).
        percentile: percent of the values that the observer of this name keeps; None for its own.
    """

    text: Path | None = None
    data: Path | None = None
    samples: Count = 16
    sequence_length: Count = 256
    observer: Literal["min-max", "moving-average", "percentile", "entropy", "mse"] = "min-max"
    percentile: Annotated[float, Field(gt=0, le=100)] | None = None

    @model_validator(mode="after")
    def _together(self) -> Calibration:
        if self.text is not None and self.data is not None:
            raise ValueError("text and data, of which there can be one")
        if self.percentile is not None and self.observer != "percentile":
            raise ValueError(f"the observer {self.observer} has no use for a percentile")
        return self


class Verify(Section):
    """[verify]: what the result is compared with the float model on, and how close it must be.

    Attributes:
        text: UTF-8 file; None for the one that modelc carries.
        tokens: at most so many of its tokens; None for what suits the target (the HTP simulator
            is slow).
        min_sqnr_db, min_top1, max_perplexity_ratio: None for the scheme's own threshold.
        max_kl_divergence: mean nats per token; None for any.
    """

    text: Path | None = None
    tokens: Annotated[int, Field(ge=2, le=MAX_CONTEXT)] | None = None
    min_sqnr_db: float | None = None
    min_top1: Annotated[float, Field(ge=0, le=1)] | None = None
    max_perplexity_ratio: Annotated[float, Field(gt=0)] | None = None
    max_kl_divergence: Annotated[float, Field(gt=0)] | None = None


def _split_commas(value: Any) -> Any:
    if isinstance(value, int):
        return [value]
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _number_or_word(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _bytes(value: Any) -> Any:
    """Read "8G", "512M" or a plain number of bytes."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([KMGT]?)i?B?", value.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError("a size such as 8G or 512M")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


class Recipe(Section):
    """How a source is compiled.

    Attributes:
        target: "cpu" or a chipset.
        quant: scheme; None for the target's default; "auto" to search for the kind of every
            module's weights, within `budget`.
        budget: what quantising may cost (`quant.budget`), such as "ppl+1%".
        kv_bits: of each number in the KV cache; None for the scheme's own.
        context_length: KV positions, most first: static graphs can be made for several. Empty for
            the model's own, within the target's default.
        ar: new tokens per call of each static graph, most first; 1 must be among them.
        splits: consecutive parts of the decoder; "auto" goes by the memory of device and machine.
        attention: one branch for each query head ("sha"), or the heads of a key head together
            ("grouped").
        encodings: AIMET's encodings: of activations instead of calibrating, and kinds and scales
            of the weights that it tells of, in place of the scheme's.
        format: what a Snapdragon bundle holds: Genie's files, DLCs, ONNX Runtime's models, AIMET's
            encodings of every graph.
        toolchain: compile with the libraries that pip installs, or drive an installed QAIRT SDK.
        memory_limit: bytes that compiling may take; None for what the machine has free.
        gguf: GGUF blocks on the CPU stay as they are ("exact"), or some become a format with
            faster kernels ("fast").
        keep_twins: put the simulator's binaries into the bundle as well.
        algorithms: what quantises the weights (`quant.algorithms.table`); none is rounding to
            nearest with scales of least squared error.
        algorithm_options: "gptq.damping" -> value.
        overrides: pattern of module paths -> kind of weights ("w8", "w4_b32", ...), in place of
            the scheme's.
    """

    target: Annotated[str, Field(min_length=1)]
    quant: str | None = None
    budget: str | None = None
    kv_bits: Literal[8, 16] | None = None
    context_length: Annotated[tuple[Count, ...], BeforeValidator(_split_commas)] = ()
    ar: Annotated[tuple[Count, ...], BeforeValidator(_split_commas), Field(min_length=1)] = (128, 1)
    splits: Annotated[Literal["auto"] | Count, BeforeValidator(_number_or_word)] = "auto"
    attention: Literal["sha", "grouped"] = "sha"
    encodings: Path | None = None
    format: Annotated[tuple[Format, ...], BeforeValidator(_split_commas), Field(min_length=1)] = (
        "genie",
    )
    toolchain: Literal["pip", "sdk"] = "pip"
    memory_limit: Annotated[int, BeforeValidator(_bytes), Field(ge=1)] | None = None
    gguf: Literal["exact", "fast"] = "exact"
    keep_twins: bool = False
    calibration: Calibration = Calibration()
    verify: Verify = Verify()
    algorithms: Annotated[tuple[str, ...], BeforeValidator(_split_commas)] = ()
    algorithm_options: dict[str, bool | int | float | str] = {}
    overrides: dict[str, str] = {}

    @field_validator("ar", "context_length")
    @classmethod
    def _most_first(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(lengths, reverse=True))

    def to_toml(self) -> str:
        """Return the TOML that `make_recipe` makes the same recipe of."""
        document = self.model_dump(mode="json", exclude_none=True)
        plain = {name: value for name, value in document.items() if not isinstance(value, dict)}
        lines = [*_toml_lines(plain)]
        for name, section in document.items():
            if isinstance(section, dict):
                lines += ["", f"[{name}]", *_toml_lines(section)]
        return "\n".join(lines) + "\n"


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
    tables = [(document.get(section), key) for section in _SECTIONS for key in ("text", "data")]
    for table, key in (*tables, (document, "encodings")):
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = str(path.parent / table[key])
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


def _toml_lines(values: Mapping[str, Any]) -> Iterator[str]:
    # JSON's numbers, booleans, lists and strings are TOML's as well, but for one control code.
    for name, value in values.items():
        key = name if _BARE_KEY.fullmatch(name) else _toml_text(name)
        yield f"{key} = {_toml_text(value)}"


def _toml_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


_MISSING_HINTS: Mapping[str, str] = {
    "target": "add --target cpu, or a chipset that `modelc targets` lists"
}
_SECTIONS: Mapping[str, type[Section]] = {"calibration": Calibration, "verify": Verify}
_INSTEAD: Mapping[str, str] = {"calibration_text": "data", "calibration_data": "text"}
"""An option -> what of its section it takes the place of."""
_NAMES = frozenset(
    {*Recipe.model_fields, *(name for model in _SECTIONS.values() for name in model.model_fields)}
)

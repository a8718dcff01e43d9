"""Reading AIMET's encodings files.

Three layouts, as AIMET's encoding specification and aimet-onnx write them:

    0.4 to 0.6  activation_encodings, param_encodings: name -> [an encoding, or one per channel]
    1.0         the same sections as lists of entries that carry their name and vectors of scales
    2.x         one list `encodings`; ONNX's words (y_scale, y_zero_point, axis)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from modelc.errors import BadInput, Where
from modelc.quant.aimet.encodings import SECTIONS, AimetEncodings, TensorEncoding
from modelc.quant.aimet.entry import Entry
from modelc.quant.aimet.layouts import parse_first, parse_second, parse_third

MAX_BYTES: Final = 1 << 29
MAX_TENSORS: Final = 1 << 20
MAX_NAME: Final = 1 << 10

Parse = Callable[[Entry], TensorEncoding | None]
"""None for a tensor that stays in floating point."""


@dataclass(frozen=True)
class _Layout:
    versions: str
    section: type[dict[str, Any]] | type[list[Any]]
    parse: Parse


_FIRST: Final = _Layout("0.", dict, parse_first)
_SECOND: Final = _Layout("1.", list, parse_second)
_THIRD: Final = _Layout("2.", list, parse_third)


def read_encodings(path: Path) -> AimetEncodings:
    """Read a file of any generation; one that names no version is recognised by its layout.

    In 2.x files, which don't tell, parameters are tensors with more than one scale and those
    called `*.weight` or `*.bias`.

    Raises:
        BadInput: not such a file, of an unknown version, or with an entry that makes no sense;
            says which tensor.
    """
    document = _document(path)
    layout = _layout(document, path)
    found: dict[str, dict[str, TensorEncoding]] = {section: {} for section in SECTIONS}
    seen: set[tuple[str, str]] = set()
    floats: set[str] = set()
    for section, entry in _entries(document, layout, path):
        if (section, entry.name) in seen:
            raise entry.error("there are two entries for it", "each tensor may have one")
        seen.add((section, entry.name))
        parsed = layout.parse(entry)
        if parsed is None:
            floats.add(entry.name)
        else:
            found[section or _section_of(entry.name, parsed)][entry.name] = parsed
    activations, parameters = (found[section] for section in SECTIONS)
    return AimetEncodings(activations, parameters, tuple(sorted(floats)))


def _document(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            _refuse(path, f"the file is larger than {MAX_BYTES >> 20} MB")
        document = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except OSError as error:
        raise BadInput(
            f"the encodings file can't be read: {error.strerror}", where=Where(path=str(path))
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not valid JSON: {error}", where=Where(path=str(path))) from error
    if not isinstance(document, dict):
        _refuse(path, "not a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"{twice[:MAX_NAME]!r} is there twice")
    return values


def _layout(document: dict[str, Any], path: Path) -> _Layout:
    if "encodings" in document:
        shaped = _THIRD
    else:
        sections = [document.get(section, {}) for section in SECTIONS]
        shaped = _SECOND if any(isinstance(section, list) for section in sections) else _FIRST
        if not any(section in document for section in SECTIONS):
            _refuse(path, "there are no encodings in it")
    version = document.get("version", shaped.versions)
    if not isinstance(version, str) or not version.startswith(("0.", "1.", "2.")):
        _refuse(path, f"encodings of the unknown version {str(version)[:40]!r}")
    if not version.startswith(shaped.versions):
        _refuse(path, f"it says version {version[:40]}, but is laid out as {shaped.versions}x")
    return shaped


def _entries(document: dict[str, Any], layout: _Layout, path: Path) -> Iterator[tuple[str, Entry]]:
    """Yield the section ("" where there are none) and what it says of a tensor."""
    names = {"encodings": ""} if layout is _THIRD else {section: section for section in SECTIONS}
    for key, section in names.items():
        rows: Any = document.get(key, layout.section())
        if not isinstance(rows, layout.section) or len(rows) > MAX_TENSORS:
            _refuse(path, f"{key} is not a {layout.section.__name__} of tensors")
        for row in rows:
            name = row if layout is _FIRST else row.get("name") if isinstance(row, dict) else None
            if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
                _refuse(path, f"{key} has an entry without a usable name")
            values: Any = {"channels": rows[name]} if isinstance(rows, dict) else row
            yield section, Entry(name, values, path)


def _section_of(name: str, parsed: TensorEncoding) -> str:
    parameter = parsed.granularity != "tensor" or name.endswith((".weight", ".bias"))
    return SECTIONS[1] if parameter else SECTIONS[0]


def _refuse(path: Path, message: str) -> NoReturn:
    raise BadInput(
        message, where=Where(path=str(path)), hint="it must be an encodings file as AIMET writes it"
    )

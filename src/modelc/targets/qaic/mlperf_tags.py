"""MLPerf's tags: `resnet50,offline,nsp.14,bs.8,pc.99.99`, checked against the table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from modelc.errors import BadInput, nearest
from modelc.targets.qaic.mlperf_table import CORES, LATEST, RELEASES, SCENARIOS, Model, Release, Row

_BATCH: Final = re.compile(r"bs\.([1-9]\d{0,5})")
_PERCENTILE: Final = re.compile(r"pc\.(\d{1,3}(?:\.\d{1,9})?)")
_LENGTH: Final = re.compile(r"seq\.([1-9]\d{0,5})")
_QUANTISED: Final = {"quantized": True, "no-quantized": False}


@dataclass(frozen=True)
class Preset:
    """What tags stand for.

    Attributes:
        model, scenario: their tags.
        cores: the card's, "nsp.14", or "".
        batch: inputs of a batch, None where the model is compiled for one.
        percentile: of the values that quantisation covers, as text; "" for the compiler's own.
        is_quantised: whether the profile is loaded.
        length: tokens of the calibration's sequences.
        about: what the table says of the model.
        args, sut: the arguments of its rows.
    """

    model: str
    scenario: str
    cores: str
    batch: int | None
    percentile: str
    is_quantised: bool
    length: int
    about: Model
    args: str
    sut: str


def release_of(name: str) -> Release:
    """Return the presets of a round of MLPerf Inference: the newest that is not newer
    than it, or the oldest.

    Raises:
        BadInput: it is no round.
    """
    found = re.fullmatch(r"v?(\d{1,3})\.(\d{1,3})", name)
    if found is None:
        raise BadInput(f"{name!r} is no release", hint=f"known: {', '.join(RELEASES)}")
    wanted = (int(found[1]), int(found[2]))
    known = {tuple(map(int, key.split("."))): release for key, release in RELEASES.items()}
    return known[max((key for key in known if key <= wanted), default=min(known))]


def read_tags(tags: str, *, release: str = LATEST, for_calibration: bool = False) -> Preset:
    """Return what tags stand for; a scenario and quantisation that aren't named are the default.

    Raises:
        BadInput: a tag is unknown, two of a kind are given, or the combination is impossible.
    """
    table = release_of(release)
    kinds: dict[str, str] = {}
    for tag in filter(None, (part.strip().removeprefix("_") for part in tags.split(","))):
        kind = _kind(tag, table)
        if kinds.setdefault(kind, tag) != tag:
            raise BadInput(f"{kinds[kind]} and {tag} can't both be given")
    model = kinds.get("model")
    if model is None:
        raise BadInput(f"{tags!r} names no model", hint=f"known: {', '.join(table.models)}")
    about = table.models[model]
    if "framework" in kinds and kinds["framework"] not in about.frameworks:
        raise BadInput(f"{model} doesn't come from {kinds['framework']}")
    scenario, cores = kinds.get("scenario", SCENARIOS[0]), kinds.get("cores", "")
    row = Row()
    if not for_calibration or "scenario" in kinds:
        row = _row(table, model, scenario, cores)
    is_quantised = _QUANTISED[kinds["quantised"]] if "quantised" in kinds else about.is_quantised
    if is_quantised and not about.is_quantised:
        raise BadInput(f"{model} is compiled in fp16: it has no quantized form")
    percentile = kinds.get("percentile", "").removeprefix("pc.")
    if percentile and not is_quantised:
        raise BadInput(f"pc.{percentile} is for quantized models")
    if percentile and not 0 < float(percentile) <= 100:
        raise BadInput(f"pc.{percentile} is no percentile")
    batch = int(kinds["batch"].removeprefix("bs.")) if "batch" in kinds else row.batch
    length = int(kinds.get("length", "seq.384").removeprefix("seq."))
    return Preset(
        model, scenario, cores, batch, percentile, is_quantised, length, about,
        row.args or "", row.sut or "",
    )  # fmt: skip


def variations(release: str = LATEST) -> list[str]:
    """Return every valid combination of model, scenario and card, as tags."""
    table = release_of(release)
    return [",".join(filter(None, key)) for key in _valid(table)]


def _valid(table: Release) -> Iterator[tuple[str, str, str]]:
    for model in table.models:
        for scenario in SCENARIOS:
            for cores in ("", *CORES):
                if _merged(table, model, scenario, cores) is not None:
                    yield model, scenario, cores


def _row(table: Release, model: str, scenario: str, cores: str) -> Row:
    row = _merged(table, model, scenario, cores)
    if row is None:
        valid = [key for key in _valid(table) if key[0] == model]
        here = ["+".join(filter(None, key[1:])) for key in valid]
        asked = ",".join(filter(None, (model, scenario, cores)))
        raise BadInput(f"there is no {asked}", hint=f"{model} has {', '.join(here)}")
    return row


def _merged(table: Release, model: str, scenario: str, cores: str) -> Row | None:
    """Return the scenario's row with the card's laid over it, or None if that is no preset."""
    if (model, scenario, "") not in table.rows:
        return None
    args, sut, batch = table.models[model].args, None, None
    for key in ("", cores) if cores else ("",):
        row = table.rows.get((model, scenario, key), Row())
        args = args if row.args is None else row.args
        sut = sut if row.sut is None else row.sut
        batch = batch if row.batch is None else row.batch
    return None if args is None else Row(args, sut, batch)


def _kind(tag: str, table: Release) -> str:
    """Return what a tag chooses."""
    for kind, known in (
        ("model", table.models),
        ("scenario", SCENARIOS),
        ("cores", CORES),
        ("quantised", _QUANTISED),
        ("framework", ("tf",)),
    ):
        if tag in known:
            return kind
    for kind, pattern in (("batch", _BATCH), ("percentile", _PERCENTILE), ("length", _LENGTH)):
        if pattern.fullmatch(tag):
            return kind
    known_tags = [*table.models, *SCENARIOS, *CORES, *_QUANTISED, "tf", "bs.N", "pc.X", "seq.N"]
    raise BadInput(f"unknown tag {tag}", hint=nearest(tag, known_tags))

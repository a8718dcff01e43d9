"""A step: one arrow of the pipeline, with declared inputs and a result that the store keeps."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

Progress = Callable[[float, str], None]
"""Called with the fraction done (0 to 1) and what is being done."""

Log = Callable[[str], None]

SOURCE = "source"
"""The name under which the model that the user hands in is declared."""


@dataclass(frozen=True)
class Step:
    """What to run, on what, and everything that its result depends on.

    Attributes:
        name: unique in its plan ("lower", "calibrate"); steps of different plans that share name,
            `run`, version, options and inputs share their result.
        run: "package.module:function", imported when the step runs.
        version: raised by whoever changes what `run` makes of the same inputs.
        options: plain JSON values; all of them enter the key.
        inputs: names of the steps whose results it reads.
        reads: names of the files or folders outside the store that it reads ("source", ...); their
            contents enter the key, their paths don't.
        tools: packages whose versions enter the key.
        isolated: run in a child process, so that its peak memory is its own and its crash an error.
        waits: it does little itself but wait for the workers that it starts, so it runs beside
            others; its function must not mind other threads.
        memory: bytes that it is expected to need at its peak; with the other steps that run at the
            same time it is kept within the limit. Not a part of the key.
        transient: its result is only for the steps that read it and removed when they are done,
            unless the caller takes it or no step reads it. Not a part of the key.
    """

    name: str
    run: str
    version: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    isolated: bool = False
    waits: bool = False
    memory: int = 0
    transient: bool = False


@dataclass(frozen=True)
class StepContext:
    """What a step's function is given.

    Attributes:
        inputs: step name -> folder with its result, to read only.
        options: the step's options, as JSON gives them back (tuples are lists).
        sources: name -> file or folder outside the store, as declared in `reads`.
        out: empty folder to fill; it becomes the step's result if the function returns.
        scratch: empty folder for what isn't part of the result; removed afterwards.
        partial: folder with what runs of this same step that did not end left here, empty if there
            were none; removed when the step succeeds. A kill may come at any time, so write files
            whole: `files.write_atomic`, `files.whole_file`.
        progress, log: tell whoever watches.
    """

    inputs: Mapping[str, Path]
    options: Mapping[str, Any]
    sources: Mapping[str, Path]
    out: Path
    scratch: Path
    partial: Path
    progress: Progress = lambda fraction, message: None
    log: Log = lambda line: None

    @property
    def source(self) -> Path:
        """The model that the user handed in."""
        return self.sources[SOURCE]


StepFunction = Callable[[StepContext], None]


def resolve(run: str) -> StepFunction:
    """Import the function that a step names.

    Raises:
        ImportError, AttributeError: there is no such function.
    """
    module, _, name = run.partition(":")
    function: StepFunction = getattr(importlib.import_module(module), name)
    return function


def plain(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return options as JSON gives them back, so that a step sees the same in every process.

    Raises:
        TypeError, ValueError: an option is not a JSON value.
    """
    return MappingProxyType(json.loads(json.dumps(dict(options), allow_nan=False)))


def flatten(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {"verify": {"tokens": 9}} as {"verify.tokens": 9}, for people to read."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}".rstrip(".")] = value
    return flat

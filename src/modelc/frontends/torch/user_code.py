"""A model that a function of the user's builds. Runs in the worker, with the user's rights."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from modelc.errors import BadInput, Where, nearest
from modelc.frontends.torch import exported
from modelc.frontends.torch.example import Example, from_inputs

INPUTS: Final = "example_inputs"


def build(file: Path, function: str, dims: Mapping[str, int]) -> Example:
    """Execute a file, call its function and find the example inputs.

    Raises:
        BadInput: it fails, gives something else, or takes no such sizes.
    """
    import torch

    where = Where(path=f"{file}:{function}")
    module = _execute(file, where)
    builder = getattr(module, function, None)
    if not callable(builder):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise BadInput(
            f"the file has no function {function}", where=where, hint=nearest(function, names)
        )
    made = _call(builder, {}, where)
    if isinstance(made, torch.export.ExportedProgram):
        is_open = any(str(symbol).startswith("s") for symbol in made.range_constraints)
        return exported.fix(made, dims, where) if dims or is_open else _of_program(made, where)
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], torch.nn.Module):
        _refuse_dims(dims, where, "the function gives the example inputs itself")
        return from_inputs(made[0], made[1], where)
    if not isinstance(made, torch.nn.Module):
        raise BadInput(
            f"{function} gives {type(made).__name__}",
            where=where,
            hint="return a torch.nn.Module, (module, example inputs) or an ExportedProgram",
        )
    inputs = getattr(module, INPUTS, getattr(made, INPUTS, None))
    if inputs is None:
        raise BadInput(
            "there are no example inputs to export the model with",
            where=where,
            hint=f"define {INPUTS}() in the file, which gives a tuple or dict of tensors",
        )
    if callable(inputs):
        inputs = _call(inputs, _known_dims(inputs, dims, where), where)
    else:
        _refuse_dims(dims, where, f"{INPUTS} is no function")
    return from_inputs(made, inputs, where)


def _execute(file: Path, where: Where) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise BadInput("not a Python file", where=where, hint="give FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))  # it may import what lies beside it
    sys.modules[file.stem] = module  # classes look their module up
    _call(lambda: spec.loader.exec_module(module), {}, where)  # type: ignore[union-attr]
    return module


def _call(function: Callable[..., Any], keywords: Mapping[str, int], where: Where) -> Any:
    try:
        return function(**keywords)
    except Exception as error:  # it is the user's own code
        traceback.print_exc()
        raise BadInput(
            f"it raises {type(error).__name__}: {error}",
            where=where,
            hint="the traceback is in the log of the export, export_worker.log",
        ) from error


def _known_dims(
    function: Callable[..., Any], dims: Mapping[str, int], where: Where
) -> Mapping[str, int]:
    known = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    for name in dims:
        if name not in known:
            raise BadInput(
                f"{INPUTS} takes no size {name!r}",
                where=where,
                hint=nearest(name, known) if known else f"write it as def {INPUTS}({name}=1)",
            )
    return dims


def _refuse_dims(dims: Mapping[str, int], where: Where, why: str) -> None:
    if dims:
        raise BadInput(
            f"--dim {next(iter(dims))} has no effect: {why}",
            where=where,
            hint=f"leave it out, or define {INPUTS}({', '.join(dims)}) in the file",
        )


def _of_program(program: Any, where: Where) -> Example:
    if program.example_inputs is None:
        raise BadInput(
            "the exported program has no example inputs", where=where, hint="export it with them"
        )
    arguments, keywords = program.example_inputs
    return Example(program, tuple(arguments), dict(keywords))

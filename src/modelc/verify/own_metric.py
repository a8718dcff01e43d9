"""A metric that the user wrote: a function in a Python file, named as FILE.py:function."""

from __future__ import annotations

import importlib.util
import numbers
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import numpy as np

from modelc.errors import BadInput, Where, nearest
from modelc.verify.evaluate import Metric


def load_metrics(names: Iterable[str]) -> dict[str, Metric]:
    """Import functions and return them by their names; their files run as any Python program.

    Raises:
        BadInput: there is no such file or function, the file fails, or two have one name.
    """
    found: dict[str, Metric] = {}
    for name in names:
        path, sign, function = name.rpartition(":")
        if not (sign and path and function):
            raise BadInput(
                f"--metric {name} is not FILE.py:function", hint="such as own.py:accuracy"
            )
        if function in found:
            raise BadInput(f"two metrics are called {function}", hint="rename one of them")
        found[function] = _load(Path(path), function)
    return found


def _load(path: Path, function: str) -> Metric:
    module = _import(path)
    defined = [name for name, value in vars(module).items() if callable(value)]
    if function not in defined:
        raise BadInput(
            f"no function is called {function}",
            where=Where(path=str(path)),
            hint=nearest(function, defined) if defined else "the file defines no function",
        )
    return _Checked(path, function, getattr(module, function))


def _import(path: Path) -> ModuleType:
    where = Where(path=str(path))
    if not path.is_file():
        raise BadInput("no such file", where=where, hint="give --metric FILE.py:function")
    spec = importlib.util.spec_from_file_location(f"modelc_own_metric_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadInput("not a Python file", where=where, hint="its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadInput(f"the file fails: {_told(error)}", where=where) from error
    return module


class _Checked:
    """Calls a user's function and says whose fault it is if that fails."""

    def __init__(self, path: Path, name: str, function: Callable[..., object]) -> None:
        self._where = Where(module=name, path=str(path))
        self._function = function

    def __call__(self, reference: np.ndarray, measured: np.ndarray, token_ids: np.ndarray) -> float:
        try:
            value = self._function(reference, measured, token_ids)
        except Exception as error:
            raise BadInput(f"the metric fails: {_told(error)}", where=self._where) from error
        if not isinstance(value, numbers.Real):
            raise BadInput(
                f"the metric returns {type(value).__name__}, no number", where=self._where
            )
        return float(value)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

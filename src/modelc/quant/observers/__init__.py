"""Observers: how the range of an activation follows from what was seen of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from modelc.quant.observers.base import Grid, Observer
from modelc.quant.observers.entropy import Entropy
from modelc.quant.observers.min_max import MinMax
from modelc.quant.observers.moving_average import MovingAverage
from modelc.quant.observers.mse import Mse
from modelc.quant.observers.percentile import Percentile

__all__ = ["OBSERVERS", "Grid", "Observer", "make_observer"]

OBSERVERS: Final[Mapping[str, type[Observer]]] = MappingProxyType(
    {
        "min-max": MinMax,
        "moving-average": MovingAverage,
        "percentile": Percentile,
        "entropy": Entropy,
        "mse": Mse,
    }
)


def make_observer(name: str, **settings: float) -> Observer:
    """Return the observer of a row of `OBSERVERS`, with its own fields set.

    Raises:
        KeyError, TypeError: there is no such observer, or it has no such field.
    """
    return OBSERVERS[name](**settings)

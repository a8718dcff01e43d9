"""Losses along a model as a picture: SVG, the same bytes for the same losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from math import isfinite
from typing import Final

from modelc.pipeline.loss import TensorLoss

_WIDTH, _HEIGHT = 960, 480
_LEFT, _TOP, _RIGHT, _BOTTOM = 60, 50, 940, 400
_NAMED: Final = 5  # tensors in which most is lost
_SERIES: Final = (
    ("sqnr_db", "#333", "all that it is off by"),
    ("inherited_db", "#05a", "lost before it"),
    ("injected_db", "#c60", "lost here"),
)


def plot_losses(losses: Sequence[TensorLoss], title: str) -> str:
    """Return every tensor in the model's order, the signal to what is lost in dB upwards; where
    nothing is lost there is no point."""
    ordered = sorted(losses, key=lambda loss: loss.place)
    ratios = [v for loss in ordered for name, _, _ in _SERIES if isfinite(v := getattr(loss, name))]
    low, high = _steps(min(ratios, default=0.0)), _steps(max(ratios, default=0.0)) + 10
    scale = _Scale(max(len(ordered) - 1, 1), low, high)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
        *_grid(scale),
        *_layers(ordered, scale),
        *(line for row in enumerate(_SERIES) for line in _series(ordered, scale, *row)),
        *_names(losses[:_NAMED], scale, {loss.name: at for at, loss in enumerate(ordered)}),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


class _Scale:
    """Where a tensor's number and a ratio are in the picture."""

    def __init__(self, last: int, low: int, high: int) -> None:
        self._last, self.low, self.high = last, low, high

    def x(self, place: int) -> float:
        return _LEFT + (_RIGHT - _LEFT) * place / self._last

    def y(self, ratio: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (ratio - self.low) / (self.high - self.low)


def _steps(ratio: float) -> int:
    return int(ratio // 10) * 10


def _grid(scale: _Scale) -> Iterator[str]:
    for ratio in range(scale.low, scale.high + 1, 10):
        y = f"{scale.y(ratio):.1f}"
        yield f'<path d="M{_LEFT} {y}H{_RIGHT}" stroke="#ddd"/>'
        yield f'<text x="{_LEFT - 8}" y="{y}" dy="4" text-anchor="end">{ratio}</text>'
    yield f'<text x="{_LEFT}" y="{_TOP - 10}">signal to noise, dB</text>'


def _layers(ordered: Sequence[TensorLoss], scale: _Scale) -> Iterator[str]:
    """Mark where layers begin; of many, each so-manieth is numbered."""
    firsts: dict[str, int] = {}
    for at, loss in enumerate(ordered):
        parts = loss.module.split(".")
        if parts[:2] == ["model", "layers"]:
            firsts.setdefault(parts[2], at)
    each = -(-len(firsts) // 24) or 1
    for index, (layer, at) in enumerate(firsts.items()):
        x = f"{scale.x(at):.1f}"
        yield f'<path d="M{x} {_TOP}V{_BOTTOM}" stroke="#eee"/>'
        if index % each == 0:
            yield f'<text x="{x}" y="{_BOTTOM + 18}">{layer}</text>'
    yield f'<text x="{_RIGHT}" y="{_BOTTOM + 36}" text-anchor="end">layer</text>'


def _series(
    ordered: Sequence[TensorLoss], scale: _Scale, index: int, series: tuple[str, str, str]
) -> Iterator[str]:
    name, colour, label = series
    for at, loss in enumerate(ordered):
        ratio = getattr(loss, name)
        if isfinite(ratio):
            place = f'cx="{scale.x(at):.1f}" cy="{scale.y(ratio):.1f}"'
            shown = f"{loss.name}: {label} {ratio:.1f} dB"
            yield f'<circle {place} r="2.5" fill="{colour}"><title>{escape(shown)}</title></circle>'
    x = _LEFT + 220 * index
    yield f'<circle cx="{x + 4}" cy="{_BOTTOM + 56}" r="4" fill="{colour}"/>'
    yield f'<text x="{x + 14}" y="{_BOTTOM + 60}">{label}</text>'


def _names(worst: Sequence[TensorLoss], scale: _Scale, places: dict[str, int]) -> Iterator[str]:
    for loss in worst:
        if isfinite(loss.injected_db):
            x, y = scale.x(places[loss.name]), scale.y(loss.injected_db)
            anchor = "end" if x > (_LEFT + _RIGHT) / 2 else "start"
            name = escape(loss.name.removeprefix("model."))
            yield (
                f'<text x="{x:.1f}" y="{y + 14:.1f}" text-anchor="{anchor}" font-size="10" '
                f'fill="#c60">{name}</text>'
            )

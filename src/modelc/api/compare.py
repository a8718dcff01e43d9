"""Two bundles, schemes or recipes of one model, compared on a text."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelc.api.bundle import Bundle
from modelc.api.evaluation import simulated
from modelc.bundle.manifest import is_bundle
from modelc.decoder.config import load_config
from modelc.errors import BadInput
from modelc.pipeline.comparison import Candidate, Comparison, of_bundle, of_scheme
from modelc.pipeline.evaluation import DEFAULT_WINDOW, evaluate_simulated, read_windows
from modelc.pipeline.events import Events, ignore
from modelc.pipeline.loss import TensorLoss, tensor_losses
from modelc.pipeline.plans import RECIPE
from modelc.pipeline.simulation import Simulated
from modelc.pipeline.steps import CONFIG
from modelc.pipeline.store import Store


def compare(
    first: str | Path,
    second: str | Path,
    *,
    text: str | Path | None = None,
    source: str | Path | None = None,
    window: int | None = None,
    max_tokens: int | None = None,
    store: Store | None = None,
    events: Events = ignore,
    **options: Any,
) -> Comparison:
    """Compare what two candidates take and how close they are to the float model.

    Args:
        first, second: a bundle, the name of a scheme, or a recipe's TOML file.
        text: a UTF-8 file; bundles without one are compared by what they were verified with.
        source: the model, for schemes and recipes; with bundles, so that they are held against
            float on the text, and their modules are compared as well.
        window: tokens of a window; by default at most 512, as all contexts hold.
        options: further fields of the recipes of schemes.

    Raises:
        BadInput: there is no text or source where they are needed, or they don't go together.
    """
    names = [str(first), str(second)]
    with ExitStack() as stack:
        sides = [_open(name, source, text, store, events, options, stack) for name in names]
        if text is None:
            return Comparison(*(_verified(side) for side in sides))
        length = min(DEFAULT_WINDOW, *(side.context_length for side in sides))
        measured = [
            _measured(side, Path(text), source, window or length, max_tokens) for side in sides
        ]
        return Comparison(*measured)


@dataclass(frozen=True)
class _Side:
    """A bundle, or a scheme, or a bundle and the scheme that it was compiled by."""

    name: str
    bundle: Bundle | None
    scheme: Simulated | None

    @property
    def context_length(self) -> int:
        lengths = (side.context_length for side in (self.bundle, self.scheme) if side is not None)
        return min(lengths)


def _open(
    name: str,
    source: str | Path | None,
    text: str | Path | None,
    store: Store | None,
    events: Events,
    options: dict[str, Any],
    stack: ExitStack,
) -> _Side:
    path = Path(name)
    if is_bundle(path):
        bundle = stack.enter_context(Bundle.open(path))
        scheme = None
        if source is not None and text is not None:
            opened = simulated(source, path / RECIPE, store=store, events=events)
            scheme = stack.enter_context(opened)
        return _Side(name, bundle, scheme)
    if source is None or text is None:
        raise BadInput(
            f"{name} is no bundle: to compare schemes and recipes takes a model and a text",
            hint="give --source MODEL and --text FILE",
        )
    is_file = path.suffix == ".toml"
    given = options if is_file else {**options, "quant": name}
    opened = simulated(source, path if is_file else None, store=store, events=events, **given)
    return _Side(name, None, stack.enter_context(opened))


def _verified(side: _Side) -> Candidate:
    assert side.bundle is not None
    return of_bundle(side.name, side.bundle.manifest, load_config(side.bundle.path / CONFIG))


def _measured(
    side: _Side, text: Path, source: str | Path | None, window: int, max_tokens: int | None
) -> Candidate:
    losses: list[TensorLoss] = []
    evaluation = None
    if side.scheme is not None:
        scheme = side.scheme
        windows = read_windows(scheme.tokenizer, text, scheme.context_length, window, max_tokens)
        if not scheme.has_transforms:
            losses = tensor_losses(scheme, windows)
        if side.bundle is None:
            evaluation = evaluate_simulated(scheme, windows)
            return of_scheme(side.name, scheme, evaluation, losses)
    assert side.bundle is not None
    evaluation = side.bundle.evaluate(text, source=source, window=window, max_tokens=max_tokens)
    config = load_config(side.bundle.path / CONFIG)
    return of_bundle(side.name, side.bundle.manifest, config, evaluation, losses)

"""What takes a source: compile, estimate, explain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelc.api.bundle import Bundle, StrPath
from modelc.api.network import NetworkBundle
from modelc.bundle.read import open_bundle
from modelc.pipeline.compile import compile_source, explain_source
from modelc.pipeline.estimate import Estimate, estimate_source
from modelc.pipeline.events import Events, ignore
from modelc.pipeline.explain import Reason
from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.recipe_use import NETWORK
from modelc.pipeline.store import Store


def compile(
    source: StrPath,
    *,
    target: str | None = None,
    output: StrPath | None = None,
    recipe: StrPath | None = None,
    store: Store | None = None,
    dump_ir: StrPath | None = None,
    events: Events = ignore,
    **options: Any,
) -> Bundle | NetworkBundle:
    """Compile a model for a target, verify it and write a bundle.

    Args:
        source: a .gguf file, a Hugging Face folder, an .onnx file, an exported program (.pt2), or
            "FILE.py:FUNCTION", which makes a PyTorch module.
        target: "cpu", a chipset or a card.
        output: the bundle's directory; by default MODEL-TARGET-SCHEME.modelc.
        recipe: a TOML file of options, which the arguments override.
        options: fields of `pipeline.recipe.Recipe` (quant, context_length, ar, ...).

    Returns:
        The bundle; its `report` says what was done.

    Raises:
        ModelcError: see `errors`; the message says what to do.
    """
    given = {"target": target, **options}
    chosen = make_recipe(
        Path(recipe) if recipe else None,
        {name: value for name, value in given.items() if value is not None},
    )
    report = compile_source(
        Path(source),
        chosen,
        Path(output) if output else None,
        store=store,
        events=events,
        dump_ir=Path(dump_ir) if dump_ir else None,
    )
    assert report.bundle  # otherwise it raised
    bundle = open_any(report.bundle, check=False)
    bundle.report = report
    return bundle


def open_any(path: StrPath, *, check: bool = True) -> Bundle | NetworkBundle:
    """Open a bundle, of a language model or of a network.

    Raises:
        BadInput, Damaged: as `Bundle.open`.
    """
    files = open_bundle(Path(path), check_contents=check)
    return NetworkBundle(files) if files.manifest.runtime == NETWORK else Bundle(files)


def estimate(source: StrPath, *, target: str, **options: Any) -> Estimate:
    """Say how much memory a model would take on a target, without compiling it."""
    return estimate_source(Path(source), make_recipe(None, {"target": target, **options}))


def explain(
    source: StrPath, *, target: str, store: Store | None = None, **options: Any
) -> list[Reason]:
    """Say which steps a compile would run, and why."""
    return explain_source(Path(source), make_recipe(None, {"target": target, **options}), store)

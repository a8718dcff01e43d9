"""One of the six named steps, or `float_graphs`, run on files instead of the store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from modelc.errors import BadInput, Damaged, ModelcError
from modelc.pipeline import step_runs, steps_binaries, steps_graphs
from modelc.pipeline.decoder_job import decoder_job
from modelc.pipeline.given_encodings import form_of
from modelc.pipeline.given_graphs import GivenGraph, find_graphs, place_of
from modelc.pipeline.job import Job, make_job
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.step import SOURCE, StepContext
from modelc.pipeline.step_results import check_room, hand_over
from modelc.pipeline.step_runs import StepRun


@dataclass(frozen=True)
class StepRequest:
    """What `modelc step` is asked to do.

    Attributes:
        files: what the step takes: graphs by the names that the step before gave them. None for
            the first step, which takes the source.
        encodings: a bundle's encodings.json, which scales of weights may lie beside; or AIMET's
            file of the model or of the graphs; None for what lies beside each graph.
        out: folder for what the step makes.
    """

    name: str
    source: Path
    recipe: Recipe
    files: tuple[Path, ...]
    encodings: Path | None
    out: Path


def run_step(request: StepRequest) -> list[Path]:
    """Run one named step and return the files that it made.

    Raises:
        BadInput: no such step, or files that it can't take; a file that it would make is there.
        ModelcError: as the step raises it.
    """
    row = _STEPS.get(request.name)
    if row is None:
        raise BadInput(f"no step is called {request.name!r}", hint=f"one of {', '.join(_STEPS)}")
    if request.recipe.toolchain == "sdk":
        raise BadInput(
            "modelc step drives no SDK",
            hint="the sdk/commands.sh of a bundle does, on what `modelc step float_graphs` writes",
        )
    with _named(request.name), tempfile.TemporaryDirectory(prefix="modelc-step-") as folder:
        run = _prepare(request, row, Path(folder))
        check_room(request.out, row.files(run))
        row.run(run)
        return hand_over(run.context.out, request.out)


@dataclass(frozen=True)
class _Step:
    """What is known of a step before it runs.

    Attributes:
        takes: "source", "graphs", or "part" for the graphs of one part.
        encoded: it reads encodings.
        of: names of the graphs that it makes something of.
        makes: files that it makes for each of these ("*") and for all of them.
    """

    run: Callable[[StepRun], None]
    takes: Literal["source", "graphs", "part"]
    encoded: bool
    of: Callable[[StepRun], Iterator[str]]
    makes: tuple[str, ...]

    def files(self, run: StepRun) -> Iterator[str]:
        """Yield the names of the files that it is going to make, as far as they are known."""
        stems = list(self.of(run))
        for name in self.makes:
            yield from (name.replace("*", stem) for stem in stems) if "*" in name else (name,)


_SHARED: Final = ("*.onnx", steps_graphs.WEIGHTS)
_COMPILED: Final = ("*.onnx", steps_binaries.INFO, steps_binaries.PROOF)
_STEPS: Final[Mapping[str, _Step]] = {
    "prepare_exports": _Step(step_runs.prepare_exports, "source", True, StepRun.names, ("*.onnx",)),
    "split_model": _Step(step_runs.split_model, "graphs", True, StepRun.parts, ("*.onnx",)),
    "mha_to_sha": _Step(step_runs.mha_to_sha, "graphs", True, StepRun.names, ("*.onnx",)),
    "quantize": _Step(step_runs.quantize, "part", True, StepRun.names, _SHARED),
    "convert": _Step(step_runs.convert, "graphs", False, StepRun.names, ("*.dlc",)),
    "generate_context_binary": _Step(
        step_runs.generate_context_binary, "part", False, StepRun.names, _COMPILED
    ),
    "float_graphs": _Step(step_runs.float_graphs, "part", True, StepRun.names, _SHARED),
}


def _prepare(request: StepRequest, row: _Step, folder: Path) -> StepRun:
    """Check a request against the files that it names, before anything is made."""
    if row.takes == "source" and request.files:
        raise BadInput(f"{request.name} takes the source and no graphs", hint="leave them out")
    if request.encodings and not row.encoded:
        raise BadInput(f"{request.name} has no use for encodings", hint="leave --encodings out")
    job = _job(request.source, request.recipe)
    root = request.source if request.source.is_dir() else request.source.parent
    graphs: list[GivenGraph] = []
    if row.takes != "source":
        grouped = request.recipe.attention == "grouped"
        graphs = find_graphs(request.name, request.files, request.source, grouped=grouped)
    given = request.encodings or request.recipe.encodings
    form = form_of(given, graphs, root) if row.encoded else "beside"
    job = _job(request.source, _settled(request, graphs, given if form == "model" else None))
    resolved = decoder_job(job)
    if request.encodings and not resolved.quantised:
        raise BadInput(f"the scheme {job.scheme.name} has no use for encodings")
    if row.takes == "part":
        place_of(graphs)
    context = StepContext(
        inputs={},
        options={},
        sources={SOURCE: request.source, **job.sources},
        out=_empty(folder / "out"),
        scratch=_empty(folder / "scratch"),
        partial=_empty(folder / "partial"),
    )
    return StepRun(resolved, job.scheme.name, graphs, given, form, context)


def _job(source: Path, recipe: Recipe) -> Job:
    job = make_job(source, recipe)
    if job.target.chipset is None:
        raise BadInput(
            f"{job.target.name} is not compiled in named steps",
            hint="give a Snapdragon chipset, such as -t snapdragon-8-elite",
        )
    return job


def _settled(request: StepRequest, graphs: Sequence[GivenGraph], encodings: Path | None) -> Recipe:
    """Return the recipe with what the files say: into how many parts the model was cut, and AIMET's
    encodings of the model. What a DLC can't hold is refused where a compile refuses it."""
    recipe, said = request.recipe, dict[str, Any]()
    counts = {graph.key.parts for graph in graphs if graph.key}
    if recipe.splits == "auto" and len(counts) == 1:
        said["splits"] = counts.pop()
    if encodings is not None:
        said["encodings"] = encodings
    if request.name == "convert":
        said["format"] = ("dlc",)
    return recipe.model_copy(update=said)


def _empty(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@contextmanager
def _named(step: str) -> Iterator[None]:
    """Errors name the step; to a user who hands in files, damaged ones are bad input."""
    try:
        yield
    except Damaged as error:
        if not _STEPS[step].encoded:  # what a compiler made a moment ago
            raise
        where = error.where.at_step(step)
        raise BadInput(error.message, where=where, hint=error.hint or _SAME) from error
    except ModelcError as error:
        error.where = error.where.at_step(step)
        raise


_SAME: Final = "give files as the step before made them, and the model that they were made of"

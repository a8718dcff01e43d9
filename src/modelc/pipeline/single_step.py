"""One of the six named steps, or `float_graphs`, run on files instead of the store."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Damaged, ModelcError, Where
from modelc.pipeline import steps_binaries, steps_graphs, steps_sdk
from modelc.pipeline.decoder_job import DecoderJob, decoder_job
from modelc.pipeline.exported import tells_of_weights
from modelc.pipeline.given_encodings import Form, form_of, lay_out
from modelc.pipeline.given_graphs import GivenGraph, find_graphs, place_of
from modelc.pipeline.imported_weights import SCALES
from modelc.pipeline.job import Job, make_job
from modelc.pipeline.layout import lengths_name
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.step import SOURCE, StepContext
from modelc.pipeline.steps import build_canonical
from modelc.pipeline.steps_calibrate import SHOWN
from modelc.targets.snapdragon.contract import check_contract


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
        _check_room(request.out, row.names(run))
        row.run(run)
        return _hand_over(run.context.out, request.out)


@dataclass(frozen=True)
class _Run:
    """A request with what was found in its files."""

    job: DecoderJob
    scheme: str
    graphs: Sequence[GivenGraph]
    given: Path | None
    form: Form
    context: StepContext

    def encodings(self, graphs: Sequence[GivenGraph]) -> dict[str, Path]:
        """Return the encodings that graphs get as an input of a step, none for float schemes."""
        if not self.job.quantised:
            return {}
        return lay_out(self.form, self.given, graphs, self.job, self.context)

    def context_for(self, folders: Mapping[str, Path], **options: Any) -> StepContext:
        """Return a context with these inputs, by step."""
        return replace(self.context, inputs=folders, options=options)

    def chip(self) -> dict[str, Any]:
        return {
            "chipset": self.job.chipset.name,
            "fp16": not self.job.quantised,
            "context_length": max(self.job.layout.context_lengths),
        }


def _prepare_exports(run: _Run) -> None:
    canonical = _empty(run.context.scratch / "canonical")
    length = {"context_length": run.job.canonical_length}
    build_canonical(replace(run.context, out=canonical, options=length))
    encodings = run.encodings(())
    for ar, context_length in run.job.layout.lengths:
        folders = {"canonical": canonical, **encodings}
        context = run.context_for(folders, ar=ar, context_length=context_length)
        steps_graphs.prepare_exports(context)
    if encodings and run.form == "model":
        for name in (steps_graphs.ENCODINGS, SCALES):  # with them `quantize` has the file's scales
            shutil.copyfile(encodings["encodings"] / name, run.context.out / name)


def _split_model(run: _Run) -> None:
    known = {lengths_name(*sizes): sizes for sizes in run.job.layout.lengths}
    for graph in run.graphs:
        if graph.name not in known:
            raise BadInput(
                f"{graph.name} is not of an AR and context length that were given",
                where=Where(path=str(graph.path)),
                hint=f"known: {', '.join(known)}",
            )
        parts = run.job.layout.rows(*known[graph.name])
        folders = {f"prepare_exports.{graph.name}": graph.path.parent, **run.encodings([graph])}
        steps_graphs.split_model(run.context_for(folders, graph=graph.name, parts=parts))


def _mha_to_sha(run: _Run) -> None:
    for graph in run.graphs:
        assert graph.key is not None
        name = lengths_name(graph.key.ar, graph.key.context_length)
        folders = {f"split_model.{name}": graph.path.parent, **run.encodings([graph])}
        steps_graphs.mha_to_sha(run.context_for(folders, graph=name, parts=[graph.name]))


def _quantize(run: _Run) -> None:
    folders, origin = _origins(run.graphs)
    encodings = run.encodings(run.graphs)
    if run.job.quantised and not encodings:
        raise BadInput(
            "graphs can't be quantised without encodings",
            hint="keep NAME.encodings beside NAME.onnx, give --encodings, or --quant fp16",
        )
    options = {"weights": dict(run.job.kinds), "parameters": _tells_of_weights(run)}
    steps_graphs.quantize(run.context_for({**folders, **encodings}, graphs=origin, **options))


def _float_graphs(run: _Run) -> None:
    place = place_of(run.graphs)
    folders, origin = _origins(run.graphs)
    if run.job.quantised:
        lowered = _empty(run.context.scratch / "lowered")
        _quantize(replace(run, context=replace(run.context, out=lowered)))
        folders[f"lowered.{place}"] = lowered
    steps_sdk.write_float_graphs(run.context_for(folders, part=place, graphs=origin))


def _convert(run: _Run) -> None:
    _check_lowered(run)
    for graph in run.graphs:
        options = {**run.chip(), "graphs": [graph.name], "scheme": run.scheme}
        steps_binaries.convert(run.context_for({"given": graph.path.parent}, **options))


def _generate_context_binary(run: _Run) -> None:
    _check_lowered(run)
    place, folders = place_of(run.graphs), {graph.path.parent for graph in run.graphs}
    if len(folders) > 1:
        raise BadInput("the graphs lie in several folders, so they share no weights")
    options = {**run.chip(), "graphs": [graph.name for graph in run.graphs], "part": place}
    context = run.context_for({f"quantize.{place}": folders.pop()}, **options)
    steps_binaries.generate_context_binary(context)


@dataclass(frozen=True)
class _Step:
    """What is known of a step before it runs.

    Attributes:
        takes: "source", "graphs", or "part" for the graphs of one part.
        encoded: it reads encodings.
        makes: files that it makes for each graph ("*") and for all of them.
    """

    run: Callable[[_Run], None]
    takes: str
    encoded: bool
    makes: tuple[str, ...]

    def names(self, run: _Run) -> Iterator[str]:
        """Yield the names of the files that it is going to make, as far as they are known."""
        lengths = run.job.layout.lengths
        stems = [graph.name for graph in run.graphs] or [lengths_name(*size) for size in lengths]
        if self.run is _split_model:
            stems = [name for size in lengths for name in run.job.layout.rows(*size)]
        for name in self.makes:
            yield from (name.replace("*", stem) for stem in stems) if "*" in name else (name,)


_STEPS: Final[Mapping[str, _Step]] = {
    "prepare_exports": _Step(_prepare_exports, "source", True, ("*.onnx",)),
    "split_model": _Step(_split_model, "graphs", True, ("*.onnx",)),
    "mha_to_sha": _Step(_mha_to_sha, "graphs", True, ("*.onnx",)),
    "quantize": _Step(_quantize, "part", True, ("*.onnx", steps_graphs.WEIGHTS)),
    "convert": _Step(_convert, "graphs", False, ("*.dlc",)),
    "generate_context_binary": _Step(
        _generate_context_binary,
        "part",
        False,
        ("*.onnx", steps_binaries.INFO, steps_binaries.PROOF),
    ),
    "float_graphs": _Step(_float_graphs, "part", True, ("*.onnx", steps_graphs.WEIGHTS)),
}


def _prepare(request: StepRequest, row: _Step, folder: Path) -> _Run:
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
    )
    return _Run(resolved, job.scheme.name, graphs, given, form, context)


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


def _origins(graphs: Sequence[GivenGraph]) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the folders that graphs lie in as inputs of a step, and the input of each graph."""
    folders = {f"given.{index}": graph.path.parent for index, graph in enumerate(graphs)}
    return folders, {graph.name: f"given.{index}" for index, graph in enumerate(graphs)}


def _tells_of_weights(run: _Run) -> bool:
    place, places = place_of(run.graphs), run.job.layout.places
    if place not in places:
        raise BadInput(
            f"the graphs are of part {place}, and {len(places)} parts are asked for",
            hint="give the --splits that they were made with",
        )
    return tells_of_weights(run.job, place)


def _check_lowered(run: _Run) -> None:
    """Check what the compiler is going to read."""
    for graph in run.graphs:
        if graph.quantised != run.job.quantised:
            raise BadInput(
                f"{graph.name} is {'quantised' if graph.quantised else 'in floats'}, which is "
                f"not the scheme {run.scheme}",
                where=Where(path=str(graph.path)),
                hint="give the --quant that `modelc step quantize` was given",
            )
    check_contract({graph.name: graph.path for graph in run.graphs})


def _check_room(out: Path, names: Iterable[str]) -> None:
    """Refuse a folder that results can't be put into."""
    where = Where(path=str(out))
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise BadInput(f"{there} is a file, not a folder", where=where, hint="choose another -o")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput("nothing can be written there", where=where, hint="choose another -o")
    if taken := [name for name in dict.fromkeys(names) if (out / name).exists()]:
        shown = ", ".join(taken[:SHOWN]) + (", ..." if len(taken) > SHOWN else "")
        raise BadInput(f"{shown} would be overwritten", where=where, hint="choose another -o")


def _hand_over(made: Path, out: Path) -> list[Path]:
    """Move what a step made to where the user wants it; nothing is overwritten."""
    names = sorted(path.name for path in made.iterdir() if path.is_file())
    _check_room(out, names)
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.move(made / name, out / name)
    return [out / name for name in names]


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


_SAME: Final = "give the model, and the files, as the step before had and made them"


def step_names() -> Sequence[str]:
    """Return the names that `run_step` knows, in order."""
    return tuple(_STEPS)

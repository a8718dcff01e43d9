"""What each named step does with files, as `single_step` has found and checked them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelc.errors import BadInput, Where
from modelc.pipeline import steps_binaries, steps_graphs, steps_sdk
from modelc.pipeline.decoder_job import DecoderJob
from modelc.pipeline.exported import tells_of_weights
from modelc.pipeline.given_encodings import Form, lay_out
from modelc.pipeline.given_graphs import GivenGraph, place_of
from modelc.pipeline.imported_weights import SCALES
from modelc.pipeline.layout import lengths_name
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import build_canonical
from modelc.targets.snapdragon.contract import check_contract


@dataclass(frozen=True)
class StepRun:
    """A step on files.

    Attributes:
        graphs: those that it is given; none for the first step.
        given: the encodings file that the user names, of the form `form`.
        context: with the folders to fill; the inputs are laid out for each call.
    """

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

    def lengths(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield what is made: the name of each (AR, context length), of given graphs if there are.

        Raises:
            BadInput: a graph is of another one.
        """
        known = {lengths_name(*sizes): sizes for sizes in self.job.layout.lengths}
        for graph in self.graphs:
            if graph.name not in known:
                raise BadInput(
                    f"{graph.name} is not of an AR and context length that were given",
                    where=Where(path=str(graph.path)),
                    hint=f"known: {', '.join(known)}",
                )
        names = [graph.name for graph in self.graphs] or known
        yield from ((name, known[name]) for name in names)

    def names(self) -> Iterator[str]:
        """Yield the names of the given graphs, or of the first ones."""
        yield from (graph.name for graph in self.graphs)
        if not self.graphs:
            yield from (name for name, _ in self.lengths())

    def parts(self) -> Iterator[str]:
        """Yield the names of the parts that given graphs are cut into."""
        for _, sizes in self.lengths():
            yield from self.job.layout.rows(*sizes)


def prepare_exports(run: StepRun) -> None:
    canonical = run.context.scratch / "canonical"
    canonical.mkdir()
    length = {"context_length": run.job.canonical_length}
    build_canonical(replace(run.context, out=canonical, options=length))
    encodings = run.encodings(())
    for _, (ar, context_length) in run.lengths():
        folders = {"canonical": canonical, **encodings}
        context = run.context_for(folders, ar=ar, context_length=context_length)
        steps_graphs.prepare_exports(context)
    if encodings and run.form == "model":
        for name in (steps_graphs.ENCODINGS, SCALES):  # with them `quantize` has the file's scales
            shutil.copyfile(encodings["encodings"] / name, run.context.out / name)


def split_model(run: StepRun) -> None:
    sizes = dict(run.lengths())
    for graph in run.graphs:
        parts = run.job.layout.rows(*sizes[graph.name])
        folders = {f"prepare_exports.{graph.name}": graph.path.parent, **run.encodings([graph])}
        steps_graphs.split_model(run.context_for(folders, graph=graph.name, parts=parts))


def mha_to_sha(run: StepRun) -> None:
    for graph in run.graphs:
        assert graph.key is not None
        name = lengths_name(graph.key.ar, graph.key.context_length)
        folders = {f"split_model.{name}": graph.path.parent, **run.encodings([graph])}
        steps_graphs.mha_to_sha(run.context_for(folders, graph=name, parts=[graph.name]))


def quantize(run: StepRun) -> None:
    folders, origin = _origins(run.graphs)
    encodings = run.encodings(run.graphs)
    if run.job.quantised and not encodings:
        raise BadInput(
            "graphs can't be quantised without encodings",
            hint="keep NAME.encodings beside NAME.onnx, give --encodings, or --quant fp16",
        )
    options = {"weights": dict(run.job.kinds), "parameters": _tells_of_weights(run)}
    steps_graphs.quantize(run.context_for({**folders, **encodings}, graphs=origin, **options))


def float_graphs(run: StepRun) -> None:
    place = place_of(run.graphs)
    folders, origin = _origins(run.graphs)
    if run.job.quantised:
        lowered = run.context.scratch / "lowered"
        lowered.mkdir()
        quantize(replace(run, context=replace(run.context, out=lowered)))
        folders[f"lowered.{place}"] = lowered
    steps_sdk.write_float_graphs(run.context_for(folders, part=place, graphs=origin))


def convert(run: StepRun) -> None:
    _check_lowered(run)
    for graph in run.graphs:
        options = {**run.chip(), "graphs": [graph.name], "scheme": run.scheme}
        steps_binaries.convert(run.context_for({"given": graph.path.parent}, **options))


def generate_context_binary(run: StepRun) -> None:
    _check_lowered(run)
    place, folders = place_of(run.graphs), {graph.path.parent for graph in run.graphs}
    if len(folders) > 1:
        raise BadInput("the graphs lie in several folders, so they share no weights")
    options = {**run.chip(), "graphs": [graph.name for graph in run.graphs], "part": place}
    context = run.context_for({f"quantize.{place}": folders.pop()}, **options)
    steps_binaries.generate_context_binary(context)


def _origins(graphs: Sequence[GivenGraph]) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the folders that graphs lie in as inputs of a step, and the input of each graph."""
    folders = {f"given.{index}": graph.path.parent for index, graph in enumerate(graphs)}
    return folders, {graph.name: f"given.{index}" for index, graph in enumerate(graphs)}


def _tells_of_weights(run: StepRun) -> bool:
    place, places = place_of(run.graphs), run.job.layout.places
    if place not in places:
        raise BadInput(
            f"the graphs are of part {place}, and {len(places)} parts are asked for",
            hint="give the --splits that they were made with",
        )
    return tells_of_weights(run.job, place)


def _check_lowered(run: StepRun) -> None:
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

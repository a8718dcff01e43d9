"""One of the six named steps, or `float_graphs`, run on files instead of the store."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Damaged, Where
from modelc.pipeline import steps_binaries, steps_graphs, steps_sdk
from modelc.pipeline.decoder_job import DecoderJob, decoder_job
from modelc.pipeline.imported_weights import SCALES
from modelc.pipeline.job import make_job
from modelc.pipeline.layout import lengths_name
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.step import SOURCE, StepContext
from modelc.pipeline.steps import build_canonical
from modelc.targets.snapdragon.graph_names import GraphKey, parse


@dataclass(frozen=True)
class StepRequest:
    """What `modelc step` is asked to do.

    Attributes:
        files: what the step takes: graphs by the names that the step before gave them. None for
            the first step, which takes the source.
        encodings: a bundle's encodings.json, which scales of weights may lie beside; None for
            float graphs.
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
    run = _RUNS.get(request.name)
    if run is None:
        raise BadInput(f"no step is called {request.name!r}", hint=f"one of {', '.join(_RUNS)}")
    for file in request.files:
        if not file.is_file():
            raise BadInput("there is no such file", where=Where(path=str(file)))
    if request.recipe.toolchain == "sdk":
        raise BadInput(
            "modelc step drives no SDK",
            hint="the sdk/commands.sh of a bundle does, on what `modelc step float_graphs` writes",
        )
    job = make_job(request.source, request.recipe)
    with tempfile.TemporaryDirectory(prefix="modelc-step-") as folder:
        made = Path(folder, "out")
        context = StepContext(
            inputs=_inputs(request, Path(folder)),
            options={},
            sources={SOURCE: request.source, **job.sources},
            out=_empty(made),
            scratch=_empty(Path(folder, "scratch")),
        )
        try:
            run(_Run(request, decoder_job(job), context))
        except BaseException as error:
            if hasattr(error, "where"):
                error.where = error.where.at_step(request.name)
            raise
        return _hand_over(made, request.out)


@dataclass(frozen=True)
class _Run:
    request: StepRequest
    job: DecoderJob
    context: StepContext

    def context_for(self, folders: Mapping[str, Path], **options: Any) -> StepContext:
        """Return a context with these inputs besides, by step."""
        return replace(self.context, inputs={**self.context.inputs, **folders}, options=options)

    def graphs(self) -> dict[GraphKey, Path]:
        """Return the given files by what their names say."""
        keys: dict[GraphKey, Path] = {}
        for file in self.request.files:
            try:
                key = parse(file.stem)
            except Damaged as error:
                raise BadInput(error.message, where=Where(path=str(file)), hint=_NAMES) from error
            if file.stem != key.name or key in keys:
                raise BadInput(
                    f"two files are named {key.name}" if key in keys else f"not {key.name}.onnx",
                    where=Where(path=str(file)),
                    hint=_NAMES,
                )
            keys[key] = file
        if not keys:
            raise BadInput(f"{self.request.name} takes graphs", hint=_NAMES)
        return keys


_NAMES: Final = "give .onnx files as the step before named them, such as prompt_ar128_cl4096_1_of_3"


def _prepare_exports(run: _Run) -> None:
    if run.request.files:
        raise BadInput("prepare_exports takes the source and no graphs", hint="leave them out")
    canonical = _empty(run.context.scratch / "canonical")
    length = {"context_length": run.job.canonical_length}
    build_canonical(replace(run.context, out=canonical, options=length))
    for ar, context_length in run.job.layout.lengths:
        steps_graphs.prepare_exports(
            run.context_for({"canonical": canonical}, ar=ar, context_length=context_length)
        )


def _split_model(run: _Run) -> None:
    layout = run.job.layout
    known = {lengths_name(*sizes): sizes for sizes in layout.lengths}
    if not run.request.files:
        raise BadInput("split_model takes graphs", hint="those that prepare_exports made")
    for file in run.request.files:
        if file.stem not in known:
            raise BadInput(
                f"{file.stem} is not of an AR and context length that were given",
                where=Where(path=str(file)),
                hint=f"known: {', '.join(known)}",
            )
        parts = layout.rows(*known[file.stem])
        folders = {f"prepare_exports.{file.stem}": file.parent}
        steps_graphs.split_model(run.context_for(folders, graph=file.stem, parts=parts))


def _mha_to_sha(run: _Run) -> None:
    for key, file in run.graphs().items():
        name = lengths_name(key.ar, key.context_length)
        folders = {f"split_model.{name}": file.parent}
        steps_graphs.mha_to_sha(run.context_for(folders, graph=name, parts=[file.stem]))


def _quantize(run: _Run) -> None:
    files = list(run.graphs().values())
    if run.job.quantised and run.request.encodings is None:
        raise BadInput(
            "graphs can't be quantised without encodings",
            hint="give --encodings (a bundle's encodings.json), or --quant fp16",
        )
    folders = {f"given.{index}": file.parent for index, file in enumerate(files)}
    graphs = {file.stem: f"given.{index}" for index, file in enumerate(files)}
    options = {"graphs": graphs, "weights": dict(run.job.kinds), "parameters": True}
    steps_graphs.quantize(run.context_for(folders, **options))


def _convert(run: _Run) -> None:
    for file in run.graphs().values():
        options = {"graphs": [file.stem], "scheme": run.request.recipe.quant or ""}
        steps_binaries.convert(
            replace(run.context, inputs={"given": file.parent}, options={**_chip(run), **options})
        )


def _float_graphs(run: _Run) -> None:
    graphs = run.graphs()
    place = _place(graphs)
    folders = {f"given.{index}": file.parent for index, file in enumerate(graphs.values())}
    if run.job.quantised:
        lowered = _empty(run.context.scratch / "lowered")
        _quantize(replace(run, context=replace(run.context, out=lowered)))
        folders[f"lowered.{place}"] = lowered
    origin = {file.stem: f"given.{index}" for index, file in enumerate(graphs.values())}
    steps_sdk.write_float_graphs(run.context_for(folders, part=place, graphs=origin))


def _place(graphs: Mapping[GraphKey, Path]) -> str:
    """Return the one part that graphs are of, "1_of_3"."""
    if len({(key.part, key.parts) for key in graphs}) > 1:
        raise BadInput("the graphs are of several parts", hint="give those of one part at a time")
    key = next(iter(graphs))
    return f"{key.part:0{len(str(key.parts))}}_of_{key.parts}"


def _generate_context_binary(run: _Run) -> None:
    graphs = run.graphs()
    place = _place(graphs)
    if len({file.parent for file in graphs.values()}) > 1:
        raise BadInput("the graphs lie in several folders, so they share no weights")
    file = next(iter(graphs.values()))
    options = {"graphs": [name.stem for name in graphs.values()], "part": place}
    steps_binaries.generate_context_binary(
        run.context_for({f"quantize.{place}": file.parent}, **_chip(run), **options)
    )


_RUNS: Final[Mapping[str, Callable[[_Run], None]]] = {
    "prepare_exports": _prepare_exports,
    "split_model": _split_model,
    "mha_to_sha": _mha_to_sha,
    "quantize": _quantize,
    "convert": _convert,
    "generate_context_binary": _generate_context_binary,
    "float_graphs": _float_graphs,
}


def _chip(run: _Run) -> dict[str, Any]:
    return {
        "chipset": run.job.chipset.name,
        "fp16": not run.job.quantised,
        "context_length": max(run.job.layout.context_lengths),
    }


def _inputs(request: StepRequest, folder: Path) -> dict[str, Path]:
    """Lay out what steps read besides graphs as the store has it."""
    if request.encodings is None:
        return {}
    from modelc.ir.encodings import load

    load(request.encodings)  # refuses what is none, by its own name
    encodings = _empty(folder / "encodings")
    shutil.copyfile(request.encodings, encodings / steps_graphs.ENCODINGS)
    scales = request.encodings.with_name(SCALES)
    if scales.is_file():  # as in the bundle of imported encodings
        shutil.copyfile(scales, encodings / SCALES)
    return {"encodings": encodings}


def _hand_over(made: Path, out: Path) -> list[Path]:
    """Move what a step made to where the user wants it; nothing is overwritten."""
    out.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in made.iterdir() if path.is_file())
    if taken := [name for name in names if (out / name).exists()]:
        raise BadInput(
            f"{', '.join(taken[:3])} would be overwritten",
            where=Where(path=str(out)),
            hint="choose another -o",
        )
    for name in names:
        shutil.move(made / name, out / name)
    return [out / name for name in names]


def _empty(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def step_names() -> Sequence[str]:
    """Return the names that `run_step` knows, in order."""
    return tuple(_RUNS)

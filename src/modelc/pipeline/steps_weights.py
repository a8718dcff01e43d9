"""The step in which a recipe's algorithms quantise the weights, before any target sees them.

Its result is the canonical graph again. Weights that changed lie beside it, a file for each part of
the model; the others are where they were, in the source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import CONFIG, GRAPH, canonical_graph, source_root
from modelc.pipeline.steps_calibrate import calibration_sequences

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelc.ir.packing.kinds import Form
    from modelc.pipeline.finished_parts import FinishedPart
    from modelc.quant.algorithms.layer import Floats, Layer
    from modelc.quant.algorithms.walk import Checkpoint

STEP: Final = "weights"
ERRORS: Final = "weights.json"


def quantise_weights(context: StepContext) -> None:
    """Let algorithms work on the weights: graph.onnx, a safetensors file for each part that
    changed, and weights.json with what each matrix lost.

    Options: algorithms (names), algorithm_options ("gptq.damping" -> value), kinds (module ->
        kind, "" for most), and those of the calibration.

    Raises:
        BadInput: an algorithm doesn't go with the architecture, or a weight is NaN or infinite.
    """
    from modelc.decoder.config import load_config
    from modelc.ir.serial import save_graph
    from modelc.pipeline.finished_parts import finished_parts, keep_part, resume
    from modelc.quant.algorithms.choose import choose_algorithms
    from modelc.quant.algorithms.walk import count_parts, walk

    options = context.options
    algorithms = choose_algorithms(options["algorithms"], options["algorithm_options"])
    config = load_config(context.inputs["import"] / CONFIG)
    for algorithm in algorithms:
        algorithm.check(config)
    model = canonical_graph(context)
    forms = matrix_forms(model, options["kinds"])
    observed = any(algorithm.needs_inputs for algorithm in algorithms)
    samples = calibration_sequences(context) if observed else []
    parts = count_parts(model)

    def finish(layer: Layer, changed: Mapping[str, Floats], checkpoint: Checkpoint) -> None:
        keep_part(context.partial, layer, changed, checkpoint)
        context.progress(checkpoint.done / parts, layer.name)

    walk(model, config, algorithms, forms, samples, finish, resume(context.partial))
    errors: dict[str, Any] = {}
    for part in finished_parts(context.partial, parts):
        errors |= part.errors
        if part.file:
            _refer(model, part, part.file.rename(context.out / part.file.name), forms)
    (context.out / ERRORS).write_text(json.dumps(errors, indent=1) + "\n")
    save_graph(model, context.out / GRAPH, source_root(context), context.out)


def unreached(folder: Path) -> list[str]:
    """Return the modules, by the step's result, that no calibration token went to."""
    from modelc.quant.algorithms.layer import UNREACHED

    errors = json.loads((folder / ERRORS).read_text())
    return [module for module, figures in errors.items() if figures.get(UNREACHED) == 0]


def matrix_forms(model: ir.Model, kinds: Mapping[str, str]) -> dict[str, Form]:
    """Return the form of every linear layer's matrix, by module; routers of experts have none."""
    from modelc.decoder.expert_modules import is_router
    from modelc.ir.packing.kinds import KINDS
    from modelc.passes.htp.quantised_weights import kind_of

    modules = (
        name.removesuffix(".weight")
        for name, value in model.graph.initializers.items()
        if any(use.node.op_type == "MatMul" for use in value.uses())
    )
    return {m: KINDS[kind_of(m, kinds)] for m in modules if not is_router(m)}


def _refer(model: ir.Model, part: FinishedPart, path: Path, forms: Mapping[str, Form]) -> None:
    """Let a graph read a part's weights from the file that they were written to."""
    from modelc.frontends.huggingface.safetensors import read_header
    from modelc.ir.coded import StoredArray
    from modelc.ir.coded_file import place_written
    from modelc.ir.weights import StoredWeight

    arrays = {
        tensor.name: StoredArray(path, tensor.offset, _TYPES[tensor.format], tensor.shape)
        for tensor in read_header(path)
    }
    coded = {f"{module}.weight": forms[module] for module in part.coded}
    written = {name: coded.get(name) for name in part.written}
    for name, source in place_written(path, written, arrays).items():
        value = model.graph.initializers[name]
        assert isinstance(value.const_value, StoredWeight)
        turned = value.const_value.source.transposed
        value.const_value = StoredWeight(replace(source, transposed=turned), name)


_TYPES: Final = {
    "F32": "float32",
    "F16": "float16",
    "I8": "int8",
    "U8": "uint8",
    "I16": "int16",
}

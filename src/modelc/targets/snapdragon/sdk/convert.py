"""Converts a float ONNX graph to DLC, the SDK's container; its encodings go along."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Literal

from modelc.targets.snapdragon.sdk.command import Command
from modelc.targets.snapdragon.sdk.find import Sdk
from modelc.targets.snapdragon.sdk.options import arguments
from modelc.targets.snapdragon.sdk.parts import GraphFiles, converted
from modelc.targets.snapdragon.sdk.toolsets import CONVERTER

CONVERT: Final = "convert"


@dataclass(frozen=True)
class ConverterOptions:
    """How ONNX becomes DLC.

    Attributes:
        float_bitwidth: of what stays float; None for 16 in graphs without encodings, and the tool's
            32 in others.
        io_config: a YAML file in the work folder about inputs and outputs.
        preserve_io_datatype: inputs and outputs that keep the type they have in ONNX; () is all,
            None leaves them to the encodings, as Genie needs them.
        skip_simplification: leave the graph as it is; its tensors then have the encodings' names.
        framework_trace: write which ONNX operator became what.
    """

    float_bitwidth: Literal[16, 32] | None = None
    float_bias_bitwidth: Literal[16, 32] | None = None
    io_config: str | None = None
    preserve_io_datatype: tuple[str, ...] | None = None
    skip_simplification: bool = True
    framework_trace: bool = False


def convert(graph: GraphFiles, sdk: Sdk, options: ConverterOptions) -> Command:
    """Return the conversion of an ONNX file to DLC, which carries the encodings along."""
    values = asdict(options)
    if graph.overrides is None:
        values["float_bitwidth"] = options.float_bitwidth or 16
    output = converted(graph)
    values |= {"network": graph.network, "overrides": graph.overrides, "output": output}
    inputs = filter(None, (graph.network, graph.overrides, options.io_config))
    return Command(
        CONVERT,
        graph.key.name,
        CONVERTER,
        arguments(CONVERTER, values, sdk.version),
        inputs=tuple(inputs),
        outputs=(output,),
    )

"""Quantises a converted graph by the encodings that it carries."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Literal

from modelc.targets.snapdragon.sdk.command import Command
from modelc.targets.snapdragon.sdk.find import Sdk
from modelc.targets.snapdragon.sdk.options import arguments
from modelc.targets.snapdragon.sdk.parts import GraphFiles, converted, quantized
from modelc.targets.snapdragon.sdk.toolsets import QUANTIZER

QUANTIZE: Final = "quantize"


@dataclass(frozen=True)
class QuantizerOptions:
    """How a DLC that has encodings is quantised. Every tensor has one, so no samples are needed.

    Attributes:
        act_bitwidth, weights_bitwidth, bias_bitwidth: of tensors without encodings, such as biases.
        per_channel, per_row: granularity of weights without encodings.
    """

    act_bitwidth: Literal[8, 16] | None = 16
    weights_bitwidth: Literal[4, 8, 16] | None = None
    bias_bitwidth: Literal[8, 32] | None = 32
    float_bitwidth: Literal[16, 32] | None = None
    per_channel: bool = False
    per_row: bool = False
    keep_weights_quantized: bool = False
    preserve_io_datatype: tuple[str, ...] | None = None


def quantize(graph: GraphFiles, sdk: Sdk, options: QuantizerOptions) -> Command:
    """Return the quantisation of a converted graph by its encodings.

    The quantiser wants samples or leave to keep float what has no encoding; one excludes the other:
    https://docs.qualcomm.com/doc/80-63442-10/topic/qairt_quantizer.html
    """
    model, output = converted(graph), quantized(graph)
    values = asdict(options) | {"model": model, "output": output, "float_fallback": True}
    return Command(
        QUANTIZE,
        graph.key.name,
        QUANTIZER,
        arguments(QUANTIZER, values, sdk.version),
        inputs=(model,),
        outputs=(output,),
    )

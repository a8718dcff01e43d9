"""All runs of the SDK's tools for a model: per graph a conversion and a quantisation, per part one
context binary of all its graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.sdk.command import Command
from modelc.targets.snapdragon.sdk.convert import ConverterOptions, convert
from modelc.targets.snapdragon.sdk.find import Sdk
from modelc.targets.snapdragon.sdk.generate import GeneratorOptions, generate, generator_configs
from modelc.targets.snapdragon.sdk.parts import SplitFiles, binary_file, check_parts
from modelc.targets.snapdragon.sdk.quantize import QuantizerOptions, quantize


@dataclass(frozen=True)
class SdkOptions:
    """The options of all three tools."""

    converter: ConverterOptions = field(default_factory=ConverterOptions)
    quantizer: QuantizerOptions = field(default_factory=QuantizerOptions)
    generator: GeneratorOptions = field(default_factory=GeneratorOptions)


@dataclass(frozen=True)
class SdkCommands:
    """What makes a model's binaries.

    Attributes:
        commands: in the order in which they run: all conversions, quantisations, binaries.
        configs: text of each configuration file, by its path in the work folder.
        binaries: where the binaries will be, in the order of the parts.
    """

    commands: tuple[Command, ...]
    configs: Mapping[str, str]
    binaries: tuple[str, ...]


def sdk_commands(
    parts: Sequence[SplitFiles], chipset: Chipset, sdk: Sdk, options: SdkOptions | None = None
) -> SdkCommands:
    """Return the runs for a model's parts. Nothing is run, and no file looked at.

    Raises:
        BadInput: parts that don't fit together, or what the chipset or the SDK's release can't do.
    """
    options = options or SdkOptions()
    check_parts(parts)
    graphs = [graph for part in parts for graph in part.graphs]
    return SdkCommands(
        commands=(
            *(convert(graph, sdk, options.converter) for graph in graphs),
            *(quantize(g, sdk, options.quantizer) for g in graphs if g.overrides is not None),
            *(generate(part, sdk, options.generator) for part in parts),
        ),
        configs={
            name: text
            for part in parts
            for name, text in generator_configs(part, chipset, sdk, options.generator).items()
        },
        binaries=tuple(map(binary_file, parts)),
    )

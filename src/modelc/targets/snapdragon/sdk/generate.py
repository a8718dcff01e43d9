"""Compiles the DLCs of a part into one context binary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Literal

from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.htp_config import htp_config
from modelc.targets.snapdragon.sdk.backend_config import backend_config
from modelc.targets.snapdragon.sdk.command import Command
from modelc.targets.snapdragon.sdk.find import BACKEND, DLC_LOADER, Sdk
from modelc.targets.snapdragon.sdk.options import InSdk, arguments
from modelc.targets.snapdragon.sdk.parts import (
    BINARIES,
    SplitFiles,
    binary_file,
    config_files,
    quantized,
)
from modelc.targets.snapdragon.sdk.toolsets import GENERATOR, Version

GENERATE: Final = "generate_context_binary"
# Later releases choose half precision by themselves.
PRECISION_IS_CHOSEN: Final[Version] = (2, 35)


@dataclass(frozen=True)
class GeneratorOptions:
    """How DLCs become a context binary.

    Attributes:
        io_memory: where inputs and outputs will lie when it runs: "memhandle" in buffers shared
            with the HTP, which Genie uses; "raw" in memory that is copied.
        optimization: 2 or 3, how hard the scheduler works.
    """

    io_memory: Literal["raw", "memhandle"] = "memhandle"
    optimization: Literal[2, 3] = 3
    log_level: Literal["error", "warn", "info", "verbose", "debug"] | None = None
    profiling_level: Literal["basic", "detailed"] | None = None


def generate(part: SplitFiles, sdk: Sdk, options: GeneratorOptions) -> Command:
    """Return the compilation of a part's DLCs into one binary."""
    dlcs = tuple(map(quantized, part.graphs))
    config, htp = config_files(part)
    values = {
        "model": InSdk(DLC_LOADER),
        "backend": InSdk(BACKEND),
        "dlcs": dlcs,
        "output_dir": BINARIES,
        "binary_file": part.binary,
        "config_file": config,
        "io_memory": options.io_memory,
        "log_level": options.log_level,
        "profiling_level": options.profiling_level,
    }
    return Command(
        GENERATE,
        part.binary,
        GENERATOR,
        arguments(GENERATOR, values, sdk.version),
        inputs=(*dlcs, config, htp),
        outputs=(binary_file(part),),
    )


def generator_configs(
    part: SplitFiles, chipset: Chipset, sdk: Sdk, options: GeneratorOptions
) -> dict[str, str]:
    """Return the text of a part's configuration files by their paths.

    Raises:
        BadInput: the chipset or the compiler can't do what is asked.
    """
    config, htp = config_files(part)
    fp16 = any(graph.overrides is None for graph in part.graphs)
    document = htp_config(
        [graph.key.name for graph in part.graphs],
        chipset,
        fp16=fp16,
        optimization=options.optimization,
        shared_buffers=options.io_memory == "memhandle",
        relaxed_fp16=fp16 and sdk.version < PRECISION_IS_CHOSEN,
    )
    texts = {config: backend_config(htp), htp: document}
    return {name: json.dumps(text, indent=2) + "\n" for name, text in texts.items()}

"""Small networks, each compiled once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from support.qnn_networks import (
    CHIPSET,
    FLOAT,
    QUANTISED,
    TIMEOUT,
    write_cnn,
    write_encoder,
    write_quantised,
)

from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.network.compile import (
    CompiledNetwork,
    compile_network,
    compile_with_fallback,
)


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a network, by name."""
    folder = tmp_path_factory.mktemp("networks")
    writers: dict[str, Callable[[], Path]] = {
        "cnn": lambda: write_cnn(folder),
        "encoder": lambda: write_encoder(folder),
        "erf": lambda: write_encoder(folder, "erf", "Erf"),
        "quantised": lambda: write_quantised(folder),
        "stranded": lambda: write_quantised(folder, "stranded", "Erf"),
    }
    return cache(lambda name: writers[name]())


@pytest.fixture(scope="session")
def compiled(
    networks: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], CompiledNetwork]:
    """A network as it was compiled, by name; "erf" with help of the CPU."""

    def make(name: str) -> CompiledNetwork:
        folder = tmp_path_factory.mktemp("compiled")
        return (compile_with_fallback if name == "erf" else compile_network)(
            networks(name),
            name,
            find_chipset(CHIPSET),
            QUANTISED if name == "quantised" else FLOAT,
            folder / "out" / f"{name}.bin",
            workdir=folder / "work",
            timeout_s=TIMEOUT,
        )

    return cache(make)

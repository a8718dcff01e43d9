"""Cubins: the same each time, wherever they are made; what can't be compiled is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modelc.errors import BadInput, ToolFailed
from modelc.targets.cuda.aot import compile_variants
from modelc.targets.cuda.kernel import Tile
from modelc.targets.cuda.tiles import tiled
from modelc.targets.cuda.variant import Variant

NORM = tiled(
    Variant(
        "rms_norm",
        {"x": "bf16", "weight": "fp32", "out": "bf16"},
        {"width": 256, "epsilon": 1e-5},
    ),
    90,
)
QUANTISE = Variant(
    "quantise_fp8",
    {"x": "bf16", "out": "e4m3", "scales": "fp32"},
    {"width": 256, "group": 128},
)


def test_the_same_kernel_gives_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("here", "a/folder/elsewhere"):
        workdir = tmp_path / name
        workdir.mkdir(parents=True)
        cubins = compile_variants([NORM], 90, workdir / "cubins", workdir=workdir)
        cubin = cubins[NORM.key]
        assert cubin.entry == "rms_norm" and cubin.warps == NORM.tile.warps
        found.append(cubin.path.read_bytes())
        assert str(tmp_path).encode() not in found[-1]
    assert found[0] == found[1]


def test_a_variant_has_a_key_of_its_own() -> None:
    wider = replace(NORM, constants={"width": 512, "epsilon": 1e-5})
    keys = {NORM.key, wider.key, replace(NORM, tile=Tile({"BLOCK": 512})).key}
    assert len(keys) == 3
    assert Variant.from_document(NORM.document()).key == NORM.key


def test_a_kernel_of_a_later_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="quantise_fp8 needs sm89, which sm80 is not"):
        compile_variants([QUANTISE], 80, tmp_path, workdir=tmp_path)


def test_what_triton_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    odd = replace(NORM, tile=Tile({"BLOCK": 300}, warps=4))
    with pytest.raises(ToolFailed, match="aot_worker") as caught:
        compile_variants([odd], 90, tmp_path, workdir=tmp_path)
    assert "power of 2" in str(caught.value)

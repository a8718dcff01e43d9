"""The table of chipsets and the ways of finding a row."""

from __future__ import annotations

import dataclasses
from importlib.resources import files
from pathlib import Path

import pytest

from modelc.errors import BadInput
from modelc.targets.snapdragon.chipsets import Chipset, chipsets, find_chipset
from modelc.targets.snapdragon.compile import CompileOptions, compile_graphs

ROWS = list(chipsets().values())
WITH_HTP = [row for row in ROWS if row.has_htp]


def test_the_table_is_in_the_package() -> None:
    text = (files("modelc.targets.snapdragon") / "chipsets.csv").read_text()
    assert len(text.splitlines()) - 1 == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_makes_sense(row: Chipset) -> None:
    assert row.htp_arch in {f"v{arch}" for arch in (65, 66, 68, 69, 73, 75, 79, 81, 85)}
    assert row.soc_model > 0
    assert row.vtcm_mb in (None, 4, 8, 12)
    assert row.world in ("automotive", "compute", "iot", "mobile", "xr")
    assert all(name == name.lower() and " " not in name for name in (row.name, *row.aliases))
    if not row.has_htp:
        assert not (row.fp16 or row.weight_sharing)


def test_names_and_aliases_are_unique() -> None:
    names = [name for row in ROWS for name in (row.name, *row.aliases)]
    assert len(set(names)) == len(names)


def test_rows_of_one_soc_agree() -> None:
    """The compiler knows only the SoC."""
    known: dict[int, Chipset] = {}
    for row in WITH_HTP:
        same = known.setdefault(row.soc_model, row)
        assert (row.htp_arch, row.vtcm_mb, row.fp16) == (same.htp_arch, same.vtcm_mb, same.fp16)


@pytest.mark.parametrize("row", WITH_HTP, ids=lambda row: row.name)
def test_found_by_name_and_by_alias_in_any_case(row: Chipset) -> None:
    for name in (row.name, *row.aliases):
        assert find_chipset(name) is row
        assert find_chipset(name.upper()) is row


def test_a_wrong_name_brings_the_nearest() -> None:
    with pytest.raises(BadInput, match="no chipset is called 'snapdragon-8-elit'") as caught:
        find_chipset("snapdragon-8-elit")
    assert "snapdragon-8-elite" in caught.value.hint


@pytest.mark.parametrize("name", ["sm8150", "snapdragon-845"])
def test_vector_units_alone_are_not_enough(name: str) -> None:
    with pytest.raises(BadInput, match=r"has no HTP: its Hexagon is v6[56]"):
        find_chipset(name)


def test_vtcm_that_was_not_measured_is_taken_to_be_small() -> None:
    assert find_chipset("qcs6490").compile_vtcm_mb == 2
    assert find_chipset("snapdragon-8-elite-extreme-gen6").compile_vtcm_mb == 12


def test_no_fp16_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="QCS6490 has no fp16") as caught:
        compile_graphs(
            {"token": tmp_path / "absent.onnx"},
            find_chipset("qcs6490"),
            CompileOptions(fp16=True),
            tmp_path / "out.bin",
            workdir=tmp_path,
            timeout_s=1,
        )
    assert "w8a16" in caught.value.hint


def test_no_sharing_where_there_is_none(tmp_path: Path) -> None:
    graphs = dict.fromkeys(("prompt", "token"), tmp_path / "absent.onnx")
    chipset = dataclasses.replace(find_chipset("sm8450"), marketing_name="This one")
    with pytest.raises(BadInput, match="This one can't share weights"):
        compile_graphs(
            graphs, chipset, CompileOptions(), tmp_path / "out", workdir=tmp_path, timeout_s=1
        )

"""Graphs that are not what their names say are refused, all that is wrong at once."""

from __future__ import annotations

import shutil
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.htp_decoder import lower_parts

from modelc.decoder.config import DecoderSource
from modelc.decoder.parts import DecoderPart
from modelc.errors import BadInput
from modelc.quant.schemes import SCHEMES
from modelc.targets.snapdragon.contract import check_contract

PARTS = (DecoderPart(0, 1, embedding=True), DecoderPart(1, 2, head=True))


@pytest.fixture(scope="module")
def files(source: DecoderSource, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("graphs") / "files"
    made = lower_parts(source, PARTS, (24, 32), SCHEMES["w8a16"], folder)
    return {file.stem: file for file in made}


def test_what_the_pipeline_makes_passes(files: dict[str, Path]) -> None:
    check_contract(files)


def refused(files: dict[str, Path], name: str, called: str, folder: Path) -> str:
    path = folder / f"{called}.onnx"
    shutil.copy(files[name], path)
    shutil.copy(f"{files[name]}.data", folder)
    with pytest.raises(BadInput) as caught:
        check_contract({called: path})
    return caught.value.message


@pytest.fixture
def small(files: dict[str, Path], tmp_path: Path) -> Path:
    """The smallest of the graphs, with its weights, to be spoilt."""
    path = min(files.values(), key=lambda file: file.stat().st_size)
    shutil.copy(f"{path}.data", tmp_path)
    return Path(shutil.copy(path, tmp_path))


def test_weights_that_are_cut_short(small: Path) -> None:
    data = small.with_name(f"{small.name}.data")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(BadInput, match="its weights are cut short"):
        check_contract({small.stem: small})


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_told(small: Path, data: st.DataObject) -> None:
    """Whatever a byte becomes, and wherever the file ends: bad input, or nothing that matters."""
    whole = small.read_bytes()
    try:
        spoilt = bytearray(whole)
        spoilt[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        small.write_bytes(spoilt[: data.draw(st.integers(0, 2 * len(whole)))])
        with suppress(BadInput), warnings.catch_warnings():
            warnings.simplefilter("error")
            check_contract({small.stem: small})
    finally:
        small.write_bytes(whole)


def test_another_length(files: dict[str, Path], tmp_path: Path) -> None:
    told = refused(files, "prompt_ar8_cl24_1_of_2", "prompt_ar8_cl32_1_of_2", tmp_path)
    assert "attention_mask [1, 1, 8, 24], not [1, 1, 8, 32]" in told
    assert "past_key_0_in" in told and "past_value_0_in" in told
    assert "past_key_0_out" not in told  # as many new ones


def test_another_ar(files: dict[str, Path], tmp_path: Path) -> None:
    told = refused(files, "token_ar1_cl24_1_of_2", "prompt_ar8_cl24_1_of_2", tmp_path)
    assert "input_ids [1, 1], not [1, 8]" in told


def test_another_part(files: dict[str, Path], tmp_path: Path) -> None:
    told = refused(files, "token_ar1_cl24_1_of_2", "token_ar1_cl24_2_of_2", tmp_path)
    assert "has input_ids" in told and "has no logits" in told

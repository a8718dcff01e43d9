"""How many parts a decoder is cut into, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.tiny_source import tiny_config, tiny_source

from modelc.decoder.parts import DecoderPart
from modelc.errors import BadInput
from modelc.pipeline.choose_parts import asked_parts, choose_parts
from modelc.pipeline.part_sizes import HOST_BASE, HTP_LIMIT, Sizes

GB = 1_000_000_000


def sizes(folder: Path, bits: float = 8, kv: int = 0) -> Sizes:
    model = tiny_source(tiny_config(), folder / "weights.bin", False)
    return Sizes(model, lambda name: bits, lambda name: 8, kv, 0, 2)


def test_a_part_takes_what_its_weights_do(tmp_path: Path) -> None:
    found = sizes(tmp_path, bits=4, kv=1000)
    config, layers = found.model.config, tiny_config().layers
    whole = found.part(DecoderPart(0, layers, embedding=True, head=True))
    weights = sum(found.elements.values())
    assert whole.weights == pytest.approx(weights / 2, abs=100)
    assert whole.kv_cache == layers * 1000
    embedding = found.part(DecoderPart(0, 0, embedding=True))
    assert embedding.weights == config.vocab_size * config.hidden_size // 2
    assert embedding.kv_cache == 0


def test_a_small_model_is_one_part(tmp_path: Path) -> None:
    chosen = choose_parts(sizes(tmp_path), 8 * GB, 2)
    assert [str(part) for part in chosen.parts] == ["embedding + layers 0-1 + head"]


def test_the_device_makes_parts(tmp_path: Path) -> None:
    """Two layers' caches are too much for one context."""
    chosen = choose_parts(sizes(tmp_path, kv=HTP_LIMIT * 2 // 3), 8 * GB, 2)
    assert [str(part) for part in chosen.parts] == ["embedding", "layer 0", "layer 1 + head"]
    assert "of 3.50 GB on the device" in chosen.why


def test_memory_here_makes_parts(tmp_path: Path) -> None:
    found = sizes(tmp_path)
    whole = found.part(DecoderPart(0, 2, embedding=True, head=True)).host
    chosen = choose_parts(found, whole - 1, 1)
    assert len(chosen.parts) > 1
    assert max(found.part(part).host for part in chosen.parts) < whole


def test_memory_for_one_at_a_time_or_less(tmp_path: Path) -> None:
    """More parts don't help where the base or the largest module decides."""
    found = sizes(tmp_path)
    smallest = max(found.part(part).host for part in found.cut(4))
    assert "compiling it" in choose_parts(found, HOST_BASE // 2, 2).why
    least = choose_parts(found, HOST_BASE // 2, 2).parts
    assert max(found.part(part).host for part in least) == smallest


def test_a_layer_too_large_for_any_context(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"a part takes 3\.50 GB; a context holds 3\.50 GB"
    ) as caught:
        choose_parts(sizes(tmp_path, kv=HTP_LIMIT + 1), 64 * GB, 2)
    assert "--context-length" in caught.value.hint


def test_as_many_as_are_asked_for(tmp_path: Path) -> None:
    assert len(asked_parts(sizes(tmp_path), 3).parts) == 3
    with pytest.raises(BadInput, match="2 layers can't be cut into 5 parts"):
        asked_parts(sizes(tmp_path), 5)
    with pytest.raises(BadInput, match="a context holds") as caught:
        asked_parts(sizes(tmp_path, kv=HTP_LIMIT * 2 // 3), 2)
    assert "--splits" in caught.value.hint


def test_the_cut_is_the_scheme_s(tmp_path: Path) -> None:
    """An override that makes one layer dear does not move the others."""
    plain = sizes(tmp_path)
    bits = {"model.layers.0.mlp.down_proj.weight": 800.0}
    dear = replace(plain, bits=lambda name: bits.get(name, 8.0))
    assert [dear.cut(count) for count in (1, 2, 3, 4)] == [
        plain.cut(count) for count in (1, 2, 3, 4)
    ]
    assert dear.part(DecoderPart(0, 1)).weights > plain.part(DecoderPart(0, 1)).weights


def test_more_graphs_take_more_memory_here_and_no_more_there(tmp_path: Path) -> None:
    two = sizes(tmp_path)
    six = replace(two, graphs=6)
    whole = DecoderPart(0, 2, embedding=True, head=True)
    assert six.part(whole).host > two.part(whole).host
    assert six.part(whole).device == two.part(whole).device

"""Weights that are broken or suspicious, as the reference meets them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderSource
from modelc.errors import BadInput
from modelc.quant.zero_channels import ZeroChannels
from modelc.reference.session import Session
from modelc.reference.stream import StreamedReference

Edit = Callable[[np.ndarray], None]


@pytest.fixture
def source(tmp_path: Path) -> DecoderSource:
    source = tiny_source(tiny_config(), tmp_path / "weights.bin")
    write_weights(source)
    return source


def edited(source: DecoderSource, name: str, edit: Edit) -> ir.Model:
    """The model with one weight changed in its file."""
    weight = source.weights[name]
    shape = tuple(weight.shape)
    file = np.memmap(weight.path, np.float32, "r+", weight.offset, shape)
    edit(file)
    file.flush()
    return build_decoder(source, context_length=16)


def put(value: float, *place: int) -> Edit:
    def edit(array: np.ndarray) -> None:
        array[place] = value

    return edit


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("model.layers.1.mlp.down_proj.weight", (3, 5)),
        ("model.layers.0.input_layernorm.weight", (7,)),
        ("lm_head.weight", (9, 9)),
        ("model.embed_tokens.weight", (2, 0)),
    ],
)
def test_nan_and_infinity_name_the_weight(
    source: DecoderSource, name: str, place: tuple[int, ...], value: float
) -> None:
    model = edited(source, name, put(value, *place))
    with pytest.raises(BadInput, match="NaN or infinite") as caught:
        StreamedReference(model).logits([1, 2, 3])
    assert caught.value.where.module == name


def test_both_infinities_at_once(source: DecoderSource) -> None:
    def edit(array: np.ndarray) -> None:
        array[0, :2] = (np.inf, -np.inf)

    with pytest.raises(BadInput, match="NaN or infinite"):
        Session(edited(source, "lm_head.weight", edit))


def test_large_numbers_whose_sum_is_infinite_are_fine(source: DecoderSource) -> None:
    def edit(array: np.ndarray) -> None:
        array[:] = 3e38

    Session(edited(source, "lm_head.weight", edit))


def test_channels_of_zeros_are_told(source: DecoderSource) -> None:
    def edit(array: np.ndarray) -> None:
        array[[1, 4]] = 0
        array[:, 3] = 0  # an input, not an output

    zeros = ZeroChannels()
    model = edited(source, "model.layers.1.mlp.up_proj.weight", edit)
    StreamedReference(model, look=zeros.look).logits([1, 2, 3])
    assert list(zeros.lines()) == [
        "model.layers.1.mlp.up_proj.weight: the weights of 2 of 48 output channels are all zero"
    ]


def test_an_embedding_of_zeros_is_not_told(source: DecoderSource) -> None:
    zeros = ZeroChannels()
    model = edited(source, "model.embed_tokens.weight", lambda array: array.fill(0))
    StreamedReference(model, look=zeros.look).logits([1, 2, 3])
    assert not list(zeros.lines())

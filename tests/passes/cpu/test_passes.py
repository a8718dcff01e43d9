"""Each pass of the CPU: golden pair, and the numbers of the canonical graph after it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import onnx_ir as ir
import pytest
from support.blocks import stored_as
from support.golden import check_golden
from support.lowered import Lowered
from support.tiny_source import tiny_config, tiny_source, write_weights
from support.whole_reference import WholeReference

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderConfig, DecoderSource, Rope
from modelc.errors import BadInput, ModelcError
from modelc.ir.packing.blocks import LAYOUTS
from modelc.ir.text import to_text
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline

GOLDEN = Path(__file__).parent / "golden"
PASSES = build_pipeline("cpu", {"weights": "gguf"})
NAMES = [step.name for step in PASSES]
TOKENS = [3, 17, 39, 0, 5, 5, 21, 8, 30, 11, 2, 36]
CHUNKS = [TOKENS[:7], TOKENS[7:11], TOKENS[11:]]

# Formats of a Q4_K_M file, and a few more; wide enough for blocks of 256.
MIXED = {
    "": "Q4_K",
    "v_proj": "Q6_K",
    "down_proj": "Q5_K",
    "o_proj": "Q8_0",
    "lm_head": "F16",
}
WIDE = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64, "rope": Rope(dim=64)}

VARIANTS = {
    "grouped": {},
    "no groups": {"kv_heads": 4},
    "softcaps": {"attention_softcap": 1.5, "logit_softcap": 2.0, "attention_scale": 0.9},
    "windows": {"windows": (0, 3)},
    "partial rope": {"rope": Rope(dim=4)},
    "narrow heads": {"head_dim": 8, "rope": Rope(dim=8)},
    "head norms": {"architecture": "qwen3"},
    "post norms": {"architecture": "gemma2", "activation": "gelu_tanh", "tied_head": True},
}


def config(**changes: object) -> DecoderConfig:
    return tiny_config(**{"head_dim": 16, "rope": Rope(dim=16), **changes})


def lower(source: DecoderSource, until: str = NAMES[-1], **settings: str) -> ir.Model:
    passes = build_pipeline("cpu", {"weights": "gguf", **settings})
    passes = passes[: NAMES.index(until) + 1]
    return run_passes(build_decoder(source, context_length=32), passes, graph="test")[0]


def expected(source: DecoderSource) -> np.ndarray:
    canonical = WholeReference(build_decoder(source, context_length=32))
    return canonical.step(np.array([TOKENS]))[0]


def assert_close(found: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-5) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["canonical", *NAMES])
def test_golden_text_after(name: str) -> None:
    """The text after one pass is the text before the next."""
    source = stored_as(tiny_source(config(layers=1, **WIDE), biases=True), MIXED)
    canonical = build_decoder(source, context_length=32)
    passes = PASSES[: ["canonical", *NAMES].index(name)]
    model, records = run_passes(canonical, passes, graph="test")
    check_golden(GOLDEN / f"{name}.txt", to_text(model))
    assert all(record.changed for record in records)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_same_numbers(name: str, variant: str, tmp_path: Path) -> None:
    biases = variant == "head norms"
    source = tiny_source(config(**VARIANTS[variant]), tmp_path / "weights.bin", biases)
    write_weights(source)
    lowered = Lowered(lower(source, name), tmp_path)
    found = np.concatenate([lowered.step(chunk) for chunk in CHUNKS])
    assert_close(found, expected(source))


@pytest.mark.parametrize("format", [*sorted(LAYOUTS), "F16", "BF16", "mixed"])
def test_blocks_are_kept_exactly(format: str, tmp_path: Path) -> None:
    """Without int8 activations the logits are those of the decoded blocks."""
    formats = MIXED if format == "mixed" else {"": format}
    plain = tiny_source(config(**WIDE, tied_head=format == "Q4_K"), biases=True)
    source = stored_as(plain, formats, tmp_path / "weights.bin")
    lowered = Lowered(lower(source), tmp_path)
    found = np.concatenate([lowered.step(chunk) for chunk in CHUNKS])
    assert_close(found, expected(source), 2e-5)


def test_fast_rounds_a_little_and_leaves_no_float_minima(tmp_path: Path) -> None:
    source = stored_as(tiny_source(config(**WIDE)), MIXED, tmp_path / "weights.bin")
    model = lower(source, gguf="fast")
    names = set(model.graph.initializers)
    assert any(name.endswith(".rest.codes") for name in names)
    assert not any(name.endswith("proj.weight.minima") for name in names)
    wanted = expected(source)
    error = np.linalg.norm(Lowered(model, tmp_path).step(TOKENS) - wanted)
    assert 1e-5 < error / np.linalg.norm(wanted) < 0.04


@pytest.mark.parametrize("scheme", ["q8_0", "q4_0"])
def test_schemes_are_ggmls_quantisation(scheme: str, tmp_path: Path) -> None:
    plain = tiny_source(config(**WIDE))
    source = stored_as(plain, {"": "F16"}, tmp_path / "weights.bin")
    model = lower(source, weights=scheme)
    assert "MatMul" not in {node.op_type for node in model.graph}
    found = Lowered(model, tmp_path).step(TOKENS)
    assert_close(found, expected(quantised(source, scheme.upper(), tmp_path)), 2e-5)


def quantised(source: DecoderSource, format: str, folder: Path) -> DecoderSource:
    """The source with its matrices quantised by gguf."""
    weights = dict(source.weights)
    for name, matrix in weights.items():
        if len(matrix.shape) == 2:
            path = folder / f"{name}.{format}"
            kind = gguf.GGMLQuantizationType[format]
            path.write_bytes(gguf.quants.quantize(matrix.decode(), kind).tobytes())
            weights[name] = replace(matrix, path=path, offset=0, format=format)
    return replace(source, weights=weights)


def test_only_selected_rows_are_computed(tmp_path: Path) -> None:
    source = tiny_source(config(), tmp_path / "weights.bin")
    write_weights(source)
    lowered, wanted = Lowered(lower(source), tmp_path), expected(source)
    assert_close(lowered.step(CHUNKS[0], rows=[2, 6]), wanted[[2, 6]])
    assert_close(lowered.step(CHUNKS[1], rows=[3]), wanted[[10]])
    assert_close(lowered.step(CHUNKS[2]), wanted[[11]])


def test_layers_that_read_the_same_are_one(tmp_path: Path) -> None:
    source = stored_as(tiny_source(config(layers=1, **WIDE)), {"": "Q8_0"})
    products = [node for node in lower(source).graph if node.op_type == "MatMulNBits"]
    assert [node.attributes["N"].value for node in products] == [512, 256, 512, 256, 40]
    mixed = stored_as(tiny_source(config(layers=1, **WIDE)), MIXED)
    products = [node for node in lower(mixed).graph if node.op_type == "MatMulNBits"]
    assert [node.attributes["N"].value for node in products] == [384, 128, 256, 512, 256]


def test_block_sums_are_shared() -> None:
    source = stored_as(tiny_source(config(layers=1, **WIDE)), {"": "Q4_K", "v_proj": "Q5_K"})
    sums = [node for node in lower(source).graph if node.op_type == "ReduceSum"]
    # q, k and v; o; gate and up; down; head
    assert len(sums) == 5


def test_rows_that_are_no_whole_blocks_are_refused() -> None:
    source = tiny_source(config(intermediate_size=40))
    with pytest.raises(BadInput, match=r"down_proj\.weight has rows of 40"):
        lower(source, weights="q8_0")


def test_heads_that_no_kernel_takes_are_refused() -> None:
    source = tiny_source(config(head_dim=20, rope=Rope(dim=20)))
    with pytest.raises(ModelcError, match="heads are 20 wide") as caught:
        lower(source)
    assert caught.value.where.module == "model.layers.0.self_attn"


def test_unknown_masks_are_refused() -> None:
    model = build_decoder(tiny_source(config()), context_length=32)
    mask = next(
        value for node in model.graph for value in node.outputs if value.name == "mask.full"
    )
    mask.name = "mask.other"
    with pytest.raises(ModelcError, match=r"mask\.other"):
        run_passes(model, PASSES[:1], graph="test")


def test_tied_tables_are_read_twice_and_stored_once(tmp_path: Path) -> None:
    sizes = []
    for tied in (True, False):
        folder = tmp_path / str(tied)
        folder.mkdir()
        plain = tiny_source(config(layers=1, **WIDE, tied_head=tied))
        source = stored_as(plain, {"": "Q8_0"}, folder / "weights.bin")
        Lowered(lower(source), folder)
        sizes.append(sum(path.stat().st_size for path in folder.glob("*.data")))
    codes, scales = 40 * 256, 40 * 8 * 4
    assert sizes[1] - sizes[0] == codes + scales

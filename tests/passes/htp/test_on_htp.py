"""The lowered graphs go through HTP's compiler whole, and its simulator computes what they say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.htp_graphs import (
    VARIANTS,
    boundary,
    encodings,
    generate,
    lower,
    make_source,
    reference,
    session,
)

from modelc.decoder.config import DecoderSource, Rope
from modelc.ir.packing.given_scales import GivenScales
from modelc.ir.packing.kinds import MATRIX_KINDS
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import CompileOptions, compile_graphs
from modelc.targets.snapdragon.simulate import run_graph
from modelc.verify.metrics import sqnr_db

pytest.importorskip("onnxruntime_qnn", reason="HTP's compiler is not here")
pytestmark = pytest.mark.simulator

Arrays = Mapping[str, np.ndarray]
# What differs in operators.
QUANTISED = ["partial rope", "qwen2", "qwen3", "gemma2"]


class Recorded:
    """Runs a graph on ONNX Runtime and keeps what went in and came out."""

    def __init__(self, model: ir.Model, path: Path) -> None:
        self._run = session(model, path)
        self.calls: list[tuple[Arrays, Arrays]] = []

    def __call__(self, feeds: Arrays) -> Arrays:
        made = self._run(feeds)
        self.calls.append((dict(feeds), dict(made)))
        return made


def on_htp(model: Path, recorded: Recorded, folder: Path, *, fp16: bool) -> list[Arrays]:
    """Compile a graph (a node that HTP refuses is an error) and run it on the recorded feeds."""
    made = compile_graphs(
        {model.stem: model},
        find_chipset("snapdragon-8-elite"),
        CompileOptions(fp16=fp16),
        folder / f"{model.stem}.bin",
        workdir=folder,
        timeout_s=120,
    )
    feeds = [taken for taken, _ in recorded.calls]
    return run_graph(made.wrappers[model.stem], feeds, workdir=folder, timeout_s=120)


def agreements_db(
    source: DecoderSource, model: ir.Model, folder: Path, *outputs: str
) -> list[float]:
    """Return how close HTP comes to the CPU in each output, over all calls of a generation."""
    path = folder / "prompt_ar4_cl24_1_of_1.onnx"
    recorded, edge = Recorded(model, path), boundary(model)
    generate(source, {4: recorded}, edge)
    (folder / "htp").mkdir()
    found = on_htp(path, recorded, folder / "htp", fp16=False)
    calls = [(wanted, made) for (_, wanted), made in zip(recorded.calls, found, strict=True)]
    agreed = []
    for output in outputs:
        pairs = [(wanted[output], made[output]) for wanted, made in calls]
        values = edge.dequantise(output, np.array(pairs))
        agreed.append(sqnr_db(values[:, 0], values[:, 1]))
    return agreed


@pytest.mark.parametrize("variant", QUANTISED)
def test_quantised(variant: str, tmp_path: Path) -> None:
    source = make_source(tmp_path, **VARIANTS[variant])
    known = encodings(source)
    names = {4: "prompt_ar4_cl24_1_of_1", 1: "token_ar1_cl24_1_of_1"}
    graphs, edge = {}, None
    for ar, name in names.items():
        model = lower(source, "Quantise", ar, encodings=known)
        graphs[ar], edge = Recorded(model, tmp_path / f"{name}.onnx"), boundary(model)
    expected = generate(source, graphs, edge)
    assert sqnr_db(reference(source), expected) > 25
    for ar, name in names.items():
        (tmp_path / "htp").mkdir(exist_ok=True)
        found = on_htp(tmp_path / f"{name}.onnx", graphs[ar], tmp_path / "htp", fp16=False)
        caches, logits = [], []
        for (_, wanted), made in zip(graphs[ar].calls, found, strict=True):
            logits.append(edge.dequantise("logits", np.stack([wanted["logits"], made["logits"]])))
            # The first layer's: later ones inherit errors.
            caches += [
                made[f"past_{kind}_0_out"].astype(int) - wanted[f"past_{kind}_0_out"]
                for kind in ("key", "value")
            ]
        assert sqnr_db(*np.stack(logits, axis=1)) > 30
        # Rounded to nearest: off by one step at most, hardly ever, and to no side.
        steps = np.concatenate([cache.ravel() for cache in caches])
        assert np.abs(steps).max() <= 1
        assert np.mean(steps != 0) < 0.1


@pytest.mark.parametrize(
    ("kind", "head"),
    [("w8", "w16"), ("w4", "w8"), ("w4_b32", "w4"), ("w4_b64", "w8"), ("w4_lpbq", "w8")],
)
def test_kinds_of_matrices(kind: str, head: str, tmp_path: Path) -> None:
    """Codes of 4 bits taken for unsigned, or blocks for channels, would leave nothing."""
    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "rope": Rope(dim=32)}
    source = make_source(tmp_path, layers=1, attention_scale=32**-0.5, **sizes)
    weights = {"": kind, "model.embed_tokens": "w16", "lm_head": head}
    model = lower(source, "Quantise", encodings=encodings(source), weights=weights)
    (logits,) = agreements_db(source, model, tmp_path, "logits")
    assert logits > 38


@pytest.mark.parametrize("kind", ["w8", "w4_lpbq"])
def test_given_scales(kind: str, tmp_path: Path) -> None:
    """Of AIMET, whose codes begin at -128, and whose factors of blocks end at 16."""
    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "rope": Rope(dim=32)}
    source = make_source(tmp_path, layers=1, attention_scale=32**-0.5, **sizes)
    form, scales = MATRIX_KINDS[kind], {}
    for name in (f"model.layers.0.mlp.{which}_proj" for which in ("gate", "up", "down")):
        values = source.weights[f"{name}.weight"].decode()
        blocks = values.reshape(len(values), -1, form.block or values.shape[1])
        steps = (np.abs(blocks).max(-1) / (1.2 * form.highest)).astype(np.float32)
        factors = None
        if form.scale_bits:
            steps, wanted = steps.max(1, keepdims=True) / 16, steps
            factors = np.clip(np.rint(wanted / steps), 1, 16).astype(np.uint8)
        scales[name] = GivenScales(kind, 0, steps, factors)
    weights = {"": "w8", "model.layers.0.mlp": kind, "model.embed_tokens": "w16"}
    model = lower(source, "Quantise", encodings=encodings(source), weights=weights, scales=scales)
    codes = model.graph.initializers["model.layers.0.mlp.up_proj.weight.codes"].const_value
    assert codes.numpy().astype(int).min() == -form.highest - 1
    (logits,) = agreements_db(source, model, tmp_path, "logits")
    assert logits > 38


def test_a_cache_of_16_bits(tmp_path: Path) -> None:
    """MatMul rounds it to 8 bits, as it does with all second operands that vary."""
    source = make_source(tmp_path)
    model = lower(source, "Quantise", encodings=encodings(source, kv="uint16"))
    keys, logits = agreements_db(source, model, tmp_path, "past_key_0_out", "logits")
    assert keys > 60 and logits > 25


def test_half_precision(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    model = lower(source, "ScaleQueries")
    recorded = Recorded(model, tmp_path / "prompt_ar4_cl24_1_of_1.onnx")
    generate(source, {4: recorded})
    (tmp_path / "htp").mkdir()
    found = on_htp(tmp_path / "prompt_ar4_cl24_1_of_1.onnx", recorded, tmp_path / "htp", fp16=True)
    for (_, wanted), made in zip(recorded.calls, found, strict=True):
        # The first token of a chunk is never padding, of which a float mask makes anything.
        assert sqnr_db(wanted["logits"][:, 0], made["logits"][:, 0]) > 45

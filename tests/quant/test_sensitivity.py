"""What a matrix costs, against the whole model run with that matrix alone quantised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import random_models
from support.whole_reference import WholeReference

from modelc.decoder.builder import build_decoder
from modelc.frontends import read_model
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.kinds import KINDS
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.quant.sensitivity import measure_sensitivity

SAMPLES = np.random.default_rng(0).integers(0, 384, (4, 60)).tolist()
CANDIDATES = ("w8", "w4_b32", "w4")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    folder = random_models.make("llama", tmp_path_factory.mktemp("llama"))
    return build_decoder(read_model(folder), 64)


@pytest.fixture(scope="module")
def modules(model: ir.Model) -> list[str]:
    """Modules with a matrix but the table."""
    return [
        name.removesuffix(".weight")
        for name, value in model.graph.initializers.items()
        if any(use.node.op_type == "MatMul" for use in value.uses())
    ]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    return wide - np.logaddexp.reduce(wide, axis=-1, keepdims=True)


def divergences(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    log_p, log_q = log_softmax(expected), log_softmax(found)
    return np.sum(np.exp(log_p) * (log_p - log_q), -1)


def logits(model: ir.Model) -> list[np.ndarray]:
    runs = WholeReference(model)
    rows = []
    for sample in SAMPLES:
        runs.reset()
        rows.append(runs.step(np.asarray([sample]))[0])
    return rows


def with_weight(model: ir.Model, name: str, values: np.ndarray) -> ir.Model:
    copy = model.clone()
    copy.graph.initializers[name].const_value = ir.Tensor(np.ascontiguousarray(values), name=name)
    return copy


def in_kind(model: ir.Model, module: str, kind: str) -> ir.Model:
    """The whole model with one matrix [inputs, outputs] as its codes stand for."""
    tensor = model.graph.initializers[f"{module}.weight"].const_value
    assert tensor is not None
    rows = np.ascontiguousarray(tensor.numpy().T)
    return with_weight(
        model, f"{module}.weight", dequantise_rows(quantise_rows(rows, KINDS[kind])).T
    )


def exact(model: ir.Model, module: str, kind: str) -> float:
    pairs = zip(logits(model), logits(in_kind(model, module, kind)), strict=True)
    return float(np.concatenate([divergences(*pair) for pair in pairs]).mean())


def test_it_is_what_the_whole_model_says(model: ir.Model, modules: list[str]) -> None:
    table = measure_sensitivity(model, dict.fromkeys(modules, CANDIDATES), SAMPLES, divergences)
    assert set(table) == set(modules)
    for module in ("model.layers.0.mlp.down_proj", "model.layers.1.self_attn.v_proj", "lm_head"):
        noisiest = table[module]["w4"]
        assert noisiest == pytest.approx(exact(model, module, "w4"), rel=1e-3)
        for kind in CANDIDATES:
            assert table[module][kind] == pytest.approx(exact(model, module, kind), rel=0.3)
        assert 0 < table[module]["w8"] < table[module]["w4_b32"] < noisiest


def test_the_table_is_measured_as_one(model: ir.Model) -> None:
    name = "model.embed_tokens"
    table = measure_sensitivity(model, {name: ("w16", "w8")}, SAMPLES, divergences)
    tensor = model.graph.initializers[f"{name}.weight"].const_value
    assert tensor is not None
    values = tensor.numpy().astype(np.float64)
    low, high = min(values.min(), 0), max(values.max(), 0)
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    rounded = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
    pairs = zip(
        logits(model),
        logits(with_weight(model, f"{name}.weight", rounded.astype(np.float32))),
        strict=True,
    )
    wanted = np.concatenate([divergences(*pair) for pair in pairs]).mean()
    assert table[name]["w8"] == pytest.approx(wanted, rel=0.05)
    assert table[name]["w16"] < table[name]["w8"] / 1000


def test_one_stream_for_a_layer_shares_it_out_by_noise(model: ir.Model, modules: list[str]) -> None:
    candidates = dict.fromkeys(modules, CANDIDATES)
    each = measure_sensitivity(model, candidates, SAMPLES, divergences)
    shared = measure_sensitivity(model, candidates, SAMPLES, divergences, each_matrix=False)
    assert shared["lm_head"] == each["lm_head"]
    ratios = [shared[module]["w4"] / each[module]["w4"] for module in modules]
    assert min(ratios) > 0.4
    assert max(ratios) < 2.5
    layer = [module for module in modules if module.startswith("model.layers.0.")]
    sums = [sum(table[module]["w4"] for module in layer) for table in (each, shared)]
    assert sums[1] == pytest.approx(sums[0], rel=0.3)


def test_a_run_that_was_killed_goes_on(model: ir.Model, modules: list[str], tmp_path: Path) -> None:
    candidates = dict.fromkeys(modules, CANDIDATES)
    whole = measure_sensitivity(model, candidates, SAMPLES, divergences)

    class Killed(Exception):
        pass

    done: list[str] = []

    def kill_in_the_last_layer(fraction: float, name: str) -> None:
        done.append(name)
        if len(done) == 2:
            raise Killed

    with pytest.raises(Killed):
        measure_sensitivity(
            model, candidates, SAMPLES, divergences, partial=tmp_path,
            progress=kill_in_the_last_layer,
        )  # fmt: skip
    later: list[str] = []
    again = measure_sensitivity(
        model, candidates, SAMPLES, divergences, partial=tmp_path,
        progress=lambda fraction, name: later.append(name),
    )  # fmt: skip
    assert again == whole
    assert len(later) == 1  # embedding and first layer were there


def test_a_kept_walk_that_is_torn_begins_anew(
    model: ir.Model, modules: list[str], tmp_path: Path
) -> None:
    candidates = dict.fromkeys(modules, ("w8", "w4"))
    whole = measure_sensitivity(model, candidates, SAMPLES, divergences, partial=tmp_path)
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-30])
    again = measure_sensitivity(model, candidates, SAMPLES, divergences, partial=tmp_path)
    assert again == whole

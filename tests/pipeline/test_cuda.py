"""Launch plans for CUDA, run on the CPU: they compute what the canonical graph does, in every
architecture, at every level of fusing, alone, together and shared by several devices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import random_models
from support.cuda_models import CONTEXT, decibels, float_logits, opened, options, write_plan

from modelc.errors import BadInput, Damaged
from modelc.frontends import read_model
from modelc.pipeline.cuda_plan import lower
from modelc.targets.cuda.estimate import largest, memory_of
from modelc.targets.cuda.plan import load_plan
from modelc.targets.cuda.runtime import PlanRuntime
from modelc.targets.runtime import Sampling

TOKENS = [int(n) for n in np.random.default_rng(0).integers(0, random_models.VOCAB, 70)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def made(identity: str, models: Path) -> Path:
    folder = models / identity
    return folder if folder.exists() else random_models.make(identity, folder)


def decoded(runtime: PlanRuntime, logits: np.ndarray) -> float:
    detail = runtime.findings(TOKENS, logits)[0].detail
    return float(detail.split()[1])


@pytest.mark.parametrize(
    ("identity", "opt"),
    [
        ("llama-bias", 3),
        ("llama-tied", 0),
        ("mistral", 3),
        ("qwen2", 1),
        ("qwen3-window", 3),
        ("gemma2", 2),
        ("phi3-partial-longrope", 3),
        ("mixtral", 3),
        ("qwen2_moe", 0),
        ("qwen3_moe", 3),
    ],
)
def test_a_plan_computes_what_the_canonical_graph_does(
    identity: str, opt: int, models: Path, tmp_path: Path
) -> None:
    model = read_model(made(identity, models))
    runtime = opened(model, tmp_path, options(model, opt=opt))
    logits = runtime.logits(TOKENS)  # several chunks
    assert decibels(logits, float_logits(model, TOKENS)) > 110
    assert decoded(runtime, logits) > 110


@pytest.mark.parametrize(
    ("kind", "act", "floor"),
    [("w4_b32", "fp16", 8), ("u4_b32", "bf16", 8), ("e4m3", "bf16", 12), ("e4m3_b128", "bf16", 12)],
)
def test_coded_weights(kind: str, act: str, floor: float, models: Path, tmp_path: Path) -> None:
    model = read_model(made("llama-bias", models))
    runtime = opened(model, tmp_path, options(model, kind, act=act))
    logits = runtime.logits(TOKENS)
    assert floor < decibels(logits, float_logits(model, TOKENS)) < 40


@pytest.mark.parametrize(
    ("identity", "kind"), [("llama-bias", "e4m3_channel"), ("mixtral", "e4m3")]
)
def test_norms_write_the_codes_that_layers_read(
    identity: str, kind: str, models: Path, tmp_path: Path
) -> None:
    model = read_model(made(identity, models))
    apart = opened(model, tmp_path / "2", options(model, kind, act="bf16", opt=2))
    fused = opened(model, tmp_path / "3", options(model, kind, act="bf16", opt=3))
    assert np.array_equal(fused.logits(TOKENS), apart.logits(TOKENS))

    def launched(name: str) -> list[str]:
        plan = load_plan(tmp_path / name / "plan.json")
        prefill = next(one for one in plan.functions if one.kind == "prefill")
        return [plan.variants[call.kernel].kernel for call in prefill.calls]

    assert "add_rms_norm_fp8" in launched("3") and "add_rms_norm_fp8" not in launched("2")
    assert len(launched("3")) < len(launched("2"))
    assert load_plan(tmp_path / "3" / "plan.json").captures
    assert not load_plan(tmp_path / "2" / "plan.json").captures


def test_what_is_left_to_torch_is_listed(models: Path, tmp_path: Path) -> None:
    model = read_model(made("llama-bias", models))
    least = write_plan(model, tmp_path / "0", options(model, opt=0))
    assert set(least.operators()) == {"Concat", "Mul", "Sigmoid"}
    assert least.operators()["Concat"] == [f"model.layers.{n}.self_attn" for n in range(2)]
    assert write_plan(model, tmp_path / "3", options(model)).operators() == {}


def test_a_cache_of_e4m3(models: Path, tmp_path: Path) -> None:
    model = read_model(made("llama-bias", models))
    runtime = opened(model, tmp_path, options(model, act="bf16", kv="e4m3"))
    assert 15 < decibels(runtime.logits(TOKENS), float_logits(model, TOKENS)) < 40
    assert runtime.generate(TOKENS[:9], Sampling(), 5, []).token_ids


@pytest.mark.parametrize("identity", ["llama-bias", "mixtral"])
def test_two_devices_compute_what_one_does(identity: str, models: Path, tmp_path: Path) -> None:
    folder = made(identity, models)
    model = read_model(folder)
    one = opened(model, tmp_path / "one", options(model, max_batch=2))
    expected, text = one.logits(TOKENS), one.generate(TOKENS[:7], Sampling(), 8, []).token_ids
    # In a process of its own: a group of devices is for the whole of one.
    write_plan(model, tmp_path / "two", options(model, max_batch=2, ranks=2))
    script = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from modelc.targets.cuda.runtime import open_runtime\n"
        "from modelc.targets.runtime import Sampling\n"
        "folder, tokens = Path(sys.argv[1]), eval(sys.argv[2])\n"
        "runtime = open_runtime({'plan': folder / 'plan.json'}, {'engine': 'reference'})\n"
        "np.save(folder / 'logits.npy', runtime.logits(tokens))\n"
        "print(runtime.generate(tokens[:7], Sampling(), 8, []).token_ids)\n"
        "runtime.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "two"), str(TOKENS)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert decibels(np.load(tmp_path / "two" / "logits.npy"), expected) > 110
    assert done.stdout.strip().endswith(str(text))


def test_heads_that_cannot_be_shared_are_refused(models: Path) -> None:
    model = read_model(made("llama-bias", models))
    with pytest.raises(BadInput, match="can't be shared by 3 devices"):
        write_plan(model, models / "three", options(model, ranks=3))


def test_blocks_are_not_cut_between_devices(models: Path) -> None:
    model = read_model(made("llama-bias", models))
    with pytest.raises(BadInput, match="blocks of 128 inputs would be cut at 32"):
        write_plan(model, models / "cut", options(model, "e4m3_b128", ranks=2))


def test_memory_is_what_is_allocated(models: Path, tmp_path: Path) -> None:
    model = read_model(made("qwen3_moe", models))
    runtime = opened(model, tmp_path, options(model, act="bf16"))
    plan = load_plan(tmp_path / "plan.json")
    memory = memory_of(plan)
    assert memory.total == runtime.allocated
    assert memory.parameters == sum(
        tensor.nbytes for tensor in runtime._executor.memory.weights.values()
    )
    # What is said to fit does, and a page more does not.
    limit = memory.total + 123456
    fit = largest(plan, limit)
    page = plan.cache.layers * plan.cache.page_size
    pages = fit.sequences * -(-CONTEXT // plan.cache.page)
    held = memory.total - memory.cache
    assert held + pages * page <= limit < held + (pages + -(-CONTEXT // plan.cache.page)) * page


def test_plans_are_the_same_each_time(models: Path, tmp_path: Path) -> None:
    model = read_model(made("qwen3_moe", models))
    for name in ("a", "b"):
        write_plan(model, tmp_path / name, options(model, "w4_b32", act="fp16"))
    for file in ("plan.json", "weights.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"format":2', '"format":99', "format 99"),
        ('"offset":0', '"offset":1', "the place of"),
        ('"arena":', '"arena":1,"was":', "launch plan"),
        ('"kernel":"rms_norm-', '"kernel":"other-', "not there"),
        ("input_ids", "output_ids", "which is not there"),
    ],
)
def test_a_damaged_plan_is_refused(
    old: str, new: str, what: str, models: Path, tmp_path: Path
) -> None:
    model = read_model(made("llama-bias", models))
    write_plan(model, tmp_path, options(model))
    path = tmp_path / "plan.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(Damaged, match=what):
        load_plan(path)


def test_weights_of_another_plan_are_refused(models: Path, tmp_path: Path) -> None:
    model = read_model(made("llama-bias", models))
    opened(model, tmp_path, options(model))
    (tmp_path / "weights.safetensors").unlink()
    write_plan(model, tmp_path / "other", options(model, "w4_b32"))
    (tmp_path / "other" / "weights.safetensors").rename(tmp_path / "weights.safetensors")
    from modelc.targets.cuda.runtime import open_runtime

    with pytest.raises(Damaged, match="not the launch plan's weights: it has no"):
        open_runtime({"plan": tmp_path / "plan.json"}, {"engine": "reference"})


def test_estimating_reads_no_weight(models: Path, tmp_path: Path) -> None:
    model = read_model(made("llama-bias", models))
    from dataclasses import replace

    away = {name: replace(one, path=Path("absent.bin")) for name, one in model.weights.items()}
    from modelc.decoder.builder import build_decoder

    graph = build_decoder(replace(model, weights=away), CONTEXT)
    plan, _ = lower(graph, options(model, "w4_b32", act="fp16"), CONTEXT)
    assert memory_of(plan).parameters > 0

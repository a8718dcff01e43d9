"""The benchmarks start: what they import and the options that they name are there."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from modelc.decoder.builder import build_decoder
from modelc.decoder.rope import frequencies
from modelc.frontends import read_source
from modelc.reference.stream import StreamedReference

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = (
    *("cpu_generate", "compile_cost", "calibration_cost", "gptq_cost", "startup"),
    *("snapdragon_tiny", "snapdragon_compile", "quality", "card_export"),
    *("context_cache", "networks", "cuda_decode", "cuda_compile"),
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_says_what_it_takes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: most of them import what is here anyway."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 0
    assert f"usage: {name}.py" in capsys.readouterr().out


def test_decoding_on_a_gpu_says_that_it_needs_one() -> None:
    command = [sys.executable, str(FOLDER / "cuda_decode.py")]
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3
    assert "--small" in done.stderr


def test_what_a_decode_step_has_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters that a token meets and the cache, counted from the configuration alone."""
    monkeypatch.syspath_prepend(FOLDER)
    import cuda_bounds
    import cuda_models

    setting = cuda_models.Setting("qwen3-small", "bf16", 64, 2, 64)
    plan = cuda_models.make_plan(tmp_path, setting, 90)
    layer = (256 + 2 * 128) * 256 + 256 * 256 + 8 * 256 + 2 * 3 * 128 * 256  # two experts of 8
    norms = 4 * (2 * (2 * 256 + 2 * 64) + 256)
    read = 2 * (2 * layer + 512 * 256) + norms + 64 * 2 * 2 * 2 * 64 * 2
    function = plan.function_for("decode", 1)
    assert cuda_bounds.bytes_of_decode(plan, function, 1, 64) == read
    matrices = 2 * 64 * 2 * layer + 2 * 512 * 256
    attention = 2 * 2 * 64**2 * 4 * 64
    prefill = plan.function_for("prefill", 64)
    assert cuda_bounds.operations_of_prefill(plan, prefill, 64) == matrices + attention


def test_a_worker_answers_and_says_what_it_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("PYTHONPATH", str(FOLDER))
    import worker

    script = tmp_path / "serve_sums.py"
    script.write_text(
        "from worker import serve\n"
        "serve({'add': lambda a, b: {'sum': a + b}, 'fail': lambda: 1 / 0})\n"
    )
    child = worker.Worker(str(script))
    try:
        assert child.ask("add", a=2, b=3) == {"sum": 5}
        with pytest.raises(RuntimeError, match="fail: ZeroDivisionError"):
            child.ask("fail")
    finally:
        child.close()
    with pytest.raises((RuntimeError, ValueError)):
        child.ask("add", a=2, b=3)


def test_a_random_model_is_the_same_in_both_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are read whole, say the same text in the same tokens, and compute the same."""
    monkeypatch.syspath_prepend(FOLDER)
    import random_folder
    import random_gguf
    import random_models

    small = random_models.Shape(2, 64, 96, 4, 2, 16, 1200, 16384, tied=True, rope_factor=32.0)
    monkeypatch.setitem(random_models.SHAPES, "toy", small)
    sources = [
        read_source(random_gguf.make(tmp_path, "F16", size="toy")),
        read_source(random_folder.make(tmp_path, "toy")),
    ]
    configs = [source.config for source in sources]
    assert configs[0].layers == configs[1].layers == 2
    assert configs[0].tied_head and configs[1].tied_head
    divisors = [frequencies(config.rope, 4096) for config in configs]
    np.testing.assert_allclose(*divisors, rtol=1e-6)
    tokens = [
        Tokenizer.from_str(source.tokenizer.json).encode("In the beginning, 2 words").ids
        for source in sources
    ]
    assert tokens[0] == tokens[1]
    assert len(tokens[0]) < 22  # some are of several letters
    norms = [source.weights["model.layers.1.input_layernorm.weight"].decode() for source in sources]
    np.testing.assert_array_equal(*norms)
    matrices = [source.weights["model.layers.1.mlp.up_proj.weight"].decode() for source in sources]
    np.testing.assert_array_equal(*matrices)
    assert matrices[0].std() * 64**0.5 == pytest.approx(1, rel=0.05)
    logits = StreamedReference(build_decoder(sources[0], 64)).logits(tokens[0])
    assert 0.5 < logits.std() < 8

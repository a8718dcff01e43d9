"""From an exported program to a bundle, by the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.commands import modelc
from support.exported_programs import PROGRAM, read_parts, save_convolutions, write_parts

torch = pytest.importorskip("torch", reason="needs PyTorch, which reads this source")


def test_compile_and_run(tmp_path: Path) -> None:
    module = save_convolutions(tmp_path / "net.pt2")
    store, bundle = tmp_path / "store", tmp_path / "net.modelc"
    done = modelc(
        "compile", tmp_path / "net.pt2", "--target", "cpu", "--random-feeds", 1, "-o", bundle,
        store=store,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    image = np.random.default_rng(0).standard_normal((1, 3, 9, 9)).astype(np.float32)
    np.savez(tmp_path / "x.npz", image=image)
    done = modelc(
        "run", bundle, "--inputs", tmp_path / "x.npz", "-o", tmp_path / "y.npz", store=store
    )
    assert done.code == 0, done.stderr
    with torch.inference_mode():
        want = module(torch.from_numpy(image))
    found = np.load(tmp_path / "y.npz")
    for name, tensor in zip(("output_0", "output_1"), want, strict=True):
        np.testing.assert_allclose(found[name], tensor.numpy(), atol=1e-5)


def test_a_hostile_one_ends_with_status_2(tmp_path: Path) -> None:
    save_convolutions(tmp_path / "net.pt2")
    parts = read_parts(tmp_path / "net.pt2")
    parts[PROGRAM] = parts[PROGRAM].replace(b"torch.ops.aten.relu.default", b"os.system")
    hostile = write_parts(tmp_path / "hostile.pt2", parts)
    done = modelc("compile", hostile, "--target", "cpu", store=tmp_path / "store")
    assert done.code == 2
    assert "calls 'os.system'" in done.stderr and "hint:" in done.stderr
    assert "Traceback" not in done.stderr

"""The trained CNN of examples/digits, compiled for a chipset: what matters is the digits it reads.

540 images that neither training nor calibration has seen, in the HTP simulator.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import modelc
from modelc.pipeline.store import Store

pytest.importorskip("onnxruntime_qnn", reason="HTP's compiler is not here")

DIGITS = Path(__file__).parents[3] / "examples" / "digits"
LOST = 0.005  # of the accuracy in floats: half a point
BATCH = 4
TARGET = "snapdragon-8gen3"
# Of Mul and Add, which a batch normalisation becomes on its own, only the residuals' Add.
FOLDED = {"Conv", "Clip", "Add", "ReduceMean", "GlobalAveragePool", "Reshape", "Flatten", "Gemm"}
FOLDED |= {"QuantizeLinear", "DequantizeLinear"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Shared: what comes before quantisation is the same for all schemes."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def heldout() -> tuple[np.ndarray, np.ndarray]:
    with np.load(DIGITS / "heldout.npz") as saved:
        return saved["x"], saved["y"]


@pytest.fixture(scope="module")
def float_logits(heldout: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """What ONNX Runtime makes of the file as it is, which modelc has no part in."""
    session = ort.InferenceSession(DIGITS / "digits.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"x": heldout[0]})
    return np.asarray(logits)


def test_the_float_model_reads_digits(
    heldout: tuple[np.ndarray, np.ndarray], float_logits: np.ndarray
) -> None:
    """Otherwise a lost half point would mean nothing."""
    assert len(heldout[1]) == 540
    assert _accuracy(float_logits, heldout[1]) > 0.99


@pytest.mark.simulator
@pytest.mark.parametrize(
    ("scheme", "options", "min_sqnr_db"),
    [
        ("w8a8_pure", {}, 24.0),
        ("w8a16", {}, 28.0),
        ("w4a16", {"bias_correction": True}, 17.5),  # 15.5 without
        ("fp16", {}, 50.0),
    ],
)
def test_accuracy(
    scheme: str,
    options: dict[str, bool],
    min_sqnr_db: float,
    heldout: tuple[np.ndarray, np.ndarray],
    float_logits: np.ndarray,
    store: Store,
    tmp_path: Path,
) -> None:
    """Every node in 8 bits loses less than half a point; batch normalisation costs nothing."""
    images, digits = heldout
    calibration = {} if scheme == "fp16" else {"data": DIGITS / "calibration.npz", "samples": 32}
    bundle = modelc.compile(
        DIGITS / "digits.onnx",
        target=TARGET,
        quant=scheme,
        network={"dims": {"batch": BATCH}, **options},
        calibration=calibration,
        verify={"data": DIGITS / "heldout.npz", "samples": 1},
        output=tmp_path / "digits",
        store=store,
    )
    assert isinstance(bundle, modelc.NetworkBundle)
    operators = json.loads((bundle.path / TARGET / "operators.json").read_text())
    assert {row["op_type"] for row in operators} <= FOLDED
    made = bundle.run({"x": part} for part in images.reshape(-1, BATCH, *images.shape[1:]))
    logits = np.concatenate([outputs["logits"] for outputs in made])
    assert _accuracy(logits, digits) >= _accuracy(float_logits, digits) - LOST
    noise = np.square(float_logits - logits).sum()
    assert 10 * np.log10(np.square(float_logits).sum() / noise) > min_sqnr_db
    assert not np.array_equal(logits, float_logits)  # it is not the float model that ran


def test_the_module_is_the_file(
    heldout: tuple[np.ndarray, np.ndarray], float_logits: np.ndarray
) -> None:
    """digits.py:build gives the network that digits.onnx holds; PyTorch runs it."""
    torch = pytest.importorskip("torch", reason="needs PyTorch, in which it is written")
    built = runpy.run_path(str(DIGITS / "digits.py"))["build"]()
    with torch.inference_mode():
        made = built.eval()(torch.from_numpy(heldout[0]))
    np.testing.assert_allclose(made["logits"].numpy(), float_logits, atol=1e-4)


def _accuracy(logits: np.ndarray, digits: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == digits).mean())

"""Detectors, whose outputs' sizes depend on what they see, in two parts: HTP's and the CPU's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from support.commands import Ran
from support.detectors import images, write_detector, write_proposals

import modelc
from modelc.api import NetworkBundle, QNNCompiler
from modelc.errors import BelowThreshold
from modelc.pipeline.store import Store
from modelc.targets.snapdragon.network.run import run_network

Call = Callable[..., Ran]
CHIPSET = "snapdragon-8gen3"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("source") / "detector.onnx")


@pytest.fixture(scope="module")
def samples(source: Path) -> Path:
    np.savez(source.parent / "samples.npz", x=images(6))
    return source.parent / "samples.npz"


@pytest.fixture(scope="module")
def quantised(source: Path, samples: Path, shared_store: Path) -> Path:
    output = source.parent / "bundle"
    modelc.compile(
        source,
        target=CHIPSET,
        quant="w8a16",
        calibration_data=samples,
        network_dims={"batch": 1},
        network_allow_cpu_fallback=True,
        verify_samples=3,
        output=output,
        store=Store(shared_store),
    )
    return output


def on_cpu(source: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": image}), strict=True))


def test_without_the_flag_it_is_refused(source: Path, call: Call, tmp_path: Path) -> None:
    done = call("compile", source, "-t", CHIPSET, "--dim", "batch=1", "-o", tmp_path / "out")
    assert done.code == 2 and "--allow-cpu-fallback" in done.stderr
    assert "NonMaxSuppression in nms" in done.stderr and not (tmp_path / "out").exists()


def test_on_the_cpu(source: Path, call: Call, tmp_path: Path) -> None:
    """One graph, of which the head is optimised as ever."""
    done = call("compile", source, "-t", "cpu", "--dim", "batch=1", "-o", tmp_path / "out")
    assert done.code == 0, done.stderr
    assert not list((tmp_path / "out").glob("tail*"))
    (image,) = images(1, seed=7)
    found = NetworkBundle.open(tmp_path / "out").run({"x": image})[0]
    for name, array in on_cpu(source, image).items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)
    assert call("verify", tmp_path / "out", "--json").json()["passed"]


@pytest.mark.simulator
def test_both_parts_run(quantised: Path, source: Path, call: Call, tmp_path: Path) -> None:
    batch = images(3, seed=5) * np.array([0.5, 1, 2], np.float32).reshape(3, 1, 1, 1, 1)
    found = NetworkBundle.open(quantised).run([{"x": image} for image in batch])
    counts = set()
    for image, made in zip(batch, found, strict=True):
        wanted = on_cpu(source, image)
        assert list(made) == list(wanted)
        counts.add(len(made["boxes"]))
        same = np.isin(np.round(wanted["boxes"]), np.round(made["boxes"])).all(axis=1)
        assert same.mean() > 0.8 and abs(len(made["boxes"]) - len(same)) <= 1
    assert len(counts) > 1
    np.savez(tmp_path / "x.npz", x=batch)
    told = call("run", quantised, "--inputs", tmp_path / "x.npz", "-o", tmp_path / "y.npz").stdout
    assert "htp-simulator+onnxruntime" in told
    with np.load(tmp_path / "y.npz") as saved:
        np.testing.assert_array_equal(saved["0/boxes"], found[0]["boxes"])


@pytest.mark.simulator
def test_what_runs_where_is_told(quantised: Path, source: Path, call: Call) -> None:
    manifest = json.loads((quantised / "manifest.json").read_text())
    assert {graph["file"] for graph in manifest["graphs"]} == {
        f"{CHIPSET}/network.onnx", "tail.onnx",
    }  # fmt: skip
    partition = manifest["settings"]["chipsets"][CHIPSET]["partition"]
    placed = {(row["op_type"], row["module"]) for row in partition["cpu"]}
    assert ("NonMaxSuppression", "nms") in placed and ("Conv", "boxes") not in placed
    assert {"/boxes/Conv", "/scores/Conv"} <= set(partition["htp"][0])
    assert "| NonMaxSuppression | nms |" in (quantised / "report.md").read_text()
    table = call("inspect", quantised, "--json").json()["on the CPU"]
    assert {row["op_type"] for row in table} == {op for op, _ in placed}
    done = call("inspect", source, "-t", CHIPSET, "--dim", "batch=1", "--json").json()
    assert {row["op_type"] for row in done if row["becomes"] == "refused"} == {
        op for op, _ in placed
    }


@pytest.mark.simulator
def test_a_profile_lists_what_the_cpu_runs(quantised: Path, call: Call) -> None:
    found = call("profile", quantised, "--json").json()
    assert found["cycles"] > 0 and len(found["graphs"]) == 1
    assert {"Conv2d"} <= {row["kind"] for row in found["operators"]}
    assert "NonMaxSuppression" in {row["op_type"] for row in found["on_cpu"]}
    told = call("profile", quantised).stdout
    assert "on the CPU, not measured" in told and "NonMaxSuppression" in told


@pytest.mark.simulator
def test_what_is_verified(quantised: Path, call: Call) -> None:
    """What enters the tail by SQNR, what leaves it by agreement."""
    found = call("verify", quantised, "--json").json()
    assert found["passed"] and found["runtime"] == "htp-simulator+onnxruntime"
    assert {check["name"] for check in found["checks"]} == {
        "all_boxes.sqnr", "all_boxes.cosine", "all_scores.sqnr", "all_scores.cosine",
        "boxes.agreement", "scores.agreement", "labels.agreement",
    }  # fmt: skip
    assert found["outputs"]["all_scores"]["sqnr_db"] > 40
    assert found["outputs"]["labels"]["wanted"] > 0
    assert {row["op_type"] for row in found["on_cpu"][CHIPSET]} >= {"NonMaxSuppression"}


@pytest.mark.simulator
def test_a_bad_selection_fails(source: Path, shared_store: Path, tmp_path: Path) -> None:
    """Rounded so coarsely that other boxes are kept."""
    options = {"network_random_feeds": 2, "network_dims": {"batch": 1}, "verify_min_sqnr_db": -99}
    with pytest.raises(BelowThreshold, match=r"boxes\.agreement 0\.\d+ of \d+ rows and \d+ here"):
        modelc.compile(
            source, target=CHIPSET, quant="w8a8_pure", verify_min_cosine=-1,
            verify_min_agreement=1.0, network_allow_cpu_fallback=True, output=tmp_path / "out",
            store=Store(shared_store), **options,
        )  # fmt: skip


@pytest.mark.simulator
def test_proposals_with_an_if(call: Call, tmp_path: Path) -> None:
    source = write_proposals(tmp_path / "proposals.onnx")
    done = call("compile", source, "-t", CHIPSET, "--dim", "batch=1", "--allow-cpu-fallback",
                "-o", tmp_path / "out")  # fmt: skip
    assert done.code == 0, done.stderr
    assert "TopK" in done.stdout and "on the CPU of" in done.stdout
    (image,) = images(1, seed=3)
    found = NetworkBundle.open(tmp_path / "out").run({"x": image})[0]["best"]
    np.testing.assert_allclose(found, on_cpu(source, image)["best"], rtol=0.01)


@pytest.mark.simulator
def test_a_dlc_comes_with_the_tail(source: Path, shared_store: Path, tmp_path: Path) -> None:
    compiler = QNNCompiler(store=Store(shared_store))
    made = compiler.compile(source, tmp_path / "detector.dlc", target_device="Snapdragon 8 Gen 3",
                            dims={"batch": 1}, network_allow_cpu_fallback=True)  # fmt: skip
    assert made.is_file()
    feeds = {"all_boxes": np.zeros((1, 64, 4), "f"), "all_scores": np.zeros((1, 3, 64), "f")}
    assert ort.InferenceSession(tmp_path / "tail.onnx").run(["boxes"], feeds)[0].shape == (0, 4)


@pytest.mark.simulator
def test_a_tail_takes_codes(
    source: Path, samples: Path, shared_store: Path, call: Call, tmp_path: Path
) -> None:
    """Both parts as an application has them that knows codes alone; and `run`, which converts."""
    bundle = modelc.compile(
        source, target=CHIPSET, quant="w8a16", calibration_data=samples, verify_samples=3,
        network_dims={"batch": 1}, network_allow_cpu_fallback=True, network_boundary="codes",
        output=tmp_path / "out", store=Store(shared_store),
    )  # fmt: skip
    assert isinstance(bundle, NetworkBundle)
    assert call("verify", tmp_path / "out", "--json").json()["passed"]
    tail = ort.InferenceSession(tmp_path / "out/tail.onnx", providers=["CPUExecutionProvider"])
    types = {value.name: value.type for value in tail.get_inputs()}
    assert types == {"all_boxes": "tensor(uint16)", "all_scores": "tensor(uint16)"}
    (image,) = images(1, seed=5)
    codes = bundle.manifest.settings["codes"]
    x = np.rint(image / codes["x"]["scale"]) + codes["x"]["zero_point"]
    given = {"x": np.clip(x, 0, 65535).astype(np.uint16)}
    wrapper = tmp_path / "out" / CHIPSET / "network.onnx"
    [made] = run_network(wrapper, [given], workdir=tmp_path, timeout_s=120)
    assert {array.dtype.name for array in made.values()} == {"uint16"}
    names = [value.name for value in tail.get_outputs()]
    selected = dict(zip(names, tail.run(names, made), strict=True))
    (found,) = bundle.run({"x": image})
    for name, array in selected.items():
        np.testing.assert_array_equal(found[name], array)
    assert len(found["boxes"]) > 0
    taken = {g.name: {t.dtype for t in g.inputs} for g in bundle.manifest.graphs}
    assert taken == {"network": {"uint16"}, "tail": {"uint16"}}

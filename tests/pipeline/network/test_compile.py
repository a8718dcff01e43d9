"""A network from its file to bundles that give ONNX Runtime's numbers, and what goes wrong."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support.commands import Ran
from support.library_doubles import DOUBLE
from support.network_sources import SIZE, images, write_classifier, write_samples
from support.sdk_doubles import HOST, make_sdk

import modelc
from modelc.api import Bundle, NetworkBundle, QNNCompiler
from modelc.api.qnn import find_device
from modelc.errors import BadInput, BelowThreshold
from modelc.ir import network_encodings
from modelc.pipeline.store import Store
from modelc.quant.network.aimet_form import overrides_text
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.dlc import read_dlc

pytestmark = pytest.mark.simulator
Call = Callable[..., Ran]
TARGET = ("-t", "snapdragon-8gen3", "--dim", "batch=1")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("source") / "classifier.onnx")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("samples") / "samples.npz")


@pytest.fixture(scope="module")
def quantised(source: Path, samples: Path, shared_store: Path, tmp_path_factory: object) -> Path:
    """A bundle in every format for two chipsets."""
    output = samples.parent / "bundle"
    bundle = modelc.compile(
        source,
        target="snapdragon-8gen3,qcs6490",
        quant="w8a8",
        calibration_data=samples,
        format=["context-binary", "dlc", "cpp"],
        network_dims={"batch": 1},
        verify_samples=4,
        output=output,
        store=Store(shared_store),
    )
    assert isinstance(bundle, NetworkBundle)
    return output


def on_cpu(source: Path, batch: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    return np.stack([session.run(None, {"x": sample})[0] for sample in batch])


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


def test_all_formats_for_two_chipsets(quantised: Path, source: Path, tmp_path: Path) -> None:
    names = {path.relative_to(quantised).as_posix() for path in quantised.rglob("*.*")}
    for chipset in ("snapdragon-8gen3", "qcs6490"):
        files = ("network.bin", "network.onnx", "network.dlc", "saver_output.c", "params.bin")
        assert names >= {f"{chipset}/{file}" for file in files}
        info = read_dlc(quantised / chipset / "network.dlc", workdir=tmp_path)
        assert [tensor.name for tensor in info.graphs[0].inputs] == ["x"]
    manifest = json.loads((quantised / "manifest.json").read_text())
    told = manifest["settings"]["chipsets"]
    assert {name: row["htp_arch"] for name, row in told.items()} == {
        "snapdragon-8gen3": "v75",
        "qcs6490": "v68",
    }
    batch = images(3, seed=9)
    for chipset in told:
        made = NetworkBundle.open(quantised, chipset=chipset).run([{"x": x} for x in batch])
        found = np.stack([row["y"] for row in made])
        assert cosine(found, on_cpu(source, batch)) > 0.999


def test_commands(quantised: Path, source: Path, call: Call, tmp_path: Path) -> None:
    inputs = write_samples(tmp_path / "x.npz", 2, seed=5)
    told = call("run", quantised, "--inputs", inputs, "-o", tmp_path / "y.npz", "--json").json()
    assert told["runtime"] == "htp-simulator" and told["samples"] == 2
    with np.load(tmp_path / "y.npz") as found:
        assert cosine(found["y"], on_cpu(source, images(2, seed=5))) > 0.999
    assert call("verify", quantised, "--json").json()["passed"]
    profile = call("profile", quantised, "--json").json()
    assert profile["source"] == "htp-simulator" and profile["cycles"] > 0
    modules = {module for row in profile["operators"] for module in row["modules"]}
    assert "classifier" in modules
    costs = {row["op_type"]: row for row in profile["costs"]}
    assert costs["Conv"]["macs"] == 8 * SIZE * SIZE * 3 * 9
    done = call("run", quantised, "--prompt", "hello")
    assert done.code == 2 and "--inputs" in done.stderr
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, x=np.zeros((1, 3, 8, 8), "f"))
    done = call("run", quantised, "--inputs", wrong)
    assert done.code == 2 and "[1, 3, 8, 8]" in done.stderr
    with pytest.raises(BadInput, match="no decoder"):
        Bundle.open(quantised)


def test_every_file_can_be_inspected(quantised: Path, source: Path, call: Call) -> None:
    folder = quantised / "snapdragon-8gen3"
    kinds = {
        name: call("inspect", folder / name, "--json").json()["kind"]
        for name in ("network.bin", "network.onnx", "network.dlc", "saver_output.c")
    }
    assert kinds == {
        "network.bin": "context-binary",
        "network.onnx": "onnx that loads a context binary",
        "network.dlc": "dlc",
        "saver_output.c": "qnn source",
    }
    told = call("inspect", source, "--json").json()
    assert told["facts"]["open_sizes"] == {"batch": "x.0"}


def test_a_bundle_is_shown_without_what_only_decoders_have(quantised: Path, call: Call) -> None:
    """And with what it takes and gives, how it was verified, and what runs where; the JSON form has
    the whole manifest."""
    shown = call("inspect", quantised).stdout
    assert "recipe.network.per_tensor" in shown and "recipe.calibration.samples" in shown
    for word in ("context_length", "recipe.ar", "qaic", "cuda", "kv_bits", "min_top1", "gguf"):
        assert word not in shown, word
    found = call("inspect", quantised, "--json").json()
    manifest = json.loads((quantised / "manifest.json").read_text())
    assert found["facts"]["recipe"] == manifest["recipe"]
    assert found["facts"]["settings"] == manifest["settings"]
    assert found["inputs"] == [{"name": "x", "type": "float32", "shape": [1, 3, SIZE, SIZE]}]
    checks = json.loads((quantised / "verification.json").read_text())["checks"]
    assert [(row["check"], row["found"]) for row in found["checks"]] == [
        (row["name"], row["detail"]) for row in checks
    ]
    rows = {row["chipset"]: row for row in found["binaries"]}
    assert rows.keys() == {"snapdragon-8gen3", "qcs6490"}
    for row in rows.values():
        assert (row["parts on HTP"], row["left to the CPU"]) == (1, 0) and row["nodes on HTP"] > 5


def test_a_bundle_of_codes(source: Path, samples: Path, call: Call, tmp_path: Path) -> None:
    """The binary and the DLC take codes under the source's names; `run` and others convert."""
    done = call(
        "compile", source, *TARGET, "--quant", "w8a8", "--calibration-data", samples,
        "--boundary", "codes", "--format", "context-binary,dlc", "-o", tmp_path / "b",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    (graph,) = call("inspect", tmp_path / "b/snapdragon-8gen3/network.bin", "--json").json()[
        "graphs"
    ]
    assert graph["name"].startswith("network_")
    dlc = read_dlc(tmp_path / "b/snapdragon-8gen3/network.dlc", workdir=tmp_path)
    edge = [*dlc.graphs[0].inputs, *dlc.graphs[0].outputs]
    assert [(tensor.name, tensor.dtype) for tensor in edge] == [("x", "uint8"), ("y", "uint8")]
    told = call("inspect", tmp_path / "b", "--json").json()
    assert told["inputs"][0]["type"] == "float32" and told["inputs"][0]["codes"].startswith(
        "(uint8"
    )
    batch = images(3, seed=9)
    made = NetworkBundle.open(tmp_path / "b").run([{"x": x} for x in batch])
    assert cosine(np.stack([row["y"] for row in made]), on_cpu(source, batch)) > 0.999
    assert call("verify", tmp_path / "b", "--json").json()["passed"]
    assert call("profile", tmp_path / "b", "--json").json()["cycles"] > 0
    rows = call("debug", source, *TARGET, "--quant", "w8a8", "--calibration-data", samples,
                "--boundary", "codes", "--json").json()  # fmt: skip
    assert "y" in {row["tensor"] for row in rows}


def test_the_recipe_makes_the_same_again(
    quantised: Path, source: Path, samples: Path, shared_store: Path, tmp_path: Path
) -> None:
    """Data stays where it was; beside the recipe it is found again."""
    text = (quantised / "recipe.toml").read_text()
    sections = {line for line in text.splitlines() if line.startswith("[")}
    assert sections == {"[calibration]", "[verify]", "[overrides]", "[network]", "[network.dims]"}
    assert "context_length" not in text and "gguf" not in text
    recipe = tmp_path / "recipe.toml"
    shutil.copyfile(quantised / "recipe.toml", recipe)
    shutil.copyfile(samples, tmp_path / samples.name)
    again = modelc.compile(
        source, recipe=recipe, output=tmp_path / "again", store=Store(shared_store)
    )
    for name in ("encodings.json", "snapdragon-8gen3/network.bin", "manifest.json"):
        assert (again.path / name).read_bytes() == (quantised / name).read_bytes()


def test_float_and_cpu(source: Path, call: Call, tmp_path: Path) -> None:
    """Without data fp16 is what needs none, and the verification says that samples are made up."""
    done = call("compile", source, *TARGET, "-o", tmp_path / "fp16")
    assert done.code == 0, done.stderr
    assert "4 made-up samples" in done.stdout
    told = json.loads((tmp_path / "fp16/manifest.json").read_text())
    assert told["recipe"]["quant"] == "fp16"
    done = call("compile", source, "-t", "cpu", "--dim", "batch=1", "-o", tmp_path / "cpu")
    assert done.code == 0, done.stderr
    batch = images(2)
    made = NetworkBundle.open(tmp_path / "cpu").run([{"x": x} for x in batch])
    found = np.stack([row["y"] for row in made])
    assert np.abs(found - on_cpu(source, batch)).max() < 1e-6


def test_debug_says_where_it_is_lost(source: Path, samples: Path, call: Call) -> None:
    """A precision that is lowered in one place is what stands out."""
    arguments = ("debug", source, *TARGET, "--calibration-data", samples, "--json")
    rows = call(*arguments, "--quant", "w8a16", "--override", "classifier=a8").json()
    assert rows[0]["module"] == "classifier" and rows[0]["dtype"] == "uint8"
    assert rows[0]["inherited_db"] > rows[0]["sqnr_db"]
    assert call("debug", source, *TARGET, "--quant", "fp16").code == 2


def test_what_operators_become(call: Call, tmp_path: Path) -> None:
    source = write_classifier(tmp_path / "m.onnx", last="Hardmax")
    rows = call("inspect", source, *TARGET, "--json").json()
    by_name = {row["op_type"]: row for row in rows}
    assert by_name["BatchNormalization"]["becomes"] == "fused"
    assert by_name["MaxPool"]["becomes"] == "taken"
    hardmax = by_name["Hardmax"]
    assert hardmax["becomes"] == "decomposed" and hardmax["into"] and hardmax["reason"]
    refused = write_classifier(tmp_path / "r.onnx", last="IsInf")
    fix_output(refused, onnx.TensorProto.BOOL)
    (row,) = [r for r in call("inspect", refused, *TARGET, "--json").json() if r["reason"]]
    assert (row["op_type"], row["module"], row["becomes"]) == ("IsInf", "head", "refused")
    assert row["hint"]


def fix_output(path: Path, kind: int) -> None:
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.elem_type = kind
    onnx.save(model, path)


def test_a_refused_operator(call: Call, tmp_path: Path) -> None:
    """Told before anything is compiled, by its module path; to the CPU only when asked."""
    source = write_classifier(tmp_path / "r.onnx", last="IsInf")
    fix_output(source, onnx.TensorProto.BOOL)
    done = call("compile", source, *TARGET, "-o", tmp_path / "b")
    assert done.code == 2 and "IsInf" in done.stderr and "head" in done.stderr
    assert "--allow-cpu-fallback" in done.stderr and not (tmp_path / "b").exists()
    done = call("compile", source, *TARGET, "--allow-cpu-fallback", "-o", tmp_path / "b")
    assert done.code == 0, done.stderr
    report = (tmp_path / "b/report.md").read_text()
    assert "On the CPU of snapdragon-8gen3" in report and "| IsInf | head |" in report


WRONG: list[tuple[tuple[object, ...], str]] = [
    (("-t", "snapdragon-8gen3"), "sizes are open: batch"),
    (("-t", "snapdragon-8gen3", "--dim", "bach=1"), "batch"),
    ((*TARGET, "--quant", "w8a8"), "needs data to calibrate on"),
    ((*TARGET, "--quant", "w9a9"), "no quantisation scheme"),
    ((*TARGET, "--calibration-data", "not-here.txt"), "no such file"),
    ((*TARGET, "--format", "genie,dlc"), "for language models"),
    ((*TARGET, "--ar", "1"), "no use for the option ar"),
    ((*TARGET, "--mxfp6"), "qaic"),
    ((*TARGET, "--op-package", "X:lib.so"), "is no op package"),
    (("-t", "cpu", "--dim", "batch=1", "--quant", "w8a8"), "not as w8a8"),
    (("-t", "cpu", "--dim", "batch=1", "--per-tensor"), "no use for per_tensor"),
    ((*TARGET, "--bias-correction"), "no use for bias_correction"),
    ((*TARGET, "--override", "classifier=a8"), "no use for overrides"),
    (
        (
            *TARGET,
            "--format",
            "model-library",
            "--quant",
            "w8a8",
            "--random-feeds",
            "1",
            "--boundary",
            "codes",
        ),
        "no codes",
    ),
    (("-t", "qaic:ai100", "--dim", "batch=1"), "language models only"),
    (("-t", "cpu,snapdragon-8gen3", "--dim", "batch=1"), "only chipsets"),
    (("-t", "qcs6490", "--dim", "batch=1", "--quant", "fp16"), "fp16"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=lambda row: str(row)[-30:])
def test_what_is_refused(
    arguments: tuple[object, ...], said: str, source: Path, call: Call, tmp_path: Path
) -> None:
    done = call("compile", source, *arguments, "-o", tmp_path / "b")
    assert done.code == 2 and said in done.stderr and "hint:" in done.stderr, done.stderr


def test_other_commands_say_what_they_take(source: Path, call: Call, llama_folder: Path) -> None:
    for name in ("estimate", "sensitivity", "eval"):
        more = ("--text", __file__) if name == "eval" else ()
        done = call(name, source, "-t", "cpu", *more)
        assert done.code == 2 and "language models" in done.stderr, (name, done.stderr)
    done = call("compile", llama_folder, "-t", "cpu", "--dim", "batch=1")
    assert done.code == 2 and "no decoders" in done.stderr


def test_below_the_threshold(source: Path, samples: Path, tmp_path: Path) -> None:
    with pytest.raises(BelowThreshold, match=r"y\.sqnr"):
        modelc.compile(
            source, target="snapdragon-8gen3", quant="w8a8", calibration_data=samples,
            network_dims={"batch": 1}, verify_min_sqnr_db=90.0, output=tmp_path / "b",
        )  # fmt: skip
    assert not (tmp_path / "b").exists()


def test_compiler_of_one_file(
    source: Path, samples: Path, shared_store: Path, tmp_path: Path
) -> None:
    """As scripts call it: a loader's samples, loose names of devices, a warning where the backend
    can't have what was asked."""
    compiler = QNNCompiler("HTP", store=Store(shared_store))
    loader = ({"x": x} for x in images(8))
    made = compiler.compile(
        source,
        tmp_path / "net.bin",
        output_format="context-binary",
        quantization={
            "enabled": True,
            "calibration_data": loader,
            "act_bitwidth": 8,
            "weights_bitwidth": 8,
            "per_channel": True,
        },
        target_device="snapdragon_8_gen3",
        dims={"batch": 1},
    )
    assert made.stat().st_size > 0 and (tmp_path / "net.onnx").is_file()
    with pytest.warns(UserWarning, match="GPU: the GPU's compiler is its driver"):
        made = QNNCompiler("GPU", store=Store(shared_store)).compile(
            source, tmp_path / "gpu.bin", target_device="Snapdragon 8 Gen 3", dims={"batch": 1}
        )
    assert made == tmp_path / "gpu.dlc" and made.is_file()
    with pytest.raises(BadInput, match="for one chipset"):
        compiler.compile(source, tmp_path / "x.bin", dims={"batch": 1})
    with pytest.raises(BadInput, match="quantization has no act_bits"):
        compiler.compile(source, tmp_path / "x.dlc", quantization={"act_bits": 8},
                         target_device="qcs6490")  # fmt: skip
    with pytest.raises(BadInput, match="weights of 3 bits"):
        compiler.compile(source, tmp_path / "x.dlc", quantization={"weights_bitwidth": 3},
                         target_device="qcs6490")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Snapdragon 8 Gen 3", "snapdragon-8gen3"),
        ("snapdragon_8_gen3", "snapdragon-8gen3"),
        ("Snapdragon 8 Elite", "snapdragon-8-elite"),
        ("qcs6490", "qcs6490"),
        ("QCS-6490", "qcs6490"),
    ],
)
def test_loose_names_of_devices(name: str, found: str) -> None:
    assert find_chipset(find_device(name)) is find_chipset(found)


def test_alias_of_the_command(source: Path, samples: Path, call: Call, tmp_path: Path) -> None:
    done = call(
        "compile-qnn", source, tmp_path / "o.dlc", "--quantize", "--calibration-data", samples,
        "--device", "Snapdragon 8 Gen 3", "--dim", "batch=1",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert (tmp_path / "o.dlc").stat().st_size > 0
    done = call("compile-qnn", source, tmp_path / "o.xyz", "--dim", "batch=1")
    assert done.code == 2 and "says no format" in done.stderr
    done = call("compile-qnn", source, tmp_path / "o.dlc", "--calibration-data", samples)
    assert done.code == 2 and "--quantize" in done.stderr


def test_model_library(
    source: Path, samples: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an SDK's tools, here doubles that write down how they were called."""
    arguments = ("compile", source, *TARGET, "--format", "model-library", "-o", tmp_path / "b")
    for name in ("QAIRT_SDK_ROOT", "QNN_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    done = call(*arguments)
    assert done.code == 3 and "no QAIRT SDK" in done.stderr
    root = make_sdk(tmp_path / "sdk")
    record = tmp_path / "library.json"
    for tool in ("qnn-onnx-converter", "qnn-model-lib-generator"):
        program = root / "bin" / HOST / tool
        program.write_text(DOUBLE.format(python=sys.executable, tool=tool, record=str(record)))
        program.chmod(0o755)
    monkeypatch.setenv("QAIRT_SDK_ROOT", str(root))
    done = call(*arguments, "--quant", "w8a8", "--calibration-data", samples)
    assert done.code == 0, done.stderr
    assert (tmp_path / "b/lib/aarch64-android/libnetwork.so").is_file()
    convert, *_ = [json.loads(line) for line in record.read_text().splitlines()]
    assert "--quantization_overrides" in convert["argv"]
    # What was changed before it was quantised is changed in what the converter reads.
    record.unlink()
    arguments = (*arguments[:-1], tmp_path / "c", "--quant", "w8a8", "--calibration-data", samples)
    done = call(*arguments, "--bias-correction")
    assert done.code == 0, done.stderr
    again, *_ = [json.loads(line) for line in record.read_text().splitlines()]
    assert again["argv"] == convert["argv"] and again["read"] != convert["read"]


def test_overrides_say_what_the_graph_does(quantised: Path, shared_store: Path) -> None:
    """Ranges of AIMET's form are those that ONNX Runtime's codes stand for."""
    encodings = network_encodings.load(quantised / "encodings.json")
    codes = ir.tensor(np.arange(-4, 4, dtype=np.int8).reshape(2, 4), name="w.codes")
    parts = {"w.codes": codes, "w.scale": ir.tensor(np.float32([0.5, 0.25]), name="w.scale"),
             "w.zero": ir.tensor(np.zeros(2, np.int8), name="w.zero")}  # fmt: skip
    values = {name: ir.Value(name=name, const_value=tensor) for name, tensor in parts.items()}
    node = ir.node("DequantizeLinear", [*values.values()], {"axis": 0})
    graph = ir.Graph([ir.Value(name="x")], node.outputs, nodes=[node], initializers=values.values())
    document = json.loads(overrides_text(encodings, ir.Model(graph, ir_version=10)))
    assert document["activation_encodings"].keys() == {"x"}
    (row,) = document["activation_encodings"]["x"]
    own = encodings.values["x"]
    assert (row["min"], row["max"]) == pytest.approx((own.minimum, own.maximum))
    first, second = document["param_encodings"]["w"]
    assert (first["offset"], first["min"], first["max"]) == (-128, -64.0, 63.5)
    assert second["scale"] == 0.25 and second["is_symmetric"] == "True"


def test_float_between_codes(source: Path, samples: Path, call: Call, tmp_path: Path) -> None:
    """A node that an override leaves float runs as half precision, where the chipset has that."""
    arguments = ("compile", source, "--dim", "batch=1", "--quant", "w8a16", "--calibration-data",
                 samples, "--override", "op:Gemm=float", "-o", tmp_path / "b")  # fmt: skip
    done = call(*arguments, "-t", "snapdragon-8gen3")
    assert done.code == 0, done.stderr
    told = json.loads((tmp_path / "b/precisions.json").read_text())
    assert [name for name, text in told["others"].items() if "float" in text] == [
        "/classifier/Gemm"
    ]
    done = call(*arguments, "-t", "qcs6490")
    assert done.code == 2 and "stay float" in done.stderr

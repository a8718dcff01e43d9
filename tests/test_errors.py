"""Each thing that can go wrong: the exit status, the place and the hint that the user gets."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.commands import Ran, modelc

from modelc.bundle.manifest import dump_manifest, load_manifest
from modelc.errors import BadInput, Where, nearest
from modelc.files import FileDigest

Call = Callable[..., Ran]


def assert_error(ran: Ran, code: int, *words: str) -> None:
    """Nothing on stdout, an error in the usual form on stderr, no traceback."""
    assert ran.code == code, ran.stderr
    assert ran.stdout == ""
    assert "error: " in ran.stderr and "Traceback" not in ran.stderr
    for word in words:
        assert word in ran.stderr


def test_an_error_says_what_where_and_what_to_do() -> None:
    error = BadInput("no", where=Where(step="lower", graph="ar1", module="model.norm"), hint="yes")
    assert str(error) == "no (step lower, graph ar1, module model.norm)\nhint: yes"
    assert str(Where(step="a").at_step("b")) == "step a"
    assert nearest("elit", ["cpu", "elite"]) == "did you mean elite?"
    assert nearest("x", ["b", "a"]) == "known: a, b"


# Sources


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) >= 1
    return data.replace(old, new, 1)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def of_another_type(data: bytes) -> bytes:
    """Give the tensor token_embd.weight a type that nobody knows."""
    name = text("token_embd.weight")
    at = data.index(name) + len(name) + 4 + 2 * 8  # its rank, two sizes, then the type
    return data[:at] + struct.pack("<I", 99) + data[at + 4 :]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda data: data[: len(data) // 2], "hint: "),
        (lambda data: data[:50], "hint: "),
        (lambda data: data[:8] + struct.pack("<Q", 1 << 60) + data[16:], "tensors"),
        (lambda data: data[:16] + struct.pack("<Q", 1 << 60) + data[24:], ""),
        (lambda data: b"GGML" + data[4:], "not a GGUF file"),
        (
            lambda data: replaced(
                data,
                text("general.architecture") + struct.pack("<I", 8) + text("llama"),
                text("general.architecture") + struct.pack("<I", 8) + text("lemur"),
            ),
            "lemur",
        ),
        (of_another_type, "99"),
        (lambda data: replaced(data, b"ggml.model", b"ggml.modex"), "tokenizer"),
    ],
    ids=[
        "truncated weights", "truncated header", "tensor count", "metadata count", "magic",
        "architecture", "tensor type", "tokenizer",
    ],
)  # fmt: skip
def test_broken_gguf(
    change: Callable[[bytes], bytes], word: str, llama_gguf: Path, call: Call, tmp_path: Path
) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(change(llama_gguf.read_bytes()))
    ran = call("compile", path, "-t", "cpu", "-o", tmp_path / "bundle")
    assert_error(ran, 2, str(path), word)
    assert not (tmp_path / "bundle").exists()


def set_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def resize(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def lie(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 62) + path.read_bytes()[8:])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda folder: resize(folder / "model.safetensors", 2000), "model.safetensors"),
        (lambda folder: lie(folder / "model.safetensors"), "model.safetensors"),
        (lambda folder: (folder / "model.safetensors").unlink(), "safetensors"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda folder: set_config(folder, model_type="lemur"), "lemur"),
        (lambda folder: set_config(folder, num_hidden_layers=3), "model.layers.2"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
    ],
    ids=[
        "truncated", "lying header", "no weights", "no tokenizer", "architecture", "missing layer",
        "config", "no config",
    ],
)  # fmt: skip
def test_broken_folder(
    change: Callable[[Path], None], word: str, llama_folder: Path, call: Call, tmp_path: Path
) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    change(folder)
    ran = call("compile", folder, "-t", "cpu", "-o", tmp_path / "bundle")
    assert_error(ran, 2, str(folder), word)


# Options

ELITE = "snapdragon-8-elite"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["target is not given", "modelc targets"]),
        (("-t", "snapdragon-9-elite"), ["no chipset", ELITE]),
        (("-t", "snapdragon-855"), ["no HTP", "v68"]),
        (("-t", "qcm6690", "--quant", "fp16"), ["fp16", "--quant w8a16"]),
        (("-t", "cpu", "--quant", "w8a16"), ["w8a16", "q8_0"]),
        (("-t", "cpu", "--quant", "gguf"), ["gguf", "--quant q8_0"]),
        (("-t", "cpu", "--quant", "q4"), ["q4", "did you mean q4_0"]),
        (("-t", "cpu", "--ar", "16,1"), ["option ar", "leave it out"]),
        (("-t", "cpu", "--splits", "2"), ["option splits", "leave it out"]),
        (("-t", "cpu", "--keep-twins"), ["option keep_twins", "leave it out"]),
        (("-t", "cpu", "--gguf", "fast"), ["option gguf", "leave it out"]),
        (("-t", ELITE, "--gguf", "fast"), ["option gguf", "leave it out"]),
        (("-t", ELITE, "--ar", "7,7"), ["2 graphs", "prompt_ar7_cl256", "no AR-1 graph"]),
        (("-t", ELITE, "--ar", "16"), ["no AR-1 graph", "--ar 16,1"]),
        (("-t", ELITE, "--context-length", "64"), ["AR-128", "context of 64", "--ar 16,1"]),
        (("-t", ELITE, "--context-length", "64", "--ar", "64,1"), ["AR-64", "context of 64"]),
        (("-t", ELITE, "--ar", "512,1"), ["AR-512", "context of 256", "--ar 64,1"]),
        (("-t", ELITE, "--ar", "128,1"), ["half of a context of 256", "--ar 64,1"]),
        (("-t", ELITE, "--ar", "16,1", "--splits", "9"), ["into 9 parts", "--splits 4"]),
        (("-t", ELITE, "--ar", "16,1", "--override", "lm_heads=w4"), ["lm_heads", "lm_head"]),
        (("-t", ELITE, "--ar", "16,1", "--override", "lm_head"), ["MODULE=KIND"]),
        (("-t", ELITE, "--ar", "16,1", "--format", "zip"), ["format", "genie"]),
        (("-t", ELITE, "--ar", "16,1", "--kv-bits", "4"), ["kv_bits"]),
        (("-t", "cpu", "--context-length", "256,128"), ["one context length", "256"]),
        (("-t", "cpu", "--context-length", "1000"), ["1000", "--context-length 256"]),
        (("-t", "cpu", "--context-length", "0"), ["context_length"]),
        (("-t", "cpu", "--verify-text", "/nowhere.txt"), ["verify text", "/nowhere.txt"]),
        (("-t", "cpu", "--recipe", "/nowhere.toml"), ["recipe", "/nowhere.toml"]),
        (("-t", "cpu", "-o", __file__), ["in the bundle's place", "another -o"]),
        (("-t", "cpu", "-o", Path(__file__).parent), ["no bundle", "another -o"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_options(
    arguments: tuple[object, ...], words: list[str], llama_folder: Path, call: Call
) -> None:
    assert_error(call("compile", llama_folder, *arguments), 2, *words)


def test_keys_of_a_recipe(llama_folder: Path, call: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('target = "cpu"\nquantt = "q8_0"\n[verify]\nmin_sqnr = 3\n')
    ran = call("compile", llama_folder, "--recipe", recipe)
    assert_error(ran, 2, str(recipe), "quantt", "did you mean quant", "verify.min_sqnr")


def test_text_that_is_no_text(llama_folder: Path, call: Call, tmp_path: Path) -> None:
    noise = tmp_path / "noise.txt"
    noise.write_bytes(b"\xff\xfe\x00\x81")
    ran = call("compile", llama_folder, "-t", "cpu", "--verify-text", noise, "-o", tmp_path / "b")
    assert_error(ran, 2, "step reference", str(noise))


# Bundles


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--prompt", ""), ["empty"]),
        (("run", "--prompt", "word " * 400), ["context of 256", "--context-length"]),
        (("bench", "--prompt-tokens", "300"), ["context of 256", "--prompt-tokens"]),
        (("eval", "--text", "/nowhere.txt"), ["unreadable text", "/nowhere.txt"]),
    ],
    ids=["empty prompt", "long prompt", "long bench", "no text"],
)
def test_use_of_a_bundle(
    arguments: tuple[str, ...], words: list[str], unbegun: Path, call: Call
) -> None:
    command, *options = arguments
    assert_error(call(command, unbegun, *options), 2, *words)


@pytest.fixture
def unbegun(compiled: tuple[Path, Ran], tmp_path: Path) -> Path:
    """A bundle whose tokenizer puts no token before a text, so that an empty one has none."""
    from hashlib import sha256

    bundle = shutil.copytree(compiled[0], tmp_path / "unbegun")
    changed: dict[str, bytes] = {}
    settings = json.loads((bundle / "tokenizer_config.json").read_text())
    tokenizer = json.loads((bundle / "tokenizer.json").read_text())
    changed["tokenizer_config.json"] = json.dumps({**settings, "add_bos_token": False}).encode()
    changed["tokenizer.json"] = json.dumps({**tokenizer, "post_processor": None}).encode()
    manifest = load_manifest(bundle)
    files = dict(manifest.files)
    for name, data in changed.items():
        (bundle / name).write_bytes(data)
        files[name] = FileDigest(len(data), sha256(data).hexdigest())
    (bundle / "manifest.json").write_bytes(dump_manifest(replace(manifest, files=files)))
    return bundle


def test_no_bundle(llama_folder: Path, call: Call) -> None:
    for command in ("run", "verify", "bench"):
        assert_error(call(command, llama_folder), 2, "not a bundle", str(llama_folder), "hint: ")


def test_tampered_bundle(compiled: tuple[Path, Ran], call: Call, tmp_path: Path) -> None:
    bundle = shutil.copytree(compiled[0], tmp_path / "bundle")
    flip(bundle / "model.onnx.data")
    assert_error(call("run", bundle, "--prompt", "a"), 1, "model.onnx.data", "SHA-256", str(bundle))
    (bundle / "model.onnx.data").unlink()
    assert_error(call("verify", bundle), 1, "model.onnx.data is missing")


def test_edited_manifest(compiled: tuple[Path, Ran], call: Call, tmp_path: Path) -> None:
    bundle = shutil.copytree(compiled[0], tmp_path / "bundle")
    manifest = bundle / "manifest.json"
    document = json.loads(manifest.read_text())
    document["settings"]["context_length"] += 1
    manifest.write_text(json.dumps(document))
    assert_error(call("run", bundle, "--prompt", "a"), 1, "was edited", str(manifest), "hint: ")


def test_newer_bundle(compiled: tuple[Path, Ran], call: Call, tmp_path: Path) -> None:
    bundle = shutil.copytree(compiled[0], tmp_path / "bundle")
    manifest = bundle / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format_version": 99}))
    assert_error(call("run", bundle, "--prompt", "a"), 2, "format 99", "upgrade modelc")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_below_the_threshold(llama_gguf: Path, call: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "strict.toml"
    recipe.write_text('target = "cpu"\n[verify]\nmin_sqnr_db = 200\n')
    ran = call("compile", llama_gguf, "--recipe", recipe, "-o", tmp_path / "bundle", "--json")
    document = json.loads(ran.stdout)
    assert document["bundle"] is None and not document["verify"]["passed"]
    assert_error(replace(ran, stdout=""), 4, "at least 200 dB", "step verify", "thresholds")
    assert not (tmp_path / "bundle").exists()


def test_not_a_model(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    assert_error(call("inspect", path), 2, "not a model", str(path), "known: ")
    assert_error(call("inspect", tmp_path / "nothing"), 2, "no such file")
    assert_error(call("compile", path, "-t", "cpu"), 2, "not a GGUF file")
    onnx = tmp_path / "broken.onnx"
    onnx.write_bytes(b"\xff" * 40)
    assert_error(call("inspect", onnx), 2, "not an ONNX file", str(onnx))


# The store, the disk, the machine


def test_damaged_store_entry(
    compiled: tuple[Path, Ran], llama_gguf: Path, shared_store: Path, call: Call, tmp_path: Path
) -> None:
    store = shutil.copytree(shared_store, tmp_path / "store")
    command = ("compile", llama_gguf, "-t", "cpu", "-o", tmp_path / "bundle", "--json")
    call(*command, store=store).json()
    rows = call("explain", llama_gguf, "-t", "cpu", "--json", store=store).json()
    assert {row["why"] for row in rows} == {"cached"}
    manifest = json.loads((tmp_path / "bundle/manifest.json").read_text())
    shipped = manifest["files"]["model.onnx.data"]["sha256"]
    (record,) = (
        path for path in (store / "v1/entries").glob("*/record.json") if shipped in path.read_text()
    )
    flip(record.with_name("files") / "model.onnx.data")

    checked = call("cache", "verify", store=store)
    assert checked.code == 1
    assert "1 damaged" in checked.stdout and "model.onnx.data" in checked.stdout
    assert "makes it again" in checked.stderr

    healed = call(*command, store=store)
    ran = {step["name"] for step in healed.json()["steps"] if step["status"] == "ran"}
    assert ran == {"lower"}
    assert "warning: lower: model.onnx.data" in healed.stderr
    assert call("cache", "verify", store=store).code == 0


def test_no_space_for_the_store(llama_gguf: Path, call: Call, tiny_disk: Path) -> None:
    (tiny_disk / "filler").write_bytes(bytes(3_900_000))
    ran = call("compile", llama_gguf, "-t", "cpu", "-o", tiny_disk / "b", store=tiny_disk / "store")
    assert_error(ran, 1, "no space left", "modelc cache prune", "MODELC_STORE")


def test_no_space_for_the_bundle(
    compiled: tuple[Path, Ran], llama_gguf: Path, call: Call, tiny_disk: Path
) -> None:
    (tiny_disk / "filler").write_bytes(bytes(3_900_000))
    ran = call("compile", llama_gguf, "-t", "cpu", "-o", tiny_disk / "bundle")
    assert_error(ran, 1, "no space left", str(tiny_disk), "another disk")
    assert not (tiny_disk / "bundle").exists()


def test_no_store(llama_gguf: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = call("compile", llama_gguf, "-t", "cpu", store=tmp_path / "file")
    assert_error(ran, 1, "the store can't be written", "MODELC_STORE")


WITHOUT_QNN = """
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, path=None, target=None: (
    None if name.split(".")[0] == "onnxruntime_qnn" else find_spec(name, path, target)
)
"""


def first_on_path(folder: Path) -> str:
    """A PYTHONPATH whose sitecustomize.py is the folder's."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))


def test_without_onnxruntime_qnn(llama_folder: Path, shared_store: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_QNN)

    def without(*arguments: object) -> Ran:
        env = {"PYTHONPATH": first_on_path(tmp_path)}
        return modelc(*arguments, store=shared_store, env=env)

    asked = ("compile", llama_folder, "-t", ELITE, "--ar", "16,1")
    ran = without(*asked, "-o", tmp_path / "bundle")
    assert_error(ran, 3, "onnxruntime-qnn is not installed", "pip install onnxruntime-qnn")
    assert without("compile", llama_folder, "-t", "cpu", "--dry-run", "--json").code == 0
    doctor = {row["name"]: row["state"] for row in without("doctor", "--json").json()}
    assert doctor["targets snapdragon"] == "missing" and doctor["target cpu"] == "ok"


CRASH = """
import os, signal, sys
if "modelc.targets.snapdragon.qnn_system" in sys.orig_argv:
    print("the library was reading it", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
"""


def test_a_crash_of_the_vendors_library(shared_store: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    binary = tmp_path / "decoder.bin"
    binary.write_bytes(bytes(4096))
    ran = modelc("inspect", binary, store=shared_store, env={"PYTHONPATH": first_on_path(tmp_path)})
    assert_error(ran, 1, "crashed with SIGSEGV", "| the library was reading it", str(binary))


def test_weights_that_are_not_finite(llama_folder: Path, call: Call, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(llama_folder, tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors")
    ran = call("compile", folder, "-t", "cpu", "--quant", "fp32", "-o", tmp_path / "b")
    assert_error(ran, 2, "NaN or infinite", str(folder), "step reference", "damaged")


def test_a_verification_without_finite_numbers_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    from modelc.cli.bundles import show_verification

    metrics = {"perplexity": {"bundle": None, "reference": 4.0}, "tokens": 8}
    check = {"name": "sqnr", "passed": False, "detail": "nan dB"}
    show_verification(
        {"metrics": metrics, "checks": [check], "passed": False, "runtime": "onnxruntime"}
    )
    assert "perplexity not finite against 4.000" in capsys.readouterr().out


def test_more_threads_than_cores(compiled: tuple[Path, Ran], call: Call) -> None:
    ran = call("run", compiled[0], "--prompt", "a", "--threads", "100000")
    assert_error(ran, 2, "100000 threads", "cores")


def test_a_path_that_is_no_unicode(llama_gguf: Path, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/n\xff.gguf"))
    shutil.copy(llama_gguf, path)
    ran = modelc("compile", path, "-t", "cpu", store=tmp_path / "store")
    assert_error(ran, 2, "not valid Unicode", "rename it")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_cant_be_written() -> None:
    import subprocess
    import sys

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "modelc.cli.main", "targets", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr and "Traceback" not in done.stderr

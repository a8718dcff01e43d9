"""A model for Cloud AI 100 from the command line: prepared, compiled, carried, run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.card_sdks import apps_sdk, calls, program, qnn_sdk
from support.commands import Ran

from modelc.targets.qaic import plan

Call = Callable[..., Ran]
SMALL = ("--context-length", "64", "--prefill", "16")


@pytest.fixture
def prepared(call: Call, llama_folder: Path, tmp_path: Path) -> Path:
    bundle = tmp_path / "bundle"
    done = call("compile", llama_folder, "-t", "qaic:ai100", "--devices", 2, "--mxfp6", *SMALL,
                "--compiler-flag", "mos=2", "--prepare-only", "-o", bundle)  # fmt: skip
    assert done.code == 0, done.stderr
    return bundle


def commands(bundle: Path) -> list[list[str]]:
    made: list[list[str]] = json.loads((bundle / "commands.json").read_text())["commands"]
    return made


def test_without_an_sdk(call: Call, llama_folder: Path, prepared: Path, tmp_path: Path) -> None:
    """The same bundle is there, and exit status 3 says what it lacks."""
    bundle = tmp_path / "other"
    done = call("compile", llama_folder, "-t", "qaic:ai100", "--devices", 2, "--mxfp6", *SMALL,
                "--compiler-flag", "mos=2", "-o", bundle, "--json")  # fmt: skip
    assert done.code == 3
    told = json.loads(done.stdout)
    assert told["bundle"] == str(bundle) and told["verify"]["passed"]
    assert "no compiler for Cloud AI 100" in done.stderr and "bash compile.sh" in done.stderr
    names = {path.name for path in prepared.iterdir()}
    assert names == {path.name for path in bundle.iterdir()}
    assert names > {"model.onnx", "model.onnx.data", "specializations.json", "custom_io.yaml",
                    "mdp_ts_2.json", "compile.sh", "recipe.toml"}  # fmt: skip
    assert commands(bundle) == commands(prepared)


def test_the_plan_is_that_of_the_function(prepared: Path) -> None:
    made = plan(
        prepared / "model.onnx", qpc_dir="", num_devices=2, mxfp6_matmul=True, ctx_len=64,
        prefill_seq_len=16, mos=2,
    )  # fmt: skip
    (argv,) = commands(prepared)
    words = [word.replace(str(prepared) + "/", "") for word in made.argv]
    assert argv[1:] == words[1:]
    for name, text in made.files.items():
        assert (prepared / name).read_text() == text


def test_compiled_here(
    call: Call, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command of the bundle is run once, and its record says how; a failed run is redone."""
    apps_sdk(tmp_path, monkeypatch)
    store, bundle = tmp_path / "store", tmp_path / "bundle"
    arguments = ("compile", llama_folder, "-t", "qaic:ai100-pro", *SMALL, "-o", bundle)
    monkeypatch.setenv("FAKE_FAILS", "half")
    failed = call(*arguments, store=store)
    assert failed.code == 1 and "no such operator" in failed.stderr and not bundle.exists()
    monkeypatch.delenv("FAKE_FAILS")
    done = call(*arguments, store=store)
    assert done.code == 0, done.stderr
    (argv,) = commands(bundle)
    assert [argv[1:]] * 2 == calls(tmp_path)
    assert (bundle / "qpc/programqpc.bin").read_text() == "qpc\n"
    record = json.loads((bundle / "qpc.json").read_text())
    assert record["sdk_version"] == "apps 1.22.0" and record["options"]["ctx_len"] == 64
    assert call(*arguments, store=store).code == 0
    assert len(calls(tmp_path)) == 2
    assert call(*arguments, "--mxint8-kv", store=store).code == 0
    assert len(calls(tmp_path)) == 3
    ran = call("run", bundle, "--prompt", "In the beginning", "--max-new-tokens", 3, store=store)
    assert ran.code == 3 and "qaicrt" in ran.stderr and "--engine onnx" in ran.stderr
    ran = call("run", bundle, "--prompt", "In the beginning", "--engine", "onnx", "--json",
               "--max-new-tokens", 3, store=store)  # fmt: skip
    assert len(ran.json()["token_ids"]) == 3


def test_a_bad_graph_is_not_compiled(
    call: Call, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The expensive compiler only sees what agrees with the float model."""
    apps_sdk(tmp_path, monkeypatch)
    recipe = tmp_path / "strict.toml"
    recipe.write_text("[verify]\nmin_sqnr_db = 300\n")
    done = call("compile", llama_folder, "-t", "qaic:ai100", *SMALL, "--recipe", recipe, "-o",
                tmp_path / "b")  # fmt: skip
    assert done.code == 4 and "300" in done.stderr
    assert not calls(tmp_path) and not (tmp_path / "b").exists()


@pytest.mark.parametrize("how", ["script", "command"])
def test_carried_to_a_machine_with_the_sdk(
    how: str, call: Call, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried = tmp_path / "carried here"
    prepared.rename(carried)

    def compile_it() -> tuple[int, str]:
        if how == "command":
            done = call("qaic", "compile", carried)
            return done.code, done.stderr
        ran = subprocess.run(["bash", carried / "compile.sh"], capture_output=True, text=True)
        return ran.returncode, ran.stderr

    monkeypatch.setenv("QAIC_SDK_ROOT", str(tmp_path / "none"))
    code, said = compile_it()
    assert code == 3 and "qaic-compile" in said
    sdk = apps_sdk(tmp_path, monkeypatch, "1.23.0")
    monkeypatch.setenv("FAKE_FAILS", "half")
    assert compile_it()[0] and (carried / "qpc").is_dir()
    monkeypatch.delenv("FAKE_FAILS")
    assert compile_it()[0] == 0
    (argv,) = commands(carried)
    assert calls(tmp_path) == [argv[1:]] * 2
    assert compile_it()[0] == 0 and len(calls(tmp_path)) == 2
    assert (carried / "qpc/programqpc.bin").is_file()
    if how == "command":
        (sdk / "versions/apps.xml").write_text("<base_version>1.21.0</base_version>")
        code, said = compile_it()
        assert code == 3 and "--sdk-version 1.21.0" in said
        (carried / "custom_io.yaml").write_text("")
        code, said = compile_it()
        assert code == 1 and "custom_io.yaml" in said


def test_qnn_tools(
    call: Call, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "qnn.json"
    config.write_text('{"converter_args_extension": "--onnx_defer_loading"}')
    arguments = ("compile", llama_folder, "-t", "qaic:ai100", *SMALL, "--toolchain", "qnn",
                 "--mxint8-kv", "--qnn-config", config)  # fmt: skip
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    first = tmp_path / "first"
    done = call(*arguments, "-o", first)
    assert done.code == 3 and "QNN_SDK_ROOT" in done.stderr
    sdk = qnn_sdk(tmp_path, monkeypatch)
    ran = subprocess.run(["bash", first / "compile.sh"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    second = tmp_path / "second"
    done = call(*arguments, "-o", second)
    assert done.code == 0, done.stderr
    by_script, here = calls(tmp_path)[:2], calls(tmp_path)[2:]
    assert by_script == here and [row[0] for row in here] == [
        "qairt-converter",
        "qnn-context-binary-generator",
    ]
    assert "--onnx_defer_loading" in here[0] and str(sdk / "lib") in " ".join(here[1])
    assert (second / "qpc/programqpc.bin").is_file()
    assert (second / "qnn_compiler_config.json.in").is_file()
    assert str(sdk) in (first / "qnn_compiler_config.json").read_text()


WRONG: list[tuple[tuple[object, ...], str]] = [
    (("--compiler-flag", "moss=2"), "did you mean mos"),
    (("--compiler-flag", "load_profile=p.yaml"), "load_profile"),
    (("--cores", 17), "17"),
    (("--prefill", 65), "a prefill of 65 tokens doesn't fit a context of 64"),
    (("--only", "both"), "only"),
    (("--repeat-kv-heads", 3), "3 times over"),
    (("--max-top-k", 4, "--num-speculative-tokens", 2), "speculated ones need several"),
    (("--num-speculative-tokens", "2,x"), "num_speculative_tokens"),
    (("--sdk-version", "1.19"), "too old"),
    (("--sdk-version", "1.20", "--ccl"), "no compute-context-lengths"),
    (("--kv-cache-batch-size", 4), "needs full_batch_size"),
    (("--quant", "w8a16"), "do not take"),
    (("--quant", "auto", "--budget", "ppl+1%"), "no kinds of weights"),
    (("--toolchain", "sdk"), "has no toolchain sdk"),
    (("--toolchain", "qnn", "--compiler-flag", "stats_level=70"), "not of the QNN tools"),
    (("--qnn-config", __file__), "give --toolchain qnn"),
    (("--node-precision-info", "not-here.yaml"), "no such file"),
    (("--gguf", "fast"), "gguf"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=lambda row: str(row[0]))
def test_what_is_refused(
    arguments: tuple[object, ...], said: str, call: Call, llama_folder: Path, tmp_path: Path
) -> None:
    done = call("compile", llama_folder, "-t", "qaic:ai100", *SMALL[:2],
                *(() if "--prefill" in arguments else SMALL[2:]), *arguments, "-o",
                tmp_path / "b")  # fmt: skip
    assert done.code == 2 and said in done.stderr, done.stderr
    assert not (tmp_path / "b").exists()


def test_options_of_the_card_are_refused_elsewhere(call: Call, llama_folder: Path) -> None:
    done = call("compile", llama_folder, "-t", "cpu", "--mxfp6", "--cores", 4)
    assert done.code == 2 and "qaic.num_cores, qaic.mxfp6_matmul" in done.stderr
    done = call("compile", llama_folder, "-t", "qaic:ai100-ulta")
    assert done.code == 2 and "qaic:ai100-ultra" in done.stderr


def test_estimate_and_dry_run(call: Call, llama_folder: Path) -> None:
    four, one = (
        call("estimate", llama_folder, "-t", "qaic:ai100-ultra", "--devices", n, "--mxfp6",
             "--context-length", 128, "--json").json() for n in (4, 1)
    )  # fmt: skip
    assert len(four["parts"]) == 4 and four["fits"]
    assert four["parts"][0]["weights"] < one["parts"][0]["weights"]
    assert four["limit"] == one["limit"] == int(0.9 * (32 << 30))
    plan = call("compile", llama_folder, "-t", "qaic:ai100", "--full-batch-size", 4, "--dry-run",
                "--json").json()  # fmt: skip
    assert [row["batch_size"] for row in plan["specializations"]] == [1, 4]
    assert [step["name"] for step in plan["steps"]][-3:] == ["lower", "prepare", "verify"]


def test_runtime_on_the_card_is_named_by_doctor(call: Call, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in call("doctor", "--json").json()}
    assert "only prepared" in rows["targets qaic, compiler"]["detail"]
    assert rows["targets qaic, runtime"]["state"] == "note"


def test_batches_for_calibration(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [tmp_path / f"{n}.rgb32" for n in range(3)]
    for number, path in enumerate(inputs):
        path.write_bytes(bytes([number]) * 4)
    (tmp_path / "list").write_text("\n".join(map(str, inputs)))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    arguments = ("qaic", "mlperf", "m.onnx", "--input-list", tmp_path / "list", "--batch-inputs")
    done = call(*arguments, "--tags", "resnet50,bs.2", "--calibrate")
    assert done.code == 0 and "-input-list-file=batched_input_files  -batchsize=2" in done.stdout
    listed = (work / "batched_input_files").read_text().split()
    assert [Path(name).read_bytes() for name in listed] == [
        bytes([0] * 4 + [1] * 4),
        bytes([2] * 8),
    ]
    assert call(*arguments, "--tags", "resnet50,bs.2").code == 2


def test_a_program_that_is_there_but_of_another_graph(
    call: Call, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record is believed by its key, not by the name of the file."""
    apps_sdk(tmp_path, monkeypatch, "1.23.0")
    program(prepared / "qpc/programqpc.bin", "another")
    record: dict[str, Any] = {"format": 1, "key": "0" * 64}
    (prepared / "qpc.json").write_text(json.dumps(record))
    assert call("qaic", "compile", prepared).code == 0
    assert (prepared / "qpc/programqpc.bin").read_text() == "qpc\n"

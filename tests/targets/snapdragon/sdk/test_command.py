"""Commands run on doubles of the SDK's tools, directly and by the script: both call them alike.

The doubles take the documented options of their release and nothing else, and check that the
configuration names the graphs that the DLCs hold.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.sdk_doubles import HOST, calls, make_sdk, model_parts, write_inputs

from modelc.errors import BadInput, ToolFailed
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.sdk.command import Command, run_commands
from modelc.targets.snapdragon.sdk.convert import ConverterOptions
from modelc.targets.snapdragon.sdk.find import Sdk, find_sdk
from modelc.targets.snapdragon.sdk.generate import GeneratorOptions
from modelc.targets.snapdragon.sdk.model import SdkOptions, sdk_commands
from modelc.targets.snapdragon.sdk.parts import SplitFiles
from modelc.targets.snapdragon.sdk.quantize import QuantizerOptions
from modelc.targets.snapdragon.sdk.script import commands_sh

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the SDK's host is Linux")

ELITE = find_chipset("snapdragon-8-elite")
EVERYTHING = SdkOptions(
    ConverterOptions(16, 32, "io.yaml", ("input_ids", "a tensor's name"), True, True),
    QuantizerOptions(16, 4, 32, 16, True, True, True, ()),
    GeneratorOptions("memhandle", 2, "verbose", "detailed"),
)


def run_script(script: str, folder: Path, environ: Mapping[str, str]) -> str:
    """Run commands.sh as a user would; return what it says."""
    path = folder / "commands.sh"
    path.write_text(script)
    ran = subprocess.run(
        ["bash", path.name], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def odd_parts() -> list[SplitFiles]:
    """One part whose files are named to be misquoted."""
    part = model_parts()[0]
    odd = 'my model\'s $HOME `x` "y"; * &\n#1'
    graphs = [replace(g, network=f"{odd}/{g.key.name}.onnx") for g in part.graphs]
    return [SplitFiles("decoder 1 $of 3", tuple(graphs))]


@pytest.mark.parametrize(
    ("release", "parts", "options"),
    [
        ("2.39.0", model_parts(), SdkOptions()),
        ("2.39.0", model_parts(encodings=False), SdkOptions()),
        ("2.39.0", odd_parts(), EVERYTHING),
        ("2.29.0", model_parts()[1:], SdkOptions()),
    ],
    ids=["quantised", "fp16", "odd-names-all-options", "2.29"],
)
def test_the_script_calls_the_tools_as_the_direct_run_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    release: str,
    parts: list[SplitFiles],
    options: SdkOptions,
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/other lib")
    python = tmp_path / "the SDK's python"
    python.symlink_to(sys.executable)
    record = tmp_path / "record.jsonl"
    root = make_sdk(tmp_path / "the $SDK", release, record)
    monkeypatch.setenv("QAIRT_SDK_ROOT", str(root))
    monkeypatch.setenv("MODELC_SDK_PYTHON", str(python))
    sdk = find_sdk(os.environ)
    made = sdk_commands(parts, ELITE, sdk, options)
    assert record.exists() is False, "nothing runs before it is told to"

    seen = []
    for way in ("direct", "script"):
        folder = tmp_path / way
        write_inputs(folder, parts, {**made.configs, "io.yaml": ""})
        if way == "direct":
            run_commands(made.commands, sdk, folder, logs=folder / "logs", timeout_s=60)
        else:
            run_script(commands_sh(made.commands), folder, os.environ)
        seen.append([{**call, "cwd": Path(call["cwd"]).name} for call in calls(record)])
        record.unlink()
        for part, binary in zip(parts, made.binaries, strict=True):
            names = [graph.key.name for graph in part.graphs]
            assert (folder / binary).read_text() == " ".join(names)
    direct, script = seen
    assert [{**call, "cwd": "direct"} for call in script] == direct
    assert [call["tool"] for call in direct] == [command.tool for command in made.commands]
    for command, call in zip(made.commands, direct, strict=True):
        assert tuple(call["argv"]) == command.argv(sdk)[-len(command.arguments) :]
        assert (call["python"] == str(python)) == (command.tool != "qnn-context-binary-generator")
        assert call["environment"]["LD_LIBRARY_PATH"] == f"{root}/lib/{HOST}:/opt/other lib"


@settings(max_examples=15)
@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=4))
@example(["$(exit 1)", "'\"\\", "\n", "~", "*", "!!", "--like=option"])
def test_any_argument_survives_the_shell(values: list[str]) -> None:
    arguments = ("--first", *values)
    command = Command("convert", "token_ar1", "qairt-converter", arguments, (), ())
    show = "import json, sys; sys.stdout.write(json.dumps(sys.argv[1:]))"
    body = commands_sh([command]).partition("# convert: token_ar1\n")[2]
    stub = 'MODELC_SDK_PYTHON="$1"; QAIRT_SDK_ROOT="$2"\n'
    program = '"$QAIRT_SDK_ROOT"/bin/x86_64-linux-clang/qairt-converter'
    assert program in body
    ran = subprocess.run(
        ["bash", "-uc", stub + body.replace(program, '-c "$2"', 1), "bash", sys.executable, show],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(ran.stdout) == list(arguments)


def test_the_script_needs_an_sdk_and_stops_at_a_failure(tmp_path: Path) -> None:
    parts = model_parts()[:1]
    record = tmp_path / "record.jsonl"
    root = make_sdk(tmp_path / "sdk", record=record)
    made = sdk_commands(parts, ELITE, Sdk(root, (2, 39, 0)))
    write_inputs(tmp_path / "work", parts, dict(made.configs))
    script = tmp_path / "commands.sh"
    script.write_text(commands_sh(made.commands))
    bare = {name: value for name, value in os.environ.items() if "SDK" not in name}
    ran = subprocess.run(["bash", script], env=bare, capture_output=True, text=True, check=False)
    assert ran.returncode != 0 and "QAIRT_SDK_ROOT: set it to the folder" in ran.stderr
    (tmp_path / "work" / parts[0].graphs[1].network).unlink()
    ran = subprocess.run(
        ["bash", script, tmp_path / "work"], env={**bare, "QAIRT_SDK_ROOT": str(root)}, check=False
    )
    assert ran.returncode != 0 and len(calls(record)) == 2


@pytest.fixture
def one(tmp_path: Path) -> tuple[Sdk, Command, Path]:
    """An SDK, a conversion, and a work folder with its inputs."""
    sdk = Sdk(make_sdk(tmp_path / "sdk"), (2, 39, 0))
    parts = model_parts()[:1]
    write_inputs(tmp_path / "work", parts, {})
    return sdk, sdk_commands(parts, ELITE, sdk).commands[0], tmp_path / "work"


def replace_tool(sdk: Sdk, text: str) -> None:
    program = sdk.root / "bin" / HOST / "qairt-converter"
    program.write_text(f"#!/bin/sh\n{text}\n")


@pytest.mark.parametrize(
    ("text", "timeout_s", "message", "hint"),
    [
        ("echo bad graph; exit 7", 60, "failed with exit status 7.*bad graph", "convert.*log"),
        ("kill -SEGV $$", 60, "crashed with SIGSEGV", "convert.*log"),
        ("sleep 60", 0.2, "was stopped after", "convert.*log"),
        ("exit 0", 60, r"wrote no prompt_ar128_cl4096_1_of_3\.dlc", "convert.*log"),
        ("echo ModuleNotFoundError: numpy; exit 1", 60, "exit status 1", "MODELC_SDK_PYTHON"),
        (
            "echo error while loading shared libraries: libc++.so.1; exit 127",
            60,
            "exit status 127",
            "check-linux-dependency",
        ),
    ],
    ids=["status", "crash", "timeout", "no-output", "python", "library"],
)
def test_a_failure_says_where_why_and_what_to_do(
    one: tuple[Sdk, Command, Path], text: str, timeout_s: float, message: str, hint: str
) -> None:
    sdk, command, folder = one
    replace_tool(sdk, text)
    stale = folder / command.outputs[0]
    stale.parent.mkdir()
    stale.write_text("of an earlier run")
    with pytest.raises(ToolFailed, match=f"(?s)qairt-converter .*{message}") as error:
        run_commands([command], sdk, folder, logs=folder / "logs", timeout_s=timeout_s)
    assert error.value.where.step == "convert"
    assert error.value.where.graph == "prompt_ar128_cl4096_1_of_3"
    assert re.search(hint, error.value.hint)


def test_the_log_is_kept(one: tuple[Sdk, Command, Path]) -> None:
    sdk, command, folder = one
    for _ in range(2):
        run_commands([command], sdk, folder, logs=folder / "logs", timeout_s=60)
    log = folder / "logs" / "convert.prompt_ar128_cl4096_1_of_3.log"
    assert log.read_text().count("was here") == 2


def test_all_missing_inputs_are_named_before_anything_runs(one: tuple[Sdk, Command, Path]) -> None:
    sdk, command, folder = one
    for name in command.inputs:
        (folder / name).unlink()
    twice: list[Any] = [command, replace(command, inputs=())]
    with pytest.raises(BadInput) as error:
        run_commands(twice, sdk, folder, logs=folder / "logs", timeout_s=60)
    assert all(name in error.value.message for name in command.inputs)
    assert "again" in error.value.message
    assert not (sdk.root / "record.jsonl").exists()

"""Model libraries, with doubles of the SDK's tools: they take the documented options, write down
how they were called, and compute nothing."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from support.sdk_doubles import HOST, calls, make_sdk

from modelc.errors import BadInput, Missing, ToolFailed
from modelc.targets.snapdragon.network.model_library import (
    CONVERTER,
    LIBRARIAN,
    build_library,
    library_commands,
)
from modelc.targets.snapdragon.sdk.find import Sdk, find_sdk

# From the pages of "Tools" in QAIRT's documentation, as far as modelc uses them.
DOUBLE = """\
#!{python}
import argparse, json, os, sys
from pathlib import Path

parser = argparse.ArgumentParser(allow_abbrev=False)
if {tool!r} == "qnn-onnx-converter":
    parser.add_argument("-i", "--input_network", required=True)
    parser.add_argument("-o", "--output_path")
    parser.add_argument("--quantization_overrides")
    parser.add_argument("--preserve_io", nargs="*")
    read = parser.parse_args()
    Path(read.input_network).read_bytes()
    Path(read.output_path).write_text("QnnModel_composeGraphs")
    Path(read.output_path).with_suffix(".bin").write_bytes(b"weights")
else:
    parser.add_argument("-c", required=True)
    parser.add_argument("-b")
    parser.add_argument("-t", nargs="+")
    parser.add_argument("-l")
    parser.add_argument("-o")
    read = parser.parse_args()
    folder = Path(read.o, read.t[0])
    folder.mkdir(parents=True, exist_ok=True)
    if read.t[0] != "aarch64-oe-linux-gcc9.3":  # as if there were no compiler for it
        text = Path(read.c).read_text() + Path(read.b).read_text()
        (folder / f"lib{{read.l}}.so").write_text(text)
with open({record!r}, "a") as record:
    print(json.dumps({{"tool": {tool!r}, "argv": sys.argv[1:]}}), file=record)
"""
TARGETS = ("aarch64-android", "x86_64-linux-clang")


@pytest.fixture
def sdk(tmp_path: Path) -> Sdk:
    root = make_sdk(tmp_path / "sdk")
    for tool in (CONVERTER, LIBRARIAN):
        program = root / "bin" / HOST / tool
        record = str(tmp_path / "record.jsonl")
        program.write_text(DOUBLE.format(python=sys.executable, tool=tool, record=record))
        program.chmod(0o755)
    return dataclasses.replace(find_sdk({"QAIRT_SDK_ROOT": str(root)}), python=None)


def build(sdk: Sdk, folder: Path, targets: tuple[str, ...] = TARGETS) -> tuple[Path, ...]:
    folder.mkdir(exist_ok=True)
    (folder / "net.onnx").write_bytes(b"model")
    (folder / "net.encodings").write_bytes(b"{}")
    return build_library(
        "net.onnx",
        "net",
        targets,
        sdk,
        folder,
        logs=folder / "logs",
        timeout_s=60,
        encodings="net.encodings",
    )


def test_libraries(sdk: Sdk, tmp_path: Path) -> None:
    made = build(sdk, tmp_path / "work")
    assert [path.relative_to(tmp_path / "work").as_posix() for path in made] == [
        f"lib/{target}/libnet.so" for target in TARGETS
    ]
    assert {path.read_text() for path in made} == {"QnnModel_composeGraphsweights"}
    assert [(call["tool"], call["argv"]) for call in calls(tmp_path / "record.jsonl")] == [
        (
            CONVERTER,
            [
                "--input_network",
                "net.onnx",
                "--output_path",
                "cpp/net.cpp",
                "--preserve_io",
                "--quantization_overrides",
                "net.encodings",
            ],
        ),
        *(
            (
                LIBRARIAN,
                ["-c", "cpp/net.cpp", "-b", "cpp/net.bin", "-t", t, "-l", "net", "-o", "lib"],
            )
            for t in TARGETS
        ),
    ]


def test_a_target_that_the_sdk_has_no_compiler_for(sdk: Sdk, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match=r"qnn-model-lib-generator wrote no libnet\.so"):
        build(sdk, tmp_path / "work", ("aarch64-oe-linux-gcc9.3",))


@pytest.mark.parametrize("tool", [CONVERTER, LIBRARIAN])
def test_an_sdk_without_the_tools(tool: str, sdk: Sdk, tmp_path: Path) -> None:
    (sdk.root / "bin" / HOST / tool).unlink()
    with pytest.raises(Missing, match=f"has no {tool}") as caught:
        build(sdk, tmp_path / "work")
    assert "--format dlc" in caught.value.hint


@pytest.mark.parametrize(
    ("model", "name", "targets"),
    [
        ("../net.onnx", "net", TARGETS),
        ("net.onnx", "a/b", TARGETS),
        ("net.onnx", "net", ()),
        ("net.onnx", "net", ("aarch64-andriod",)),
    ],
)
def test_what_can_not_be(model: str, name: str, targets: tuple[str, ...]) -> None:
    with pytest.raises(BadInput):
        library_commands(model, name, targets)

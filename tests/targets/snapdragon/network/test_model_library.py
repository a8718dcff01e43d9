"""Model libraries, with doubles of the SDK's tools: they take the documented options, write down
how they were called, and compute nothing."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from support.library_doubles import DOUBLE
from support.sdk_doubles import HOST, calls, make_sdk

from modelc.errors import BadInput, Missing, ToolFailed
from modelc.targets.snapdragon.network.model_library import (
    CONVERTER,
    LIBRARIAN,
    build_library,
    library_commands,
)
from modelc.targets.snapdragon.sdk.find import Sdk, find_sdk

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

"""Which SDK the environment names, and what is said when it is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import Ran
from support.sdk_doubles import HOST, make_sdk

from modelc.errors import Missing
from modelc.targets.snapdragon.sdk.find import find_sdk, sdk_environment


@pytest.mark.parametrize("variable", ["QAIRT_SDK_ROOT", "QNN_SDK_ROOT"])
def test_found_with_its_release(tmp_path: Path, variable: str) -> None:
    root = make_sdk(tmp_path / "sdk", "2.41.0")
    sdk = find_sdk({variable: str(root)})
    assert (sdk.root, sdk.version, sdk.python) == (root, (2, 41, 0), None)
    assert str(sdk) == f"QAIRT 2.41.0 in {root}"


def test_the_first_variable_counts(tmp_path: Path) -> None:
    first, second = (make_sdk(tmp_path / name) for name in ("first", "second"))
    assert find_sdk({"QNN_SDK_ROOT": str(second), "QAIRT_SDK_ROOT": str(first)}).root == first


@pytest.mark.parametrize(
    ("folder", "manifest", "version"),
    [
        ("2.39.0.250926", None, (2, 39, 0)),
        ("v2.37.1", "name: qairt\n", (2, 37, 1)),
        ("2.30.0", 'version: "2.31"\n', (2, 31)),
        ("sdk", "product: x\nversion: 2.40.0.251030\n", (2, 40, 0)),
    ],
)
def test_release_from_manifest_or_folder(
    tmp_path: Path, folder: str, manifest: str | None, version: tuple[int, ...]
) -> None:
    root = make_sdk(tmp_path / folder)
    (root / "sdk.yaml").unlink()
    if manifest is not None:
        (root / "sdk.yaml").write_text(manifest)
    assert find_sdk({"QAIRT_SDK_ROOT": str(root)}).version == version


def test_not_set() -> None:
    with pytest.raises(Missing, match="neither QAIRT_SDK_ROOT nor QNN_SDK_ROOT is set") as error:
        find_sdk({"QAIRT_SDK_ROOT": ""})
    assert error.value.exit_code == 3 and "--toolchain sdk" in error.value.hint


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="QNN_SDK_ROOT names no folder"):
        find_sdk({"QNN_SDK_ROOT": str(tmp_path / "gone")})


def test_every_missing_tool_is_named(tmp_path: Path) -> None:
    root = make_sdk(tmp_path / "sdk")
    for name in (f"bin/{HOST}/qairt-quantizer", f"lib/{HOST}/libQnnModelDlc.so"):
        (root / name).unlink()
    with pytest.raises(Missing, match=r"no .*qairt-quantizer, .*libQnnModelDlc\.so \("):
        find_sdk({"QAIRT_SDK_ROOT": str(root)})


def test_tool_that_cannot_be_executed(tmp_path: Path) -> None:
    root = make_sdk(tmp_path / "sdk")
    (root / f"bin/{HOST}/qairt-converter").chmod(0o644)
    with pytest.raises(Missing, match="qairt-converter can't be executed"):
        find_sdk({"QAIRT_SDK_ROOT": str(root)})


def test_too_old_for_dlc(tmp_path: Path) -> None:
    root = make_sdk(tmp_path / "sdk", "2.21")
    (root / "sdk.yaml").write_text("version: 2.20.4\n")
    with pytest.raises(Missing, match=r"QAIRT 2\.20\.4 has qnn-onnx-converter") as error:
        find_sdk({"QAIRT_SDK_ROOT": str(root)})
    assert "2.29 or later" in error.value.hint


def test_tools_that_rename_what_encodings_name(tmp_path: Path) -> None:
    root = make_sdk(tmp_path / "sdk", "2.28.0")
    with pytest.raises(Missing, match=r"QAIRT 2\.28\.0 has qairt-converter, .* leave a graph"):
        find_sdk({"QAIRT_SDK_ROOT": str(root)})


@pytest.mark.parametrize("manifest", [b"", b"\xff" * 200_000 + b"\nversion: 2.40.0\n"])
def test_release_that_cannot_be_told(tmp_path: Path, manifest: bytes) -> None:
    root = make_sdk(tmp_path / "sdk")
    (root / "sdk.yaml").write_bytes(manifest)
    with pytest.raises(Missing, match="which release"):
        find_sdk({"QAIRT_SDK_ROOT": str(root)})


def test_python_of_its_own(tmp_path: Path) -> None:
    environ = {"QAIRT_SDK_ROOT": str(make_sdk(tmp_path / "sdk"))}
    assert find_sdk(environ | {"MODELC_SDK_PYTHON": sys.executable}).python == Path(sys.executable)
    with pytest.raises(Missing, match="MODELC_SDK_PYTHON names no program"):
        find_sdk(environ | {"MODELC_SDK_PYTHON": str(tmp_path)})


def test_environment_of_the_tools(tmp_path: Path) -> None:
    root = make_sdk(tmp_path / "sdk")
    environment = sdk_environment(
        find_sdk({"QNN_SDK_ROOT": str(root)}), {"PATH": "/bin", "PYTHONPATH": "/ours"}
    )
    assert environment == {
        "QAIRT_SDK_ROOT": str(root),
        "QNN_SDK_ROOT": str(root),
        "PYTHONPATH": f"{root}/lib/python",
        "PATH": f"{root}/bin/{HOST}{os.pathsep}/bin",
        "LD_LIBRARY_PATH": f"{root}/lib/{HOST}",
    }


def test_doctor_says_whether_there_is_one(
    tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_sdk(tmp_path / "sdk")
    for variable, state, word in (
        (str(root), "ok", "QAIRT 2.39.0"),
        ("", "note", "neither"),
    ):
        monkeypatch.setenv("QAIRT_SDK_ROOT", variable)
        found = call("doctor", "--json")
        row = next(row for row in found.json() if row["name"] == "toolchain sdk")
        assert row["state"] == state and word in row["detail"]

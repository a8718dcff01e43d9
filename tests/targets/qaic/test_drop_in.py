"""The installed compiler: found, asked for its version, called, and called again where it must."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.card_sdks import apps_sdk, calls, program
from support.qaic_headers import decoder_header, write_header

from modelc.errors import BadInput, Missing, ToolFailed
from modelc.targets.qaic import compile_kv_model_on_cloud_ai_100, plan, qpc_key
from modelc.targets.qaic.execute import compile_plan
from modelc.targets.qaic.record import read_record
from modelc.targets.qaic.sdk import ROOT_VARIABLE, card_version, find_apps_sdk


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An Apps SDK whose compiler notes how it was called."""
    return apps_sdk(tmp_path, monkeypatch)


@pytest.fixture
def call(root: Path, tmp_path: Path) -> Callable[..., tuple[bool, str]]:
    write_header(tmp_path / "m.onnx", decoder_header(1))
    (tmp_path / "specializations.json").write_text("{}")
    (tmp_path / "custom_io.yaml").write_text("")

    def run(**changes: Any) -> tuple[bool, str]:
        arguments: dict[str, Any] = {
            "onnx_path": str(tmp_path / "m.onnx"),
            "specializations_json": str(tmp_path / "specializations.json"),
            "num_cores": 16,
            "base_path": str(tmp_path / "out"),
            "mxfp6": True,
            "custom_io_path": str(tmp_path / "custom_io.yaml"),
            "aic_enable_depth_first": True,
            "allow_mxint8_mdp_io": False,
        }
        return compile_kv_model_on_cloud_ai_100(**(arguments | changes))

    return run


def test_the_command_is_qefficients(call: Callable[..., tuple[bool, str]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call(mos=2, device_group=[4, 5], qpc_crc=True) == (True, str(out / "qpcs"))
    assert calls(tmp_path) == [
        [
            f"-m={tmp_path}/m.onnx",
            "-aic-hw",
            "-aic-hw-version=ai100",
            f"-network-specialization-config={tmp_path}/specializations.json",
            "-convert-to-fp16",
            "-retained-state",
            "-aic-num-cores=16",
            f"-custom-IO-list-file={tmp_path}/custom_io.yaml",
            f"-aic-binary-dir={out}/qpcs",
            "-mxfp6-matmul",
            "-mos=2",
            "-aic-enable-depth-first",
            f"-mdp-load-partition-config={out}/mdp_ts_config.json",
            "-qpc-crc",
        ]
    ]
    partition = json.loads((out / "mdp_ts_config.json").read_text())
    assert partition["connections"] == [{"devices": [0, 1], "type": "p2p"}]
    record = read_record(out)
    assert record and record["options"]["mos"] == 2 and record["sdk_version"] == "1.22.0"


def test_a_whole_binary_is_kept_and_others_are_made_again(
    call: Callable[..., tuple[bool, str]], tmp_path: Path
) -> None:
    call()
    call()
    assert len(calls(tmp_path)) == 1
    (tmp_path / "out/qpcs/programqpc.bin").unlink()
    call()
    assert len(calls(tmp_path)) == 2
    call(mxfp6=False)
    assert len(calls(tmp_path)) == 3
    (tmp_path / "custom_io.yaml").write_text(" - IOName: x\n")
    call(mxfp6=False)
    assert len(calls(tmp_path)) == 4


def test_the_older_sdk_is_called_as_it_wants(
    call: Callable[..., tuple[bool, str]], root: Path, tmp_path: Path
) -> None:
    (root / "exec/qaic-compile").rename(root / "exec/qaic-exec")
    (root / "versions/apps.xml").unlink()
    program(root / "tools/qaic-version-util", "#!/bin/sh\necho 'apps: 1.20.2.15'\n")
    call()
    (argv,) = calls(tmp_path)
    assert argv[2] == "-aic-hw-version=2.0"
    assert argv[8] == "-compile-only"


def test_failures(
    call: Callable[..., tuple[bool, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="qpc_crcs"):
        call(qpc_crcs=True)
    with pytest.raises(BadInput, match="can't be read"):
        call(custom_io_path=str(tmp_path / "none"))
    monkeypatch.setenv("FAKE_FAILS", "1")
    with pytest.raises(ToolFailed, match="status 7") as error:
        call()
    assert "no such operator" in str(error.value)
    assert read_record(tmp_path / "out") is None


def test_without_an_sdk(tmp_path: Path, root: Path) -> None:
    with pytest.raises(Missing, match="qaic-compile"):
        find_apps_sdk({ROOT_VARIABLE: str(tmp_path / "nowhere")})
    (root / "versions/apps.xml").unlink()
    with pytest.raises(Missing, match="which version"):
        find_apps_sdk(os.environ)
    assert find_apps_sdk(os.environ, "1.23").version == "1.23"


def test_the_card(root: Path) -> None:
    sdk = find_apps_sdk(os.environ)
    assert card_version(sdk) == "ai100"
    program(root / "tools/qaic-util", "#!/bin/sh\necho 'FW IMAGE_VARIANT: AIC200'\n")
    assert card_version(sdk) == "ai200"


def test_a_plan_is_compiled(root: Path, tmp_path: Path) -> None:
    source = write_header(tmp_path / "m.onnx", decoder_header(1))
    made = plan(source, sdk_version="1.22", qpc_dir=tmp_path / "q", num_devices=2)
    binary = compile_plan(made, find_apps_sdk(os.environ))
    assert (binary / "programqpc.bin").is_file()
    assert calls(tmp_path) == [made.argv[1:]]
    assert {path.name for path in (tmp_path / "q").iterdir()} >= set(made.files)
    compile_plan(made, find_apps_sdk(os.environ))
    assert len(calls(tmp_path)) == 1


def weighted(folder: Path, values: Sequence[float]) -> Path:
    folder.mkdir()
    tensor = numpy_helper.from_array(np.array(values, np.float32), "w")
    value = helper.make_tensor_value_info("x", 1, [2])
    output = helper.make_tensor_value_info("y", 1, [2])
    node = helper.make_node("Add", ["x", "w"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", [value], [output], [tensor]))
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="w.bin",
              size_threshold=0)  # fmt: skip
    return folder / "m.onnx"


def test_keys_are_of_contents(tmp_path: Path) -> None:
    first, moved, other = (
        weighted(tmp_path / name, values)
        for name, values in (("a", [1, 2]), ("b", [1, 2]), ("c", [1, 3]))
    )
    nodes = tmp_path / "nodes.yaml"
    nodes.write_text("FP32NodeInstanceNames:\n  - a\n")
    options = {"num_cores": 16, "node_precision_info": str(nodes)}
    key = qpc_key(first, options, sdk_version="1.22")
    assert qpc_key(moved, options, sdk_version="1.22") == key
    nodes_moved = options | {"node_precision_info": str(nodes.rename(tmp_path / "n.yaml"))}
    assert qpc_key(first, nodes_moved, sdk_version="1.22") == key
    others = {qpc_key(other, nodes_moved, sdk_version="1.22")}
    others.add(qpc_key(first, nodes_moved, sdk_version="1.23"))
    others.add(qpc_key(first, nodes_moved | {"num_cores": 8}, sdk_version="1.22"))
    (tmp_path / "n.yaml").write_text("FP32NodeInstanceNames:\n  - b\n")
    others.add(qpc_key(first, nodes_moved, sdk_version="1.22"))
    assert len(others | {key}) == 5


def test_weights_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    path = weighted(tmp_path / "a", [1, 2])
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../secret"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match="outside"):
        qpc_key(path, {}, sdk_version="1.22")

"""The QNN tools' commands and files against those that the SDK's own front end wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.qaic_headers import decoder_header, write_header

from modelc.errors import BadInput
from modelc.targets.qaic.qnn_route import QnnPlan, plan_qnn

CASES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "cases" / "qefficient.json").read_text()
)
CASE = CASES["head_1.23.0.dev0/qnn_llama_default"]
SDK = "<CACHE>/fake_qnn_sdk"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    header = CASES["head_1.23.0.dev0/llama_default"]["onnx"]
    path = Path("<CACHE>/LlamaForCausalLM/LlamaForCausalLM-<HASH>/LlamaForCausalLM.onnx")
    return str(write_header(path, header))


def make(source: str, **options: Any) -> QnnPlan:
    return plan_qnn(source, qpc_dir=Path(source).parent / "qpc-<HASH>", sdk_root=SDK, **options)


def beside_the_export(text: str) -> str:
    """Put the side files where that front end has them, in the export's folder."""
    return text.replace("/qpc-<HASH>/qpc ", "/qpc-553293360beead1b ").replace("/qpc-<HASH>/", "/")


def test_captured(source: str) -> None:
    made = make(source)
    assert [beside_the_export(" ".join(argv) + " ") for argv in made.argv] == CASE["argv"]
    for name, text in made.files.items():
        wanted = CASE["files"][name]
        moved = beside_the_export(text)
        assert (moved if name.endswith(".yaml") else json.loads(moved)) == wanted
    assert set(made.files) == set(CASE["files"])


def test_options(source: str) -> None:
    made = make(source, num_devices=2, mxint8_kv_cache=True, mos=3, aic_enable_depth_first=True)
    backend = json.loads(made.files["qnn_compile_backend.json"])
    assert backend["compiler_max_out_channel_split"] == "3"
    assert backend["compiler_enable_depth_first"] is True
    assert backend["compiler_mdp_load_partition_config"].endswith("qpc-<HASH>/tensor_slicing.json")
    assert json.loads(made.files["tensor_slicing.json"])["partitions"][0]["devices"] == [
        {"deviceId": 0},
        {"deviceId": 1},
    ]
    assert "DataType: uint8\n    Shape: (1, 2, 128, 16)" in made.files["custom_io_config.yaml"]
    formats = json.loads(made.files["qnn_data_format_config.json"])
    assert [len(graph["tensors"]) for graph in formats["graphs"]] == [8, 8]
    assert "--data_format_config" in made.argv[1]


def test_prefill_alone_is_one_graph(source: str) -> None:
    made = make(source, prefill_only=True)
    assert json.loads(made.files["qnn_compile_backend.json"])["graph_names"] == ["model"]
    assert "Shape: (1, 32)\n" in made.files["custom_io_config.yaml"]


def test_extensions(source: str) -> None:
    config = {
        "converter_args_extension": "--onnx_defer_loading",
        "context_binary_generator_args_extension": "--log_level debug",
        "qnn_compilation_backend": {"compiler_stat_level": 70},
    }
    made = make(source, qnn_config=config)
    assert made.argv[0][-1] == "--onnx_defer_loading"
    assert made.argv[1][-2:] == ["--log_level", "debug"]
    assert made.argv[1].count("--log_level") == 1
    assert json.loads(made.files["qnn_compile_backend.json"])["compiler_stat_level"] == 70
    assert len(make(source, qnn_config={"SKIP_QNN_CONVERTER_STEP": True}).argv) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"allocator_dealloc_delay": 1},
        {"aic_hw_version": "ai100"},
        {"node_precision_info": "nodes.yaml"},
        {"qnn_config": {"converter_args": "x"}},
        {"qnn_config": {"converter_args_extension": "--config=x"}},
        {"qnn_config": {"converter_args_extension": "'open"}},
        {"mos": "1,2"},
    ],
)
def test_what_the_tools_do_not_have(source: str, options: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        make(source, **options)


def test_sizes_that_no_option_sets(tmp_path: Path) -> None:
    header = decoder_header(1)
    header["inputs"][0]["shape"] = ["batch_size", "patches"]
    with pytest.raises(BadInput, match="patches"):
        make(str(write_header(tmp_path / "m.onnx", header)))

"""Commands and files against those that the SDK's own front ends wrote, version by version."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.qaic_headers import EMBEDDING, decoder_header, write_header

from modelc.errors import BadInput
from modelc.targets.qaic import QpcPlan, plan

CASES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "cases" / "qefficient.json").read_text()
)
COMPILES = sorted(name for name, case in CASES.items() if case["compile"] is not None)
NODES = "FP32NodeInstanceNames:\n  - /model/norm/Add_output_0\n"


def version(case: dict[str, Any]) -> str:
    return re.sub(r"^(head_|v)", "", case["qefficient"])


def named(argv: list[str], prefix: str) -> str:
    return next(item for item in argv if item.startswith(prefix)).removeprefix(prefix)


def folder(case: dict[str, Any]) -> str:
    return str(Path(named(case["argv"], "-aic-binary-dir=")).parent)


def check(made: QpcPlan, case: dict[str, Any]) -> None:
    texts = {name: t if name.endswith(".yaml") else json.loads(t) for name, t in made.files.items()}
    assert texts == {n: t for n, t in case["files"].items() if n != "fp32_nodes.yaml"}
    assert made.argv == case["argv"]


@pytest.mark.parametrize("name", COMPILES)
def test_captured_from_onnx(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    monkeypatch.chdir(tmp_path)
    source = write_header(Path(named(case["argv"], "-m=")), case["onnx"])
    check(plan(source, sdk_version=version(case), qpc_dir=folder(case), **case["compile"]), case)


@pytest.mark.parametrize("name", COMPILES)
def test_captured_from_folder(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    architecture = Path(named(case["argv"], "-m=")).stem
    layers = {"n_layer": 2} if architecture.startswith("GPT2") else {"num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture], **layers}))
    check(plan(tmp_path, sdk_version=version(case), qpc_dir=folder(case), **case["compile"]), case)


def test_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["head_1.23.0.dev0/bert_embed_multi_seq"]
    argv = case["argv"]
    argv = argv[0] if isinstance(argv[0], list) else argv
    monkeypatch.chdir(tmp_path)
    source = write_header(Path(named(argv, "-m=")), EMBEDDING)
    check(plan(source, qpc_dir=folder({"argv": argv}), seq_len=[32, 64]), {**case, "argv": argv})


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    """A folder of a language model of two layers."""
    config = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def entries(made: QpcPlan) -> list[dict[str, Any]]:
    document: dict[str, list[dict[str, Any]]] = json.loads(made.files["specializations.json"])
    return document["specializations"]


def symbols(made: QpcPlan) -> list[tuple[str, dict[str, int]]]:
    return [
        (entry["name"], {name: int(text) for name, text in entry["symbols"].items()})
        for entry in entries(made)
    ]


def test_json_has_the_form_of_its_generation(decoder: Path) -> None:
    flat, named_ = (
        plan(decoder, sdk_version=version, qpc_dir="q").files["specializations.json"]
        for version in ("1.20", "1.21")
    )
    assert '"batch_size": "1",\n            "seq_len": "32"' in flat
    assert '"batch_size":"1",\n            "ctx_len":"128"' in named_


@pytest.mark.parametrize(
    ("sdk_version", "before"),
    [
        ("1.20", "-custom-IO-list-file=q/custom_io.yaml"),
        ("1.21", "-mos=1"),
        ("1.22", "-m=LlamaForCausalLM.onnx"),
        ("1.23", "-mos=1"),
        ("1.25.3", "-mos=1"),
    ],
)
def test_where_the_partition_file_stands(decoder: Path, sdk_version: str, before: str) -> None:
    argv = plan(decoder, sdk_version=sdk_version, qpc_dir="q", num_devices=2, mos=1).argv
    at = argv.index("-mdp-load-partition-config=q/mdp_ts_2.json")
    assert argv[at - 1] == before


def test_prefix_caching_keeps_more_sequences_than_it_computes(decoder: Path) -> None:
    made = plan(decoder, qpc_dir="q", full_batch_size=4, kv_cache_batch_size=16)
    assert symbols(made) == [
        ("Prefill", {"batch_size": 1, "ctx_len": 128, "full_batch_exec_size": 1,
                     "full_batch_size": 16, "seq_len": 32}),
        ("Decode", {"batch_size": 4, "ctx_len": 128, "full_batch_size": 16, "seq_len": 1}),
    ]  # fmt: skip


def test_one_decode_for_each_number_of_speculative_tokens(decoder: Path) -> None:
    made = plan(decoder, qpc_dir="q", num_speculative_tokens=[3, 0, 3])
    assert [name for name, _ in symbols(made)] == ["Prefill", "Decode_0", "Decode_1"]
    assert [s["num_logits_to_keep"] for _, s in symbols(made)] == [1, 1, 4]
    assert [s["seq_len"] for _, s in symbols(made)] == [32, 1, 4]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"prefill_seq_len": 1}, ["Prefill"]),
        ({"prefill_seq_len": 1, "prefill_only": False}, ["Decode"]),
        ({"prefill_only": False}, ["Decode"]),
        ({"prefill_only": True}, ["Prefill"]),
        ({"prefill_seq_len": 4, "num_speculative_tokens": 3}, ["Prefill"]),
        ({"prefill_seq_len": 1, "full_batch_size": 4}, ["Prefill"]),
    ],
)
def test_what_is_compiled(decoder: Path, options: dict[str, Any], names: list[str]) -> None:
    assert [name for name, _ in symbols(plan(decoder, qpc_dir="q", **options))] == names


def lengths(made: QpcPlan, name: str) -> list[int]:
    return [s["comp_ctx_lengths"] for n, s in symbols(made) if n.startswith(name)]


def test_compute_lengths_are_distinct_and_reach_the_context(decoder: Path) -> None:
    made = plan(decoder, qpc_dir="q", ctx_len=4096, comp_ctx_lengths_decode=[100, 4096])
    assert lengths(made, "Decode") == [1024, 4096]
    assert lengths(made, "Prefill") == [4064]


def test_compute_lengths_are_chosen(decoder: Path) -> None:
    made = plan(decoder, qpc_dir="q", ctx_len=16000, ccl_enabled=True)
    assert lengths(made, "Decode") == [4096, 8192, 16384]
    assert lengths(made, "Prefill") == [4000, 8000, 16352]
    assert {s["ctx_len"] for _, s in symbols(made)} == {16384}


def test_flags_keep_their_order(decoder: Path) -> None:
    argv = plan(decoder, qpc_dir="q", stats_level=70, qpc_crc=True, mos=2, ddr_stats=False).argv
    at = argv.index("-aic-num-cores=16")
    assert argv[at + 1 : at + 4] == ["-stats-level=70", "-qpc-crc", "-mos=2"]
    assert not any("ddr" in item for item in argv)


def test_nodes_that_keep_float32(decoder: Path, tmp_path: Path) -> None:
    nodes = {"FP32NodeInstanceNames": ["/model/norm/Add_output_0"]}
    made = plan(decoder, qpc_dir="q", node_precision_info=nodes)
    assert made.files["node_precision_info.yaml"] == NODES
    assert "-node-precision-info=q/node_precision_info.yaml" in made.argv
    path = tmp_path / "fp32_nodes.yaml"
    path.write_text(NODES)
    made = plan(decoder, qpc_dir="q", node_precision_info=str(path))
    assert made.files["fp32_nodes.yaml"] == NODES
    assert f"-node-precision-info={path}" in made.argv


def test_a_partition_of_the_users(decoder: Path) -> None:
    made = plan(decoder, qpc_dir="q", num_devices=4, mdp_load_partition_config="mine.json")
    assert "mdp_ts_4.json" not in made.files
    assert made.argv[4] == "-mdp-load-partition-config=mine.json"


@pytest.mark.parametrize(("sdk_version", "at"), [("1.22", 4), ("1.23", 7)])
def test_a_dump_of_the_partition(decoder: Path, sdk_version: str, at: int) -> None:
    made = plan(
        decoder,
        sdk_version=sdk_version,
        qpc_dir="q",
        num_devices=4,
        mdp_dump_partition_config="dump.json",
    )
    assert [i for i, item in enumerate(made.argv) if "mdp" in item] == [at]
    assert made.argv[at] == "-mdp-dump-partition-config=dump.json"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_core": 16}, "did you mean num_cores"),
        ({"alocator_dealloc_delay": 1}, "did you mean allocator_dealloc_delay"),
        ({"mxfp6": True}, "use instead: mxfp6_matmul"),
        ({"aic_num_cores": 8}, "use instead: num_cores"),
        ({"num_cores": 17}, "1 to 16"),
        ({"num_cores": True}, "whole number"),
        ({"ctx_len": "128"}, "whole number"),
        ({"mxfp6_matmul": 1}, "True or False"),
        ({"mos": True}, "a number or text"),
        ({"qpc_crc": 1}, "True or False"),
        ({"sdp_cluster_sizes": "2,2\n-x"}, "no value"),
        ({"prefill_seq_len": 256}, "doesn't fit a context"),
        ({"num_speculative_tokens": 32}, "at least num_speculative_tokens"),
        ({"num_speculative_tokens": []}, "one to"),
        ({"comp_ctx_lengths_decode": [1024], "num_speculative_tokens": 1}, "don't go with"),
        ({"kv_cache_batch_size": 4}, "needs full_batch_size"),
        ({"full_batch_size": 4, "kv_cache_batch_size": 2}, "less than"),
        ({"full_batch_size": 4, "batch_size": 2}, "both"),
        ({"continuous_batching": True}, "needs full_batch_size"),
        ({"aic_hw_version": "2.0"}, "it has ai100 and ai200"),
        ({"seq_len": 32}, "for embedding models"),
        ({"node_precision_info": {"FP8": ["a"]}}, "FP32NodeInstanceNames"),
    ],
)
def test_options_that_cannot_be(decoder: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as error:
        plan(decoder, qpc_dir="q", **options)
    assert re.search(says, str(error.value))


@pytest.mark.parametrize(
    ("sdk_version", "options"),
    [
        ("1.19", {}),
        ("new", {}),
        ("1.20", {"comp_ctx_lengths_decode": [1024]}),
        ("1.20", {"mdp_load_partition_config": "x.json"}),
        ("1.21", {"num_speculative_tokens": [1, 3]}),
        ("1.21", {"aic_hw_version": "ai200"}),
    ],
)
def test_what_an_sdk_does_not_have(
    decoder: Path, sdk_version: str, options: dict[str, Any]
) -> None:
    with pytest.raises(BadInput):
        plan(decoder, sdk_version=sdk_version, qpc_dir="q", **options)


def test_the_graph_and_the_options_agree(tmp_path: Path) -> None:
    plain = write_header(tmp_path / "plain.onnx", decoder_header(2))
    batched = write_header(
        tmp_path / "batched.onnx", decoder_header(2, [("batch_index", ["batch_size", 1])])
    )
    with pytest.raises(BadInput, match="needs a graph with the input batch_index"):
        plan(plain, qpc_dir="q", full_batch_size=4)
    with pytest.raises(BadInput, match="give full_batch_size"):
        plan(batched, qpc_dir="q")
    assert "full_batch_size" in symbols(plan(batched, qpc_dir="q", full_batch_size=4))[0][1]


def test_graphs_that_are_not_the_cards(tmp_path: Path) -> None:
    header = decoder_header(2)
    header["outputs"].pop()
    with pytest.raises(BadInput, match=r"past_value\.1"):
        plan(write_header(tmp_path / "a.onnx", header), qpc_dir="q")
    header = decoder_header(3)
    for side in header.values():
        side[:] = [value for value in side if ".1" not in value["name"]]
    with pytest.raises(BadInput, match="every layer"):
        plan(write_header(tmp_path / "b.onnx", header), qpc_dir="q")
    (tmp_path / "c.onnx").write_bytes(b"\x00garbage")
    with pytest.raises(BadInput):
        plan(tmp_path / "c.onnx", qpc_dir="q")
    embedding = write_header(tmp_path / "d.onnx", EMBEDDING)
    with pytest.raises(BadInput, match="ctx_len is for decoders"):
        plan(embedding, qpc_dir="q", ctx_len=128)


@pytest.mark.parametrize(
    "config",
    ["[", "[]", "{}", '{"architectures": ["A/B"]}', '{"architectures": ["BertModel"]}',
     '{"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1e9}'],
)  # fmt: skip
def test_folders_that_are_no_models(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(BadInput):
        plan(tmp_path, qpc_dir="q")

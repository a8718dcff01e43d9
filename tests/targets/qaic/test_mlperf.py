"""MLPerf's commands against those that MLCommons' automation wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.errors import BadInput
from modelc.targets.qaic.mlperf import environment, mlperf_command
from modelc.targets.qaic.mlperf_inputs import write_batches
from modelc.targets.qaic.mlperf_profile import read_ranges, retinanet_scales
from modelc.targets.qaic.mlperf_tags import variations

CASES: dict[str, str] = json.loads(
    (Path(__file__).parent / "cases" / "mlperf.json").read_text(),
)


def command(kind: str, tags: str, release: str = "4.0") -> str:
    return mlperf_command(
        kind,
        tags,
        model="<MODEL>",
        profile="<PROFILE>/profile.yaml",
        node_precision_info="<NPI>.yaml",
        work_dir="<CWD>",
        release=release,
        input_list="list.txt" if "bert" in tags else None,
    )


@pytest.mark.parametrize("case", CASES)
def test_captured(case: str) -> None:
    assert command(*case.split(" ")) == CASES[case]


def test_the_order_of_tags_does_not_matter() -> None:
    tags = "pc.99.99,_bs.8,nsp.14,offline,quantized,resnet50"
    assert command("compile", tags) == CASES["compile resnet50,offline,nsp.14,bs.8,pc.99.99"]


def test_bert_keeps_other_nodes_by_release() -> None:
    nodes = re.compile(r"-execute-nodes-in-fp16=(\S+)")
    early, later = (
        nodes.search(command("compile", "bert-99,offline,nsp.14", release))
        for release in ("3.1", "4.0")
    )
    assert early and early[1].count(",") == 12
    assert later and later[1] == "Add,Div,Erf,Softmax"


def test_a_row_for_a_card_goes_over_the_row_of_its_scenario() -> None:
    assert "-ols=2" in command("compile", "bert-99,offline")
    assert "-ols=3" in command("compile", "bert-99,offline,nsp.14")
    assert "-ols=2" in command("compile", "bert-99,offline,nsp.8")
    assert command("compile", "resnet50,singlestream,nsp.14").endswith(" -batchsize=1")
    assert command("compile", "resnet50,singlestream").endswith(" -ols=1")


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ("resnet50,server", "resnet50 has .*server.nsp.14"),
        ("resnet50,server,nsp.9", "resnet50 has"),
        ("bert-99,multistream", "bert-99 has singlestream"),
        ("bert-99.9", "bert-99.9 has offline"),
        ("bert-99.9,offline,quantized", "no quantized form"),
        ("resnet50,bert-99", "can't both be given"),
        ("resnet50,offline,server", "can't both be given"),
        ("resnet50,ofline", "did you mean offline"),
        ("resnet50,nsp.15", "did you mean nsp"),
        ("resnet50,bs.0", "unknown tag"),
        ("resnet50,offline,pc.101", "no percentile"),
        ("resnet50,offline,no-quantized,pc.99", "for quantized"),
        ("retinanet,tf", "doesn't come from tf"),
        ("offline", "names no model"),
    ],
)
def test_impossible_tags(tags: str, says: str) -> None:
    with pytest.raises(BadInput) as error:
        command("compile", tags)
    assert re.search(says, str(error.value))


def test_bert_99_9_is_of_the_later_release() -> None:
    with pytest.raises(BadInput, match=r"unknown tag bert-99\.9"):
        command("compile", "bert-99.9,offline", "3.1")


def test_every_variation_compiles() -> None:
    for release in ("3.1", "4.0"):
        listed = variations(release)
        assert len(set(listed)) == len(listed)
        for tags in listed:
            assert " -aic-hw " in command("compile", tags, release)
    assert "resnet50,server,nsp.16" in variations()
    assert "resnet50,server" not in variations()


def test_calibration() -> None:
    bert = command("calibrate", "bert-99,seq.128")
    assert " -onnx-define-symbol=seg_length,128 -input-list-file=list.txt " in bert
    assert "  -batchsize=8 -output-node-name=ArgMax " in command(
        "calibrate", "resnet50,offline,nsp.14"
    )
    for tags in ("retinanet", "bert-99,bs.2", "bert-99.9,offline"):
        with pytest.raises(BadInput):
            command("calibrate", tags)


def test_environment() -> None:
    told = environment("resnet50,offline,nsp.14", model="m.onnx", work_dir="bench")
    for prefix in ("CM", "MLC"):
        assert told[f"{prefix}_QAIC_MODEL_COMPILED_BINARY_WITH_PATH"] == "bench/elfs/programqpc.bin"
        assert told[f"{prefix}_QAIC_MODEL_BATCH_SIZE"] == "8"


@settings(max_examples=20)
@given(count=st.integers(1, 12), batch=st.integers(1, 5))
def test_batches(tmp_path_factory: pytest.TempPathFactory, count: int, batch: int) -> None:
    folder = tmp_path_factory.mktemp("inputs")
    inputs = [folder / f"{number}.rgb32" for number in range(count)]
    for number, path in enumerate(inputs):
        path.write_bytes(bytes([number]) * 3)
    (folder / "list").write_text("\n".join(map(str, inputs)))
    made = write_batches(folder / "list", batch, folder / "out").read_text().split("\n")
    read = b"".join(Path(name).read_bytes() for name in made)
    padding = -count % batch
    whole = [*range(count), *[count - 1] * padding]
    assert read == b"".join(bytes([number]) * 3 for number in whole)
    assert all(Path(name).stat().st_size == 3 * batch for name in made)
    assert Path(made[0]).name == "0.raw"


def profile(folder: Path, drop: str = "") -> Path:
    names = ["images:0", "/GatherElements/:0", "/TopK/:0"]
    names += [f"/{kind}_{n}/:0" for n in range(1, 5) for kind in ("GatherElements", "TopK")]
    items = [
        f"- NodeOutputName: {name}\n  Min: -{number}.0\n  Max: {256 - number}.0\n  Hist: [1, 2]\n"
        for number, name in enumerate(names)
        if name != drop
    ]
    path = folder / "profile.yaml"
    path.write_text("---\nVersion: 1\n...\n---\n" + "".join(items))
    return path


def test_retinanet_scales(tmp_path: Path) -> None:
    scales = retinanet_scales(profile(tmp_path))
    assert scales["QAIC_MODEL_RETINANET_IMAGE_SCALE"] == 1
    assert scales["QAIC_MODEL_RETINANET_LOC_OFFSET0"] == 1 - 128
    assert scales["QAIC_MODEL_RETINANET_CONF_OFFSET4"] == 10 - 128
    assert scales["QAIC_MODEL_RETINANET_LOC_SCALE"] == (255 + 9) / 256
    assert scales["QAIC_MODEL_RETINANET_LOC_OFFSET"] == round(9 / (264 / 256)) - 128


def test_profiles_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no /TopK_2"):
        retinanet_scales(profile(tmp_path, drop="/TopK_2/:0"))
    (tmp_path / "p").write_text("- NodeOutputName: a\n  Min: x\n  Max: 1\n")
    with pytest.raises(BadInput, match="not a profile"):
        read_ranges(tmp_path / "p")
    (tmp_path / "p").write_text("[]")
    with pytest.raises(BadInput, match="no ranges"):
        read_ranges(tmp_path / "p")

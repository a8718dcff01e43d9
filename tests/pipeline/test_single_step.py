"""The named steps on files: each runs on what the one before wrote, and refuses what is not its."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import random_models
from support.commands import Ran
from support.htp_decoder import choose_encodings

from modelc.errors import BadInput
from modelc.frontends import read_source
from modelc.ir import encodings as ir_encodings
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.single_step import StepRequest, run_step
from modelc.quant.aimet.encodings import AimetEncodings, from_activation, from_scales
from modelc.quant.aimet.read import read_encodings
from modelc.quant.aimet.write import write_encodings
from modelc.quant.schemes import SCHEMES

SIZES = {"target": "snapdragon-8-elite", "context_length": 32, "ar": (4, 1), "splits": 2}
SCHEME = "w4a16"
STAGES = ("prepare_exports", "split_model", "mha_to_sha", "quantize")
PART = ("prompt_ar4_cl32_2_of_2", "token_ar1_cl32_2_of_2")
GRAPH = PART[0]


class Steps:
    """Runs steps on a model into folders that are called after them."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source, self.folder = source, folder

    def run(
        self,
        name: str,
        *files: Path,
        encodings: Path | None = None,
        out: str = "",
        **recipe: Any,
    ) -> list[Path]:
        options = Recipe.model_validate({**SIZES, "quant": SCHEME, **recipe})
        place = self.folder / (out or name)
        return run_step(StepRequest(name, self.source, options, files, encodings, place))

    def graphs(self, stage: str, *names: str) -> list[Path]:
        return [self.folder / stage / f"{name}.onnx" for name in names or PART]


@pytest.fixture(scope="module")
def bundle(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle's encodings.json."""
    path = tmp_path_factory.mktemp("bundle") / "encodings.json"
    known = choose_encodings(read_source(llama_folder), 32, SCHEMES[SCHEME])
    ir_encodings.save(known, path)
    return path


@pytest.fixture(scope="module")
def chain(llama_folder: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """Every step run on what the one before left; only the first is told of encodings."""
    steps = Steps(llama_folder, tmp_path_factory.mktemp("chain"))
    steps.run("prepare_exports", encodings=bundle)
    for graph in steps.graphs("prepare_exports", "ar4_cl32", "ar1_cl32"):
        steps.run("split_model", graph)  # one after the other into the same folder
    steps.run("mha_to_sha", *steps.graphs("split_model"))
    steps.run("quantize", *steps.graphs("mha_to_sha"))
    return steps


@pytest.fixture
def steps(llama_folder: Path, tmp_path: Path) -> Steps:
    return Steps(llama_folder, tmp_path)


def copied(path: Path, folder: Path) -> Path:
    """A graph that can be spoilt, with what lies beside it."""
    shutil.copytree(path.parent, folder, dirs_exist_ok=True)
    return folder / path.name


def test_the_chain_is_that_of_the_bundles_encodings(
    chain: Steps, steps: Steps, bundle: Path
) -> None:
    steps.run("quantize", *chain.graphs("mha_to_sha"), encodings=bundle, out="quantize")
    for name in PART:
        for suffix in (".onnx", ".encodings"):
            found, wanted = (s.folder / "quantize" / f"{name}{suffix}" for s in (chain, steps))
            assert found.read_bytes() == wanted.read_bytes(), found.name
    weights = [(s.folder / "quantize/weights.data").read_bytes() for s in (chain, steps)]
    assert weights[0] == weights[1]


def test_encodings_by_the_graphs_own_names(chain: Steps, steps: Steps) -> None:
    """What lies beside one graph can be given for all of its part; beside them lies nothing."""
    graphs = []
    for path in chain.graphs("mha_to_sha"):
        shutil.copy(path, steps.folder / path.name)
        graphs.append(steps.folder / path.name)
    with pytest.raises(BadInput, match="can't be quantised without encodings"):
        steps.run("quantize", *graphs)
    beside = chain.graphs("mha_to_sha")[1].with_suffix(".encodings")
    steps.run("quantize", *graphs, encodings=beside)
    found, wanted = (s.folder / f"quantize/{GRAPH}.onnx" for s in (steps, chain))
    assert found.read_bytes() == wanted.read_bytes()


def test_aimets_file_of_the_model(chain: Steps, steps: Steps, bundle: Path) -> None:
    """As a compile takes it, with scales of weights; the first step hands on all of it."""
    module = "model.layers.1.mlp.up_proj"
    known = ir_encodings.load(bundle)
    activations = {name: from_activation(encoding) for name, encoding in known.items()}
    scales = np.linspace(0.01, 0.02, 128, dtype=np.float32)
    file = steps.folder / "aimet.encodings"
    said = {f"{module}.weight": from_scales(scales, 8)}
    write_encodings(file, AimetEncodings(activations, said))
    made = steps.run("prepare_exports", encodings=file)
    assert {path.name for path in made} >= {"encodings.json", "weights.npz"}
    for given, override in ((file, {}), (made[0].parent / "encodings.json", {module: "w8"})):
        assert given.is_file()
        out = f"by-{given.stem}"
        options: dict[str, Any] = {"encodings": given, "out": out, "overrides": override}
        steps.run("quantize", *chain.graphs("mha_to_sha"), **options)
        told = read_encodings(steps.folder / out / f"{GRAPH}.encodings").parameters
        np.testing.assert_array_equal(told[f"{module}.weight"].scales.astype(np.float32), scales)


@pytest.mark.parametrize(("stage", "step", "words"), [
    ("prepare_exports", "quantize", ["has not been through split_model and mha_to_sha"]),
    ("prepare_exports", "mha_to_sha", ["has not been through split_model", "step split_model"]),
    ("split_model", "split_model", ["has been through split_model already"]),
    ("split_model", "quantize", ["has not been through mha_to_sha", "--attention grouped"]),
    ("mha_to_sha", "mha_to_sha", ["has been through mha_to_sha already", "split_model made"]),
    ("mha_to_sha", "convert", ["has not been through quantize", "modelc step quantize"]),
    ("mha_to_sha", "generate_context_binary", ["has not been through quantize"]),
    ("quantize", "quantize", ["has been through quantize already", "mha_to_sha made"]),
    ("quantize", "mha_to_sha", ["has been through mha_to_sha already"]),
    ("quantize", "float_graphs", ["has been through quantize already"]),
])  # fmt: skip
def test_the_wrong_order(stage: str, step: str, words: list[str], chain: Steps) -> None:
    names = ("ar4_cl32",) if stage == "prepare_exports" else (GRAPH,)
    with pytest.raises(BadInput) as caught:
        chain.run(step, *chain.graphs(stage, *names), out="refused")
    assert all(word in str(caught.value) for word in words), caught.value
    assert caught.value.where.step == step and caught.value.where.path.endswith(".onnx")


def test_parts_without_attention_need_no_heads(chain: Steps, steps: Steps) -> None:
    graphs = chain.graphs("split_model", "prompt_ar4_cl32_1_of_2")
    made = steps.run("quantize", *graphs)
    assert [path.name for path in made] == [
        "prompt_ar4_cl32_1_of_2.encodings",
        "prompt_ar4_cl32_1_of_2.onnx",
        "weights.data",
    ]


def spoil_graph(graph: Path) -> None:
    graph.write_bytes(graph.read_bytes()[:-100])


def spoil_nodes(graph: Path) -> None:
    graph.write_bytes(b"")


def cut_weights(graph: Path) -> None:
    data = graph.with_name("weights.data")
    data.write_bytes(data.read_bytes()[:-1])


def lose_weights(graph: Path) -> None:
    graph.with_name("weights.data").unlink()


def place_weights(**entries: str) -> Callable[[Path], None]:
    """Say something else of every weight that lies outside."""

    def spoil(graph: Path) -> None:
        proto = onnx.load(graph, load_external_data=False)
        for tensor in proto.graph.initializer:
            for entry in tensor.external_data:
                entry.value = entries.get(entry.key, entry.value)
        graph.write_bytes(proto.SerializeToString())

    return spoil


@pytest.mark.parametrize("step", ["convert", "generate_context_binary"])
@pytest.mark.parametrize(("spoil", "words"), [
    (spoil_graph, ["not an ONNX file, or not whole", "write it again"]),
    (spoil_nodes, ["it has no nodes"]),
    (cut_weights, ["its weights are cut short", "weights.data, which has"]),
    (lose_weights, ["there is no file 'weights.data' beside it", "in one folder"]),
    (place_weights(location="../weights.data"), ["outside of its folder"]),
    (place_weights(location="/etc/passwd"), ["outside of its folder"]),
    (place_weights(offset="-64"), ["bytes, not"]),
    (place_weights(offset="many"), ["has no sizes"]),
    (place_weights(length="1"), ["bytes, not 1 at"]),
])  # fmt: skip
def test_damaged_graphs(
    step: str, spoil: Callable[[Path], None], words: list[str], chain: Steps, steps: Steps
) -> None:
    graph = copied(chain.graphs("quantize", GRAPH)[0], steps.folder / "copy")
    spoil(graph)
    with pytest.raises(BadInput) as caught:
        steps.run(step, graph)
    assert all(word in str(caught.value) for word in words), caught.value
    assert caught.value.where.path == str(graph)


def test_data_inside_of_nodes(chain: Steps, steps: Steps) -> None:
    """Its place would be read by the compiler, and checked by nobody."""
    graph = copied(chain.graphs("quantize", GRAPH)[0], steps.folder / "copy")
    proto = onnx.load(graph, load_external_data=False)
    outside = onnx.TensorProto(dims=[1], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="/etc/passwd")
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["more"], value=outside))
    graph.write_bytes(proto.SerializeToString())
    with pytest.raises(BadInput, match="data inside of its nodes"):
        steps.run("convert", graph)


def test_a_link_out_of_the_folder(chain: Steps, steps: Steps) -> None:
    graph = copied(chain.graphs("quantize", GRAPH)[0], steps.folder / "copy")
    data = graph.with_name("weights.data")
    data.rename(steps.folder / "elsewhere")
    data.symlink_to(steps.folder / "elsewhere")
    with pytest.raises(BadInput, match="outside of its folder"):
        steps.run("convert", graph)


@pytest.mark.parametrize("kind", ["qwen2", "gguf"])
def test_another_source(kind: str, chain: Steps, llama_gguf: Path, tmp_path: Path) -> None:
    """A model of the same sizes in a file of the same name, too."""
    other = llama_gguf if kind == "gguf" else random_models.make(kind, tmp_path / kind)
    with pytest.raises(BadInput, match="made of another model") as caught:
        Steps(other, tmp_path).run("mha_to_sha", *chain.graphs("split_model"))
    assert "give the model" in caught.value.hint


@pytest.mark.parametrize(("text", "words"), [
    ("[]", "no JSON object"),
    ("{", "not an encodings file"),
    ('{"x": 3}', "x has no scale, zero_point and dtype"),
    ('{"x": {"scale": -1.0, "zero_point": 0, "dtype": "uint8"}}', "x has no scale"),
    ('{"x": {"scale": 1.0, "zero_point": 256, "dtype": "uint8"}}', "x has no scale"),
    ('{"x": {"scale": 1.0, "zero_point": 0, "dtype": "object"}}', "x has no scale"),
    ('{"activation_encodings": 3}', "not a dict of tensors"),
    ('{"version": "1.0.0", "activation_encodings": [], "param_encodings": []}', "no encodings for"),
])  # fmt: skip
def test_encodings_that_are_none(text: str, words: str, chain: Steps, steps: Steps) -> None:
    path = steps.folder / "given.encodings"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        steps.run("quantize", *chain.graphs("mha_to_sha"), encodings=path)
    assert words in caught.value.message and "argument" not in caught.value.message
    assert caught.value.where.path == str(path)


def test_encodings_beside_that_do_not_fit(chain: Steps, steps: Steps) -> None:
    first, second = (copied(path, steps.folder / "copy") for path in chain.graphs("mha_to_sha"))
    document = json.loads(second.with_suffix(".encodings").read_text())
    row = document["activation_encodings"][0]
    row["scale"] = [2 * row["scale"][0]]
    second.with_suffix(".encodings").write_text(json.dumps(document))
    with pytest.raises(BadInput, match=r"the graphs' encodings of .* differ"):
        steps.run("quantize", first, second)
    del document["activation_encodings"][0]
    second.with_suffix(".encodings").write_text(json.dumps(document))
    with pytest.raises(BadInput, match=f"no encodings for 1 tensors of {second.stem}"):
        steps.run("quantize", first, second)
    second.with_suffix(".encodings").unlink()
    with pytest.raises(BadInput, match="can't be read"):
        steps.run("quantize", first, second)


def test_heads_that_differ_get_what_covers_all(chain: Steps, steps: Steps) -> None:
    graph = copied(chain.graphs("mha_to_sha", GRAPH)[0], steps.folder / "copy")
    file = graph.with_suffix(".encodings")
    document = json.loads(file.read_text())
    rows = {row["name"]: row for row in document["activation_encodings"]}
    module = "model.layers.0.self_attn.probabilities"
    heads = sorted(name for name in rows if name.startswith(f"{module}.head_"))
    rows[heads[0]]["scale"] = wide = [4 * rows[heads[0]]["scale"][0]]
    file.write_text(json.dumps(document))
    steps.run("quantize", graph)
    told = read_encodings(steps.folder / f"quantize/{GRAPH}.encodings").activations
    assert len(heads) > 1
    assert all(told[name].scales == pytest.approx(wide, rel=1e-4) for name in heads)


def test_steps_that_read_no_encodings(chain: Steps, bundle: Path) -> None:
    graphs = chain.graphs("quantize")
    with pytest.raises(BadInput, match="convert has no use for encodings"):
        chain.run("convert", *graphs, encodings=bundle, out="refused")
    with pytest.raises(BadInput, match="the scheme fp16 has no use for encodings"):
        floats = chain.graphs("mha_to_sha")
        chain.run("quantize", *floats, encodings=bundle, quant="fp16", out="refused")


def test_graphs_of_another_scheme(chain: Steps) -> None:
    with pytest.raises(BadInput, match="is quantised, which is not the scheme fp16"):
        chain.run("generate_context_binary", *chain.graphs("quantize"), quant="fp16", out="none")


def test_one_part_at_a_time(chain: Steps) -> None:
    graphs = chain.graphs("split_model", GRAPH, "prompt_ar4_cl32_1_of_2")
    with pytest.raises(BadInput, match="of several parts"):
        chain.run("quantize", *graphs, attention="grouped", out="refused")


def test_other_parts_than_the_recipes(chain: Steps, steps: Steps) -> None:
    with pytest.raises(BadInput, match=r"part 2_of_2, and 3 parts are asked for") as caught:
        steps.run("quantize", *chain.graphs("mha_to_sha"), splits=3)
    assert "--splits" in caught.value.hint
    assert steps.run("quantize", *chain.graphs("mha_to_sha"), splits="auto")


def test_float_scales_of_blocks_are_nothing_for_a_dlc(chain: Steps) -> None:
    with pytest.raises(BadInput, match="a DLC can't hold the float scales of blocks"):
        chain.run("convert", *chain.graphs("quantize"), quant="w4a16_b32", out="refused")


def test_scales_of_weights_stay_out_of_large_files(
    chain: Steps, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelc.pipeline.exported.MOST_BYTES", 1)
    steps.run("quantize", *chain.graphs("mha_to_sha"))
    told = read_encodings(steps.folder / f"quantize/{GRAPH}.encodings")
    assert told.activations and not told.parameters


@pytest.mark.parametrize(("name", "files"), [
    ("prepare_exports", ()),
    ("split_model", ("prepare_exports", "ar4_cl32")),
    ("mha_to_sha", ("split_model", GRAPH)),
    ("quantize", ("mha_to_sha", GRAPH)),
])  # fmt: skip
def test_results_that_are_there_are_kept(
    name: str, files: tuple[str, ...], chain: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before the work is done."""
    monkeypatch.setattr(f"modelc.pipeline.steps_graphs.{name}", lambda context: pytest.fail("ran"))
    graphs = chain.graphs(*files) if files else []
    with pytest.raises(BadInput, match="would be overwritten"):
        chain.run(name, *graphs)


def test_a_file_where_the_folder_should_be(chain: Steps, steps: Steps) -> None:
    (steps.folder / "file").write_text("")
    for out in ("file", "file/below"):
        with pytest.raises(BadInput, match="is a file, not a folder"):
            steps.run("mha_to_sha", *chain.graphs("split_model"), out=out)


def test_the_cpu_has_no_named_steps(llama_folder: Path, call: Callable[..., Ran]) -> None:
    for name in ("prepare_exports", "quantize"):
        ran = call("step", name, llama_folder, "-t", "cpu")
        assert ran.code == 2 and "cpu is not compiled in named steps" in ran.stderr


OPTIONS = ("-t", "snapdragon-8-elite", "--quant", SCHEME, "--ar", "4,1", "--context-length", 32)


def test_split_model_keeps_to_the_memory_limit(
    chain: Steps, llama_folder: Path, call: Callable[..., Ran]
) -> None:
    """As a compile: one that nothing fits in is refused in the same words."""
    options = (*OPTIONS, "--memory-limit", "300M")
    graph = chain.graphs("prepare_exports", "ar4_cl32")[0]
    said = [
        call(*command, *options)
        for command in (("estimate", llama_folder), ("step", "split_model", llama_folder, graph))
    ]
    assert [ran.code for ran in said] == [2, 2]
    first, second = (ran.stderr.splitlines()[0] for ran in said)
    assert first == second and "memory limit" in first


def test_grouped_attention_is_asked_for(
    chain: Steps, llama_folder: Path, tmp_path: Path, call: Callable[..., Ran]
) -> None:
    graph = chain.graphs("split_model", GRAPH)[0]
    options = (*OPTIONS, "--splits", 2, "-o", tmp_path, "--json")
    ran = call("step", "quantize", llama_folder, graph, *options)
    assert ran.code == 2 and "--attention grouped" in ran.stderr
    made = call("step", "quantize", llama_folder, graph, *options, "--attention", "grouped").json()
    assert str(tmp_path / graph.name) in made["files"]


def test_nothing_but_the_error_is_shown(
    chain: Steps, llama_folder: Path, tmp_path: Path, call: Callable[..., Ran]
) -> None:
    """No warnings of libraries, no traceback."""
    graph = chain.graphs("mha_to_sha", GRAPH)[0]
    ran = call("step", "generate_context_binary", llama_folder, graph, *OPTIONS, "-o", tmp_path)
    assert ran.code == 2 and ran.stdout == ""
    shown = ran.stderr.strip().splitlines()
    assert len(shown) == 3 and shown[0].startswith("error: ") and "hint: " in shown[2], ran.stderr

"""A program that knows only `ort_pipeline.json` computes what the simulator does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import ort_program
from support.htp_decoder import CHIPSET, Lowered, lower
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.config import Rope
from modelc.errors import BadInput, Damaged
from modelc.targets.snapdragon.binary import BinaryInfo, read_binary
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import compile_graphs
from modelc.targets.snapdragon.library import library_path
from modelc.targets.snapdragon.ort_form import PIPELINE, write_ort_form
from modelc.targets.snapdragon.rotary import Rotary, rotary_of
from modelc.targets.snapdragon.wrapper import binary_of, read_wrapper

pytest.importorskip("onnxruntime_qnn", reason="HTP's compiler is not here")
pytestmark = pytest.mark.simulator

TOKENS = [1, 5, 9, 12, 3, 39, 7, 7, 2, 30, 11]


def form_of(wrappers: list[Path], rotary: Rotary, folder: Path) -> dict[str, Any]:
    binaries: dict[str, BinaryInfo] = {}
    for wrapper in wrappers:
        binary = binary_of(wrapper)
        if binary.name not in binaries:
            binaries[binary.name] = read_binary(binary, workdir=folder / "work")
            shutil.copy(binary, folder)
    write_ort_form(wrappers, binaries, rotary, folder)
    form: dict[str, Any] = json.loads((folder / PIPELINE).read_text())
    return form


def rotary_for(made: Lowered) -> Rotary:
    return rotary_of(made.source.config, made.context)


@pytest.mark.parametrize("scheme", ["w8a16", "fp16"])
def test_a_program_runs_it(
    scheme: str,
    tiny: Callable[[str], object],
    tmp_path: Path,
) -> None:
    """On twins, which load here; Genie's tokens are held against the same simulator elsewhere."""
    compiled = tiny(scheme)
    form = form_of(compiled.wrappers, rotary_for(compiled.lowered), tmp_path)
    assert "ep.share_ep_contexts" not in form["session_entries"]
    np.testing.assert_array_equal(logits_of(tmp_path), compiled.simulator().logits(TOKENS))


def test_two_context_lengths(tmp_path: Path) -> None:
    """The program goes from the short context to the long one, with the tokens so far, whose
    angles are those of the long one."""
    rope = Rope("longrope", dim=8, short_factors=(1.0,) * 4, long_factors=(2.0,) * 4)
    rope = replace(rope, original_context=16)
    source = tiny_source(tiny_config(rope=rope), tmp_path / "weights.bin")
    write_weights(source)
    lengths = {length: lower(source, length, "fp16", tmp_path / str(length)) for length in (12, 24)}
    wrappers = [wrapper for made in lengths.values() for wrapper in made.twins(tmp_path / "twins")]
    form = form_of(wrappers, rotary_for(lengths[24]), tmp_path)
    wanted = [(1, 12), (8, 12), (1, 24), (8, 24)]
    assert [(call["ar"], call["context_length"]) for call in form["calls"]] == wanted
    reference = lengths[24].reference(TOKENS)
    np.testing.assert_allclose(logits_of(tmp_path), reference, atol=0.02 * np.abs(reference).max())


def logits_of(folder: Path) -> np.ndarray:
    """What a program computes that has only the form and ONNX Runtime."""
    out, tokens = folder / "logits.npy", ",".join(map(str, TOKENS))
    libraries = map(str, map(library_path, ("onnxruntime_providers_qnn", "QnnHtp")))
    command = [sys.executable, ort_program.__file__, str(folder), tokens, str(out), *libraries]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    logits: np.ndarray = np.load(out)
    return logits


def test_graphs_that_share_a_binary(lowered: Callable[[str], Lowered], tmp_path: Path) -> None:
    """They can't be loaded here, so their models are compared with what the binary holds."""
    made = lowered("w8a16")
    graphs = {path.stem: path for path in made.files.values()}
    chipset, binary = find_chipset(CHIPSET), tmp_path / "out" / "decoder_1_of_1.bin"
    compiled = compile_graphs(
        graphs, chipset, made.options, binary, workdir=tmp_path / "work", timeout_s=120
    )
    folder = tmp_path / "bundle"
    folder.mkdir()
    form = form_of(list(compiled.wrappers.values()), rotary_for(made), folder)
    assert form["session_entries"]["ep.share_ep_contexts"] == "1"
    assert [(call["ar"], call["context_length"]) for call in form["calls"]] == [
        (1, made.context),
        (8, made.context),
    ]
    held = {graph.name: graph for graph in compiled.info.graphs}
    for call in form["calls"]:
        [model] = call["models"]
        wrapper = read_wrapper(folder / model["file"])
        assert wrapper.binary == "decoder_1_of_1.bin"
        graph = held.pop(wrapper.graph)
        assert wrapper.inputs == {t.name: (t.dtype, t.shape) for t in graph.inputs}
        assert {t["name"]: t["zero_point"] for t in model["outputs"]} == {
            t.name: t.zero_point for t in graph.outputs
        }
        names = {t["name"] for t in model["inputs"] + model["outputs"]}
        told = {call["tokens"], call["cos"], call["sin"], call["logits"], call["mask"]["name"]}
        assert names == told | {n for row in call["cache"] for n in (row["input"], row["output"])}
        proto = onnx.load(folder / model["file"])
        onnx.checker.check_model(proto)
        keys = [e.key for e in proto.metadata_props if e.key.startswith("ep_compatibility_info")]
        assert keys == ["ep_compatibility_info.QNNExecutionProvider"]
        [source] = [a.s for a in proto.graph.node[0].attribute if a.name == "source"]
        assert source == b"QNNExecutionProvider"
    assert not held

    one = [compiled.wrappers[next(iter(graphs))]]
    info = {"decoder_1_of_1.bin": compiled.info}
    with pytest.raises(Damaged, match="holds no graph"):
        write_ort_form(one, {"other.bin": compiled.info}, rotary_for(made), folder)
    proto = onnx.load(one[0])
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7
    onnx.save(proto, one[0])
    with pytest.raises(Damaged, match=f"declares other tensors .*{proto.graph.input[0].name}"):
        write_ort_form(one, info, rotary_for(made), folder)


def test_a_part_that_is_missing(tiny: Callable[[str], object], tmp_path: Path) -> None:
    compiled = tiny("w8a16")
    with pytest.raises(BadInput, match="not every part"):
        write_ort_form([], {}, rotary_for(compiled.lowered), tmp_path)


@pytest.mark.parametrize("binary", ["../decoder.bin", "/decoder.bin", ""])
def test_a_wrapper_that_points_elsewhere(
    binary: str, tiny: Callable[[str], object], tmp_path: Path
) -> None:
    proto = onnx.load(tiny("w8a16").wrappers[0])
    for attribute in proto.graph.node[0].attribute:
        if attribute.name == "ep_cache_context":
            attribute.s = binary.encode()
    onnx.save(proto, tmp_path / "token.onnx")
    with pytest.raises(Damaged, match="not the wrapper"):
        read_wrapper(tmp_path / "token.onnx")

"""Encodings from elsewhere under the names of a decoder of ours, and ours under a graph's names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.htp_graphs import CONTEXT, encodings, lower, make_source
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderSource
from modelc.errors import BadInput, ModelcError
from modelc.ir.encodings import Encoding, symmetric
from modelc.passes.expand import ExpandComposites
from modelc.passes.htp.quantise import Quantise
from modelc.passes.htp.quantised_weights import weight_encoding
from modelc.passes.htp.value_encodings import value_encodings
from modelc.quant.aimet.encodings import AimetEncodings, TensorEncoding, from_activation
from modelc.quant.aimet.match import MATRICES, Matched, match_encodings
from modelc.quant.aimet.read import read_encodings
from modelc.quant.aimet.write import graph_encodings, write_encodings

FILES = Path(__file__).parent / "aimet_files"
ATTENTION = "model.layers.0.self_attn"


def captured_source(folder: Path = Path("absent"), **changes: object) -> DecoderSource:
    """A decoder of the shape that the captured files are of."""
    sizes = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 32, "heads": 2}
    config = tiny_config(**{**sizes, "kv_heads": 1, "layers": 1, **changes})
    return tiny_source(config, folder / "weights.bin")


def expanded(source: DecoderSource) -> ir.Model:
    return ExpandComposites().apply(build_decoder(source, CONTEXT))


def matched(file: str, **changes: object) -> Matched:
    path = FILES / file
    return match_encodings(read_encodings(path), expanded(captured_source(**changes)), path)


def code_range(encoding: Encoding) -> tuple[float, float]:
    return encoding.minimum, encoding.maximum


@pytest.mark.parametrize("file", sorted(path.name for path in FILES.glob("*.json")))
def test_a_captured_file_says_enough(file: str, tmp_path: Path) -> None:
    source = captured_source(tmp_path)
    write_weights(source)
    found = matched(file)
    assert found.missing == ()
    bits = {
        name.removesuffix(".weight"): weight.stored_bits
        for name, weight in found.weights.items()
        if name.endswith(MATRICES)
    }
    assert bits == {
        "lm_head": 4,
        "model.embed_tokens": 16,
        **{f"{ATTENTION}.{which}_proj": 4 for which in "kqvo"},
        **{f"model.layers.0.mlp.{which}_proj": 4 for which in ("down", "gate", "up")},
    }
    graph = lower(source, "ScaleQueries")
    Quantise(found.encodings).apply(graph)  # raises if a tensor had none
    assert "past_key_0_in" in {value.name for value in graph.graph.inputs}


def test_an_exported_name_is_the_tensor_of_the_same_place() -> None:
    path = FILES / "channels_0.6.1.json"
    rows = json.loads(path.read_text())["activation_encodings"]
    found = matched(path.name).encodings

    def seen(name: str) -> tuple[float, float]:
        (row,) = rows[name]
        return pytest.approx((row["min"], row["max"]), rel=1e-4)

    layer = "/model/layers.0"
    for theirs, ours in (
        ("attention_mask", "mask.full"),
        (f"{layer}/self_attn/q_proj/MatMul_output_0", f"{ATTENTION}.q_proj"),
        (f"{layer}/self_attn/Add_output_0", f"{ATTENTION}.q_rope"),
        (f"{layer}/self_attn/Add_1_output_0", f"{ATTENTION}.k_rope"),
        (f"{layer}/self_attn/Add_2_output_0", f"{ATTENTION}.masked"),
        (f"{layer}/self_attn/MatMul_1_output_0", f"{ATTENTION}.context"),
        (f"{layer}/Add_output_0", "model.layers.0.residual"),
        (f"{layer}/Add_1_output_0", "model.layers.0"),
        (f"{layer}/mlp/Mul_output_0", "model.layers.0.mlp.product"),
        ("/model/norm/Mul_1_output_0", "model.norm"),
        ("logits", "logits"),
        ("model.embed_tokens.weight", "model.embed_tokens"),
    ):
        assert code_range(found[ours]) == seen(theirs), ours
    low, high = code_range(found[f"{ATTENTION}.k_rope.second_sin"])
    assert (-high, -low) == seen(f"{layer}/self_attn/Mul_3_output_0")


def test_what_moves_shares_and_a_cache_is_8_bits_around_0() -> None:
    found = matched("channels_1.0.0.json")
    keys = found.encodings[f"{ATTENTION}.k_rope"]
    assert found.encodings["present.0.key"] == symmetric(max(-keys.minimum, keys.maximum), "uint8")
    assert found.encodings[f"{ATTENTION}.q_heads"] == found.encodings[f"{ATTENTION}.q_proj"]
    assert {"present.0.key", f"{ATTENTION}.q_heads"} <= set(found.derived)
    assert found.encodings["rope.cos.new"] == found.encodings["rope.sin.new"]


def test_both_forms_of_attention_scale_alike() -> None:
    for file in ("channels_1.0.0.json", "sdpa_1.0.0.json"):
        found = matched(file).encodings
        ratio = found[f"{ATTENTION}.scaled"].scale / found[f"{ATTENTION}.scores"].scale
        assert ratio == pytest.approx(8**-0.5, rel=1e-3)


def test_an_attention_of_no_known_form_is_not_guessed(tmp_path: Path) -> None:
    """One more product, and the numbers of the others may mean something else."""
    document = json.loads((FILES / "channels_1.0.0.json").read_text())
    rows = document["activation_encodings"]
    (product,) = (row for row in rows if row["name"].endswith("self_attn/Mul_6_output_0"))
    rows.append({**product, "name": product["name"].replace("Mul_6", "Mul_9")})
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(document))
    found = match_encodings(read_encodings(path), expanded(captured_source()), path)
    assert {f"{ATTENTION}.{name}" for name in ("scores", "context", "q_rope")} <= set(found.missing)
    assert (
        f"/{ATTENTION.replace('.self', '/self').replace('model.', 'model/')}/Softmax_output_0"
        in (found.unmatched)
    )


def test_names_that_are_of_nothing_are_listed() -> None:
    unmatched = matched("channels_1.0.0.json").unmatched
    assert "/model/layers.0/input_layernorm/Pow_output_0" in unmatched
    assert "/model/rotary_emb/Cos_output_0" in unmatched
    more = matched("channels_1.0.0.json", layers=2)
    assert {"model.layers.1", "model.layers.1.mlp.product"} <= set(more.missing)
    assert not [name for name in more.missing if name.startswith("model.layers.0.")]


def activations(**found: TensorEncoding) -> AimetEncodings:
    return AimetEncodings(found, {})


def tensor(bits: int, scale: float, offset: int) -> TensorEncoding:
    return TensorEncoding("tensor", bits, False, np.array([scale]), np.array([offset]))


def match(found: AimetEncodings) -> Matched:
    return match_encodings(found, expanded(captured_source()), Path("some.json"))


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.mlp.gate_proj",
        "model_layers_0_mlp_gate_proj",
        "/model/layers.0/mlp/gate_proj/MatMul_output_0",
        "/model/model/layers.0/mlp/gate_proj/Conv_output_0",
        "_model_layers_0_mlp_gate_proj_MatMul_output_0",
        "model_model_layers_0_mlp_gate_proj_Conv_output_0",
    ],
)
def test_spellings_of_one_name(name: str) -> None:
    found = match(activations(**{name: tensor(16, 0.25, -7)}))
    assert found.encodings["model.layers.0.mlp.gate_proj"] == Encoding(0.25, 7, "uint16")
    assert found.unmatched == ()


@pytest.mark.parametrize("name", ["vision/layers.0/mlp/gate_proj/MatMul_output_0", "layers", "?"])
def test_names_of_other_models(name: str) -> None:
    assert match(activations(**{name: tensor(16, 0.25, -7)})).unmatched == (name,)


def test_genies_names() -> None:
    found = match(
        activations(
            attention_mask=tensor(16, 50 / 65535, -65535),
            position_ids_cos=tensor(16, 2 / 65535, -32768),
            past_key_0_in=tensor(8, 0.5, -128),
            past_key_0_out=tensor(8, 0.25, -128),
            past_value_0_out=tensor(16, 0.25, -32768),
        )
    ).encodings
    assert found["mask.full"].minimum == pytest.approx(-50)
    assert found["rope.sin.new"] == found["rope.cos.new"]
    assert found["present.0.key"] == Encoding(0.5, 128, "uint8")  # the wider
    assert found["present.0.value"].dtype == "uint16"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (activations(logits=tensor(4, 1, 0)), "logits has 4 bits"),
        (activations(logits=tensor(32, 1, 0)), "logits has 32 bits"),
        (activations(past_key_0_in=tensor(12, 1, 0)), "past_key_0_in has 12 bits"),
        (activations(logits=tensor(16, 1, 1)), "logits has the offset 1"),
        (activations(logits=tensor(8, 1, -256)), "logits has the offset -256"),
        (activations(logits=tensor(8, 1e-60, 0)), "logits has a scale"),
        (
            activations(logits=replace(tensor(16, 1, 0), granularity="channel")),
            "logits is an activation with a scale per channel",
        ),
        (activations(attention_mask=tensor(16, 1, -65000)), "the attention mask's encoding"),
        (activations(attention_mask=tensor(8, 1, -255)), "the attention mask's encoding"),
        (
            activations(past_key_0_in=tensor(8, 1, 0), past_key_0_out=tensor(16, 1, 0)),
            "have different bit widths",
        ),
        (
            AimetEncodings(
                {}, {"lm_head.weight": replace(tensor(4, 1, -8), granularity="channel")}
            ),
            r"lm_head.weight has 1 scales, which a weight of \[20, 16\]",
        ),
        (
            AimetEncodings(
                {}, dict.fromkeys(["lm_head.weight", "lm_head/weight"], tensor(4, 1, 0))
            ),
            "two entries are for lm_head.weight",
        ),
    ],
)
def test_what_htp_cannot_hold(found: AimetEncodings, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        match(found)
    assert caught.value.where.path == "some.json"


def test_floats_are_listed_and_not_used(tmp_path: Path) -> None:
    path = tmp_path / "encodings.json"
    write_encodings(path, AimetEncodings({}, {}, ("logits",)))
    found = match(read_encodings(path))
    assert found.floats == ("logits",)
    assert "logits" in found.missing


@pytest.mark.parametrize("version", ["1.0.0", "0.6.1"])
def test_calibrated_encodings_come_back(version: str, tmp_path: Path) -> None:
    source = make_source(tmp_path)
    known, path = encodings(source), tmp_path / "encodings.json"
    said = {name: from_activation(encoding) for name, encoding in known.items()}
    write_encodings(path, AimetEncodings(said, {}), version)
    found = match_encodings(read_encodings(path), expanded(source), path)
    assert found.encodings == known
    assert (found.derived, found.missing, found.unmatched) == ((), (), ())


@pytest.mark.parametrize("ar", [4, 1])
def test_a_graphs_file_names_its_tensors(ar: int, tmp_path: Path) -> None:
    """Exported for Genie's graph, with moved tensors joined, and imported for the expanded one."""
    source = make_source(tmp_path)
    known = encodings(source)
    model = lower(source, "ScaleQueries", ar=ar)
    table = model.graph.initializers["model.embed_tokens.weight"]
    chosen = value_encodings(model.graph, known, {table: weight_encoding(table, "uint16")})
    by_name = {str(value.name): encoding for value, encoding in chosen.items()}
    step = TensorEncoding("channel", 4, True, np.full(40, 0.1), np.full(40, -8))
    weights = {"lm_head.weight": step, "of.another.part": step}
    made = graph_encodings(model, by_name, weights)

    assert list(made.parameters) == ["lm_head.weight"]
    floats = {value.name for value in model.graph.inputs if value.dtype == ir.DataType.FLOAT}
    floats |= {
        value.name
        for node in model.graph
        for value in node.outputs
        if value.dtype == ir.DataType.FLOAT
    }
    assert set(made.activations) == floats
    assert {"past_key_0_in", "past_value_1_out", "attention_mask", "logits"} <= floats

    path = tmp_path / "encodings.json"
    write_encodings(path, made)
    found = match_encodings(read_encodings(path), expanded(source), path)
    for name in ("present.0.key", "mask.full", "rope.cos.new", f"{ATTENTION}.masked", "logits"):
        assert found.encodings[name] == known[name], name

    del by_name["past_key_0_in"]
    with pytest.raises(ModelcError, match="past_key_0_in the first of them"):
        graph_encodings(model, by_name, {})

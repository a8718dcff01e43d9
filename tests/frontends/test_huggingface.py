"""Settings and files of a Hugging Face folder: both generations, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from modelc.decoder.config import Rope
from modelc.errors import BadInput
from modelc.frontends import read_source, source_files
from modelc.frontends.fields import Fields
from modelc.frontends.huggingface.config import read_config

Copy = Callable[..., Path]


@pytest.fixture
def copy(folder_of: Callable[[str], Path], tmp_path: Path) -> Copy:
    """A function that copies a model's folder, changing keys of its JSON files (None drops one)."""

    def make(identity: str = "llama", **changes: dict[str, Any]) -> Path:
        target = tmp_path / "model"
        shutil.copytree(folder_of(identity), target)
        for name, keys in changes.items():
            path = target / f"{name}.json"
            document = json.loads(path.read_text())
            document = {**document, **keys}
            path.write_text(json.dumps({k: v for k, v in document.items() if v != "drop"}))
        return target

    return make


def config_of(path: Path, **changes: Any) -> Fields:
    values = {**json.loads((path / "config.json").read_text()), **changes}
    return Fields({key: value for key, value in values.items() if value != "drop"}, path)


GENERATIONS: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 4.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    {"rope_type": "yarn", "factor": 4.0, "truncate": False, "beta_fast": 16},
    {
        "rope_type": "longrope",
        "short_factor": [1.0] * 8,
        "long_factor": [2] * 8,
        "original_max_position_embeddings": 64,
    },
]


@pytest.mark.parametrize("scaling", GENERATIONS)
def test_both_generations_give_the_same_rope(
    scaling: dict[str, Any], folder_of: Callable[[str], Path]
) -> None:
    folder = folder_of("llama")
    new = read_config(config_of(folder, rope_parameters={**scaling, "rope_theta": 5e5}))
    old = config_of(folder, rope_parameters="drop", rope_theta=5e5, rope_scaling=scaling)
    assert read_config(old) == new
    kind = scaling["rope_type"]
    older = {**{k: v for k, v in scaling.items() if k != "rope_type"}, "type": kind}
    older = config_of(folder, rope_parameters="drop", rope_theta=5e5, rope_scaling=older)
    assert read_config(older) == new
    assert (new.rope.kind, new.rope.theta) == (kind, 5e5)


def test_old_configs_without_scaling(folder_of: Callable[[str], Path]) -> None:
    folder = folder_of("llama")
    for scaling in (None, {}, "drop"):
        given = config_of(folder, rope_parameters="drop", rope_scaling=scaling)
        assert read_config(given).rope == Rope(dim=16)


def test_phi3_names_longrope_su(folder_of: Callable[[str], Path]) -> None:
    scaling = {"type": "su", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    rope = read_config(
        config_of(folder_of("phi3"), rope_parameters="drop", rope_scaling=scaling)
    ).rope
    assert (rope.kind, rope.original_context, rope.factor) == ("longrope", 64, 4.0)


def test_yarn_may_give_the_length_before_scaling(folder_of: Callable[[str], Path]) -> None:
    rope = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}
    assert read_config(config_of(folder_of("qwen2"), rope_parameters=rope)).max_context == 1024


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "model_type": ("llama", {"model_type": "llama4"}, "unknown architecture 'llama4'"),
    "no model_type": ("llama", {"model_type": "drop"}, "model_type is missing"),
    "another head": ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "architect"),
    "dynamic rope": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
        "unknown rope scaling 'dynamic'",
    ),
    "mrope": (
        "qwen2",
        {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
        "unknown setting mrope_section",
    ),
    "rope by layer type": (
        "gemma2",
        {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
        "unknown setting full_attention",
    ),
    "key of another rope": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "beta_fast": 2}},
        "unknown setting beta_fast",
    ),
    "rope without factor": ("llama", {"rope_parameters": {"rope_type": "linear"}}, "factor is mis"),
    "llama3 without low_freq": (
        "llama",
        {"rope_parameters": {"rope_type": "llama3", "factor": 2.0}},
        "low_freq_factor is missing",
    ),
    "rope is a text": ("llama", {"rope_parameters": "yarn"}, "rope_parameters is 'yarn'"),
    "factors": (
        "phi3",
        {"rope_parameters": {"rope_type": "longrope", "short_factor": [1, "2"]}},
        "short_factor is [1, '2']",
    ),
    "partial rope": ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "activation": ("llama", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
    "huge": ("llama", {"num_hidden_layers": 10**12}, "num_hidden_layers is 1000000000000"),
    "beyond floats": ("llama", {"rms_norm_eps": 10**400}, "rms_norm_eps is"),
    "negative": ("llama", {"hidden_size": -1}, "hidden_size is -1"),
    "layer types": ("qwen3", {"layer_types": ["full_attention"]}, "layer_types is"),
    "unknown layer type": ("qwen3", {"layer_types": ["linear_attention"] * 2}, "layer_types is"),
    "windows without a width": (
        "qwen3",
        {"layer_types": ["sliding_attention"] * 2},
        "sliding_window is",
    ),
    "mixed mistral": (
        "mistral",
        {"layer_types": ["sliding_attention", "full_attention"]},
        "layer_types is",
    ),
    "bidirectional": ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_att"),
    "scalar": ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0"),
    "kv heads": ("llama", {"num_key_value_heads": 3}, "heads 4, kv_heads 3"),
    "biases missing": ("llama", {"attention_bias": True}, "k_proj.bias' is missing"),
    "biases unexpected": ("llama-bias", {"attention_bias": False}, "k_proj.bias' is unexpected"),
    "head missing": ("llama-tied", {"tie_word_embeddings": False}, "no weight lm_head.weight"),
    "sizes": ("llama", {"intermediate_size": 96}, "is [128, 64], not [96, 64]"),
    "fused sizes": ("phi3", {"num_key_value_heads": 1}, "has 128 rows, not 64 + 16 + 16"),
    "layers": ("llama", {"num_hidden_layers": 1}, "no weight model.layers.1"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str, copy: Copy) -> None:
    identity, changes, message = REFUSED[what]
    with pytest.raises(BadInput) as caught:
        read_source(copy(identity, config=changes))
    assert message in caught.value.message
    assert caught.value.where.path


def test_unknown_architecture_names_the_nearest(copy: Copy) -> None:
    with pytest.raises(BadInput) as caught:
        read_source(copy(config={"model_type": "ministral"}))
    assert "mistral" in caught.value.hint


@pytest.mark.parametrize(
    ("identity", "changes", "windows"),
    [
        ("mistral", {"sliding_window": None}, (0, 0)),
        ("mistral", {"sliding_window": "drop"}, (4096, 4096)),  # as transformers has it
        ("mistral", {"layer_types": ["sliding_attention"] * 2}, (12, 12)),
        ("qwen2-window", {"layer_types": "drop"}, (0, 12)),
        ("qwen2-window", {"layer_types": "drop", "max_window_layers": 2}, (0, 0)),
        ("qwen2-window", {"layer_types": ["sliding_attention", "full_attention"]}, (12, 0)),
        ("gemma2", {"layer_types": "drop"}, (12, 0)),
        ("gemma2", {"layer_types": ["full_attention", "full_attention"]}, (0, 0)),
    ],
)
def test_windows(
    identity: str, changes: dict[str, Any], windows: tuple[int, ...], copy: Copy
) -> None:
    assert read_source(copy(identity, config=changes)).config.windows == windows


def test_gemma2_defaults_of_older_files(copy: Copy) -> None:
    keys = ("tie_word_embeddings", "attn_logit_softcapping", "final_logit_softcapping")
    config = read_source(copy("gemma2", config=dict.fromkeys(keys, "drop"))).config
    assert config.tied_head
    assert (config.attention_softcap, config.logit_softcap) == (50.0, 30.0)


def test_no_softcaps(folder_of: Callable[[str], Path]) -> None:
    nothing = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    config = read_config(config_of(folder_of("gemma2"), **nothing))
    assert (config.attention_softcap, config.logit_softcap) == (0.0, 0.0)


def shard(folder: Path) -> dict[str, str]:
    """Split a folder's weights over two files, and return the index's map."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    places = {}
    for part, chosen in enumerate((names[::2], names[1::2])):
        file = f"model-{part + 1:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in chosen}, folder / file)
        places |= dict.fromkeys(chosen, file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return places


def test_shards(copy: Copy, folder_of: Callable[[str], Path]) -> None:
    folder = copy("qwen3")
    places = shard(folder)
    whole, parts = read_source(folder_of("qwen3")), read_source(folder)
    for name, weight in whole.weights.items():
        assert parts.weights[name].path == folder / places[name]
        assert (parts.weights[name].decode() == weight.decode()).all()
    assert set(source_files(folder)) == set(folder.iterdir())


@pytest.mark.parametrize(
    "name",
    ["../model-00001-of-00002.safetensors", "/etc/passwd", "..", "", "gone", "a\0", "a" * 999],
)
def test_shards_stay_in_the_folder(name: str, copy: Copy) -> None:
    folder = copy()
    places = shard(folder)
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder.parent)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {**places, "lm_head.weight": name}}))
    with pytest.raises(BadInput, match="there is no shard") as caught:
        read_source(folder)
    assert caught.value.where.path == str(index)


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}'])
def test_damaged_index(index: str, copy: Copy) -> None:
    folder = copy()
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(BadInput, match=r"weight_map|JSON object"):
        read_source(folder)


def test_a_tensor_in_two_shards(copy: Copy) -> None:
    folder = copy()
    shard(folder)
    shutil.copy(
        folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors"
    )
    with pytest.raises(BadInput, match="is also in model-00001"):
        read_source(folder)


@pytest.mark.parametrize(
    ("file", "message", "hint"),
    [
        ("tokenizer.json", "tokenizer.json can't be read", "save_pretrained"),
        ("model.safetensors", "there is no model.safetensors", "safe_serialization"),
    ],
)
def test_missing_file(file: str, message: str, hint: str, copy: Copy) -> None:
    folder = copy()
    (folder / file).unlink()
    with pytest.raises(BadInput, match=message) as caught:
        read_source(folder)
    assert hint in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"a":' * 50_000])
@pytest.mark.parametrize("file", ["config", "tokenizer", "tokenizer_config", "generation_config"])
def test_damaged_json(file: str, content: bytes, copy: Copy) -> None:
    folder = copy()
    (folder / f"{file}.json").write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_source(folder)
    assert caught.value.where.path == str(folder / f"{file}.json")


def test_other_types_of_tensors(copy: Copy) -> None:
    folder = copy()
    tensors = load_file(folder / "model.safetensors")
    half = {name: tensor.half() for name, tensor in tensors.items()}
    save_file(half, folder / "model.safetensors")
    norm = read_source(folder).weights["model.norm.weight"]
    assert norm.format == "F16"
    assert (norm.decode() == half["model.norm.weight"].float().numpy()).all()
    save_file({**tensors, "model.norm.weight": tensors["model.norm.weight"].double()},
              folder / "model.safetensors")  # fmt: skip
    with pytest.raises(BadInput, match=r"'model.norm.weight' has the type F64"):
        read_source(folder)


def test_special_tokens_and_templates(copy: Copy) -> None:
    folder = copy(
        tokenizer_config={
            "bos_token": {"content": "<s>", "special": True},
            "chat_template": "from the settings",
            "add_bos_token": False,
        },
        generation_config={"eos_token_id": [5, 1]},
        config={"eos_token_id": 7},
    )
    template = folder / "chat_template.jinja"
    own = template.read_text()
    tokenizer = read_source(folder).tokenizer
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.add_bos) == (0, (5, 1, 7), False)
    assert tokenizer.special["bos_token"] == "<s>"
    assert tokenizer.chat_template == own
    template.unlink()
    assert read_source(folder).tokenizer.chat_template == "from the settings"


def test_named_templates(copy: Copy) -> None:
    named = [{"name": "tool", "template": "x"}, {"name": "default", "template": "y"}]
    folder = copy(tokenizer_config={"chat_template": named})
    (folder / "chat_template.jinja").unlink()
    assert read_source(folder).tokenizer.chat_template == "y"


def test_add_bos_follows_the_post_processor(copy: Copy) -> None:
    folder = copy()
    assert read_source(folder).tokenizer.add_bos
    document = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**document, "post_processor": None}))
    assert not read_source(folder).tokenizer.add_bos


def test_fused_and_single_weights_together(copy: Copy) -> None:
    folder = copy("phi3")
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = tensors["model.layers.0.self_attn.o_proj.weight"].clone()
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadInput, match="holds rows that another tensor has"):
        read_source(folder)


def test_bos_beyond_the_embeddings(copy: Copy) -> None:
    special = {"bos_token": None}
    folder = copy(tokenizer_config=special, config={"bos_token_id": 384})
    with pytest.raises(BadInput, match="bos_token_id is 384"):
        read_source(folder)

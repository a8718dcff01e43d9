"""What others call the tensors of a decoder, by tables.

PyTorch's exporter calls a result `/path/of/module/Operator_3_output_0`, counting the operators of
one kind in a module; QAIRT writes every sign that C doesn't allow as an underscore; wrappers put
one more `model` in front. So names are compared after both (`simplify`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from modelc.ir import genie


@dataclass(frozen=True)
class Target:
    """The canonical tensor that a foreign one is, or, `mirrored`, is the negative of."""

    name: str
    mirrored: bool = False


Index = Mapping[str, tuple[Target, ...]]
"""Simplified foreign name -> the canonical tensors whose encoding it says."""

_KINDS: Final[tuple[Literal["key", "value"], ...]] = ("key", "value")

MODEL: Final[Mapping[str, str]] = {
    genie.MASK: "mask.full",
    genie.COS: "rope.cos.new",
    genie.SIN: "rope.sin.new",
    "model/embed_tokens/Gather_output_0": "model.embed_tokens",
    "model/rotary_emb/Mul_output_0": "rope.cos.new",
    "model/rotary_emb/Mul_1_output_0": "rope.sin.new",
    "model/norm/Mul_1_output_0": "model.norm",
}

LAYER: Final[Mapping[str, str]] = {
    "input_layernorm/Mul_1": ".input_layernorm",
    "self_attn/q_norm/Mul_1": ".self_attn.q_norm",
    "self_attn/k_norm/Mul_1": ".self_attn.k_norm",
    "Add": ".residual",
    "post_attention_layernorm/Mul_1": ".post_attention_layernorm",
    "pre_feedforward_layernorm/Mul_1": ".pre_feedforward_layernorm",
    "post_feedforward_layernorm/Mul_1": ".post_feedforward_layernorm",
    "mlp/act_fn/Sigmoid": ".mlp.sigmoid",
    "mlp/act_fn/Mul": ".mlp.activation",
    "mlp/Mul": ".mlp.product",
    "Add_1": "",
}
"""Within a layer, without `_output_0`; linear layers are added from the next two tables."""

LINEARS: Final = (
    *(f"self_attn/{which}_proj" for which in "qkvo"),
    *(f"mlp/{which}_proj" for which in ("gate", "up", "down")),
)

LINEAR_OPERATORS: Final[Mapping[str, tuple[str, ...]]] = {
    "MatMul": (".product", ""),  # a bias comes after it, if there is one
    "Add": ("",),
    "Gemm": ("",),
    "Conv": ("",),
}
"""An operator's result, within the linear layer's module: the first of these that exists."""

_ROTATION: Final[Mapping[str, tuple[Target, ...]]] = {
    "Mul": (Target("q_rope.first_cos"), Target("q_rope.second_cos")),
    "Mul_1": (Target("q_rope.first_sin"), Target("q_rope.second_sin", mirrored=True)),
    "Add": (Target("q_rope"),),
    "Mul_2": (Target("k_rope.first_cos"), Target("k_rope.second_cos")),
    "Mul_3": (Target("k_rope.first_sin"), Target("k_rope.second_sin", mirrored=True)),
    "Add_1": (Target("k_rope"),),
    "Add_2": (Target("masked"),),
    "Softmax": (Target("probabilities"),),
    "MatMul_1": (Target("context"),),
}
_PRODUCT_SCALED: Final = {**_ROTATION, "MatMul": (Target("scores"),)}
_FACTORS_SCALED: Final = {**_ROTATION, "MatMul": (Target("scaled"),)}

ATTENTION: Final[tuple[Mapping[str, tuple[Target, ...]], ...]] = (
    {**_PRODUCT_SCALED, "Mul_6": (Target("scaled"),)},  # eager, key heads repeated
    {**_PRODUCT_SCALED, "Mul_4": (Target("scaled"),)},  # eager, as many key heads
    {**_FACTORS_SCALED, "Mul_6": (), "Mul_7": ()},  # scaled_dot_product_attention, repeated
    {**_FACTORS_SCALED, "Mul_4": (), "Mul_5": ()},  # scaled_dot_product_attention
)
"""The forms in which transformers' attention is exported. The numbers mean nothing alone, so a form
holds for a layer only if its computing operators are exactly those of the file."""

_MOVING: Final = (
    "Cast|Concat|Constant|ConstantOfShape|Equal|Expand|Neg|Reshape|Slice|Split|Transpose|Unsqueeze|"
    "Where"
)
_ATTENTION_OPERATOR: Final = re.compile(
    rf"layers_(\d+)_self_attn_((?!(?:{_MOVING})(?:_\d+)?_output)[A-Z][A-Za-z]*(?:_\d+)?)_output_0"
)


def simplify(name: str) -> str:
    """Return what is left when signs are underscores and the wrappers' `model` is gone."""
    return re.sub(r"^(model_)+", "", re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_"))


def foreign_names(canonical: Iterable[str], layers: int, found: Iterable[str]) -> Index:
    """Return which of a decoder's tensors each known foreign name says.

    Args:
        canonical: the names of the decoder's tensors and weights.
        found: the names in the file, which tell in which form its attention was exported.
    """
    known = set(canonical)
    index: dict[str, tuple[Target, ...]] = {}

    def add(foreign: str, *targets: Target) -> None:
        if existing := tuple(target for target in targets if target.name in known):
            index.setdefault(simplify(foreign), existing)

    def add_first(foreign: str, *names: str) -> None:
        add(foreign, *[Target(name) for name in names if name in known][:1])

    for name in sorted(known):
        add(name, Target(name))
    for foreign, name in MODEL.items():
        add(foreign, Target(name))
    for operator, ends in LINEAR_OPERATORS.items():
        names = [f"lm_head{end}" for end in ends]
        add_first(f"lm_head/{operator}_output_0", *names, "logits")
    forms = _attention_forms(found)
    for layer in range(layers):
        module = f"model.layers.{layer}"
        for kind in _KINDS:
            for foreign in _cache_names(kind, layer):
                add(foreign, Target(f"present.{layer}.{kind}"))
        for foreign, name in LAYER.items():
            add(f"{module}/{foreign}_output_0", Target(f"{module}{name}"))
        for linear in LINEARS:
            result = f"{module}.{linear.replace('/', '.')}"
            for operator, ends in LINEAR_OPERATORS.items():
                foreign = f"{module}/{linear}/{operator}_output_0"
                add_first(foreign, *(result + end for end in ends))
        for operator, targets in forms.get(layer, {}).items():
            inside = [replace(each, name=f"{module}.self_attn.{each.name}") for each in targets]
            add(f"{module}/self_attn/{operator}_output_0", *inside)
    return index


def _cache_names(kind: Literal["key", "value"], layer: int) -> tuple[str, ...]:
    """Genie's, and optimum's for the input."""
    genies = (genie.cache(kind, layer, "in"), genie.cache(kind, layer, "out"))
    return (*genies, f"past_key_values.{layer}.{kind}")


def _attention_forms(found: Iterable[str]) -> dict[int, Mapping[str, tuple[Target, ...]]]:
    """Return the form of each layer whose attention is of a known one."""
    operators: dict[int, set[str]] = {}
    for name in found:
        if match := _ATTENTION_OPERATOR.fullmatch(simplify(name)):
            operators.setdefault(int(match[1]), set()).add(match[2])
    return {
        layer: form
        for layer, names in operators.items()
        for form in ATTENTION
        if set(form) == names
    }

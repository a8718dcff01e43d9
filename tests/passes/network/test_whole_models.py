"""Whole networks: image classifiers of the onnx package, encoders as PyTorch exports them."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
import pytest
from support.network_graphs import assert_same, canonical, light, lower, normal, operators, run

from modelc.ir.provenance import module_of


@pytest.mark.parametrize(
    "name", ["light_squeezenet.onnx", "light_shufflenet.onnx", "light_inception_v1.onnx"]
)
def test_classifiers(name: str) -> None:
    model = light(name)
    (source,) = model.graph.inputs
    feeds = {str(source.name): normal(*(int(size) for size in source.shape))}
    optimised = lower(model, "network")
    lowered = lower(optimised, "htp-network")
    expected = run(model, feeds)
    assert_same(expected, run(optimised, feeds))
    assert_same(expected, run(lowered, feeds))
    left = set(operators(optimised))
    assert not left & {"BatchNormalization", "ConstantOfShape", "Dropout", "Identity", "Constant"}


def _exported(kind: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    import torch
    import transformers

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    if kind == "bert":
        config = transformers.BertConfig(vocab_size=50, attn_implementation="sdpa", **sizes)
        encoder: Any = transformers.BertModel(config, add_pooling_layer=False)
        mask = torch.ones(1, 12, dtype=torch.int64)
        mask[0, 9:] = 0
        inputs = {"input_ids": torch.randint(0, 50, (1, 12)), "attention_mask": mask}
    else:
        config = transformers.SwinConfig(
            image_size=16, patch_size=2, embed_dim=16, depths=[2], num_heads=[2], window_size=4
        )
        encoder = transformers.SwinModel(config, add_pooling_layer=False)
        inputs = {"pixel_values": torch.randn(1, 3, 16, 16)}

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            return self.encoder(**dict(zip(inputs, given, strict=True))).last_hidden_state

    with torch.no_grad():
        program = torch.onnx.export(
            Encoder().eval(),
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            opset_version=20,
            verbose=False,
        )
    proto = onnx.version_converter.convert_version(program.model_proto, 23)
    return proto, {name: tensor.numpy() for name, tensor in inputs.items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["bert", "swin"])
def test_encoders(kind: str) -> None:
    """BERT's export guards its softmax against NaN and looks its mask up; Swin's windows have six
    axes. HTP takes neither as they are."""
    proto, feeds = _exported(kind)
    model = canonical(proto)
    lowered = lower(model, "network", "htp-network")
    assert_same(run(model, feeds), run(lowered, feeds))
    assert len(operators(lowered)) < len(operators(model))
    assert {"LayerNormalization", "Gelu", "Softmax"} <= set(operators(lowered))
    assert not {"IsNaN", "GatherND", "Erf"} & set(operators(lowered))
    assert all(len(value.shape) <= 5 for node in lowered.graph for value in node.outputs)
    assert all(module_of(node) for node in lowered.graph)

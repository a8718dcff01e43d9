"""Whole networks: image classifiers of the onnx package, an encoder as PyTorch exports it."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
from support.network_graphs import assert_same, canonical, light, lower, normal, operators, run

from modelc.ir.provenance import module_of


@pytest.mark.parametrize("name", ["light_squeezenet.onnx", "light_shufflenet.onnx"])
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


def _exported() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    import torch
    import transformers

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        attn_implementation="sdpa",
    )

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = transformers.BertModel(config, add_pooling_layer=False)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.bert(input_ids, attention_mask).last_hidden_state

    mask = torch.ones(1, 12, dtype=torch.int64)
    mask[0, 9:] = 0
    inputs = {"input_ids": torch.randint(0, 50, (1, 12)), "attention_mask": mask}
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
def test_an_encoder() -> None:
    """BERT as PyTorch exports it: it guards its softmax against NaN and looks its mask up, and HTP
    takes neither."""
    proto, feeds = _exported()
    model = canonical(proto)
    lowered = lower(model, "network", "htp-network")
    assert_same(run(model, feeds), run(lowered, feeds))
    assert len(operators(lowered)) < len(operators(model))
    assert {"LayerNormalization", "Gelu", "Softmax"} <= set(operators(lowered))
    assert not {"IsNaN", "GatherND", "Erf"} & set(operators(lowered))
    assert all(module_of(node) for node in lowered.graph)

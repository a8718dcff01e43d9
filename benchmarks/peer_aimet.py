"""AIMET under test: one algorithm, one kind of weights, and the logits of its simulation.

Kinds of weights are set as Qualcomm's recipes for decoders set them: layers as asked, the head int8
for each channel, the embedding int16, the key-value cache int8, other activations uint16; the
configuration is HTP's. Needs aimet-onnx.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import aimet_onnx
import numpy as np
import onnx
from aimet_onnx import QSpec, QuantizationSimModel, int4, int8, int16, quantsim
from aimet_onnx.adascale import adascale_model_config_dict, apply_adascale
from aimet_onnx.llm_configurator import configure_llm
from aimet_onnx.llm_topology import LlmTopology, analyze_llm_topology
from aimet_onnx.prepare_passes.fix_node_names_in_dynamo_exported_onnx import fix_node_names_pass
from aimet_onnx.spinquant import apply_spinquant
from quality_text import Text
from worker import serve

KINDS: Final[Mapping[str, QSpec]] = {
    "w8": QSpec.per_channel(int8, symmetric=True),
    "w4": QSpec.per_channel(int4, symmetric=True),
    "w4_b32": QSpec.blockwise(int4, 32, symmetric=True),
    "w4_lpbq32": QSpec.lpbq(int4, 32),
    "w4_lpbq64": QSpec.lpbq(int4, 64),
}
# Of a weight, with the float32 scales of blocks; those of channels are few.
KIND_BITS: Final = {
    "w8": 8,
    "w4": 4,
    "w4_b32": 4 + 32 / 32,
    "w4_lpbq32": 4 + 4 / 32,
    "w4_lpbq64": 4 + 4 / 64,
}
HEAD_BITS, EMBEDDING_BITS = 8, 16
Inputs = list[dict[str, np.ndarray]]


def seq_mse(sim: QuantizationSimModel, inputs: Inputs, model: Model) -> None:
    # The head has 8 bits, where there is nothing to search for.
    aimet_onnx.apply_seq_mse(sim, inputs, nodes_to_exclude=list(model.topology.lm_head))


def adaround(sim: QuantizationSimModel, inputs: Inputs, model: Model) -> None:
    aimet_onnx.apply_adaround(sim, inputs, num_iterations=model.iterations)


def adascale(sim: QuantizationSimModel, inputs: Inputs, model: Model) -> None:
    config = adascale_model_config_dict[model.architecture]
    apply_adascale(sim, inputs, config, model.iterations, topology=model.topology)


ROUNDINGS: Final[Mapping[str, Callable[[QuantizationSimModel, Inputs, Model], None]]] = {
    "minmax": lambda sim, inputs, model: None,
    "seqmse": seq_mse,
    "adaround": adaround,
    "adascale": adascale,
}


class Model:
    """The float graph, rotated or not, and where its layers are."""

    def __init__(self, path: str, architecture: str, rotate: bool, iterations: int) -> None:
        self.architecture, self.iterations = architecture, iterations
        self.graph: onnx.ModelProto = fix_node_names_pass(onnx.load(path))
        self.topology: LlmTopology = analyze_llm_topology(self.graph, architecture)
        if rotate:
            apply_spinquant(self.graph, enable_r1=True, topology=self.topology)

    def simulation(self, kind: str, threads: int) -> QuantizationSimModel:
        sim = QuantizationSimModel(
            self.graph,
            param_type=int8,
            activation_type=int16,
            config_file="htp_v79",
            session_options_kwargs={"intra_op_num_threads": threads},
        )
        configure_llm(
            sim,
            self.topology,
            backbone_weight_type=KINDS[kind],
            lm_head_weight_type=KINDS["w8"],
        )
        quantsim.set_param_type(sim, int16, nodes_to_include=set(self.topology.embed_tokens))
        nodes = {node.name: node for node in self.graph.graph.node}
        for block in self.topology.blocks:
            for name in (*block.qk_matmul, *block.attn_v_matmul):
                sim.set_tensor_precision(nodes[name].input[1], int8)
        return sim


def evaluate(
    model: str,
    architecture: str,
    text: str,
    kind: str,
    rounding: str,
    rotate: bool,
    iterations: int,
    threads: int,
    logits: str,
) -> dict[str, Any]:
    """Quantise and run; the float32 logits of the scored tokens go to the file `logits`."""
    began = time.perf_counter()
    read = Text.load(text)
    decoder = Model(model, architecture, rotate, iterations)
    inputs = [{"input_ids": row[None]} for row in read.calibration]
    sim = decoder.simulation(kind, threads)
    ROUNDINGS[rounding](sim, inputs, decoder)
    sim.compute_encodings(inputs)
    seconds = time.perf_counter() - began
    found = read.logits(lambda row: sim.session.run(None, {"input_ids": row[None]})[0][0])
    np.save(logits, found)
    return {"seconds": seconds, "bits": (KIND_BITS[kind], HEAD_BITS, EMBEDDING_BITS)}


if __name__ == "__main__":
    serve(
        {
            "version": lambda: {"version": aimet_onnx.__version__},
            "evaluate": evaluate,
        }
    )

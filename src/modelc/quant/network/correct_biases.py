"""Bias correction: the mean error of each output channel of a linear node goes into its bias.

Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
appendix D, empirical bias correction: the means are those of samples, and the layers are corrected
in their order, each on what the corrected ones before it make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput
from modelc.ir.network_encodings import Precision
from modelc.ir.provenance import module_of
from modelc.quant.network.channel_biases import ChannelBias, channel_biases
from modelc.reference.network import Feed, NetworkReference
from modelc.reference.stages import held_bytes, run_in_stages

HELD_BYTES: Final = 1 << 30
"""Of the tensors that all feeds keep from one layer to the next: fewer feeds are looked at where
these would take more."""


@dataclass(frozen=True)
class MeanOutputs:
    """What the float graph makes of some feeds.

    Attributes:
        means: name of a tensor -> mean of each channel, float64 [channels].
        feeds: what was looked at.
    """

    means: Mapping[str, np.ndarray]
    feeds: tuple[Feed, ...]


@dataclass(frozen=True)
class CorrectedBiases:
    """What was corrected.

    Attributes:
        shifts: linear node -> root mean square of what its channels got.
        left: linear nodes that stay as they are, and why.
    """

    shifts: Mapping[str, float]
    left: Mapping[str, str]


def mean_outputs(
    model: ir.Model, nodes: Mapping[str, Precision], feeds: Iterable[Feed]
) -> MeanOutputs:
    """Return the mean outputs of the float graph's linear nodes, before any weight is rounded.

    Args:
        nodes: node name -> precision.

    Raises:
        BadInput: there are no feeds.
    """
    biases = {bias.output: bias for bias in channel_biases(model, nodes, {})}
    held = held_bytes(model, [bias.adder for bias in biases.values()])
    taken = tuple(islice(feeds, max(1, HELD_BYTES // max(held, 1))))
    if not taken:
        raise BadInput("there are no calibration feeds", hint="give at least one")
    means = {name: np.zeros(bias.channels) for name, bias in biases.items()}

    def observe(name: str, values: np.ndarray) -> None:
        if name in biases:
            means[name] += _channel_means(values, biases[name].axis) / len(taken)

    reference = NetworkReference(model)
    for feed in taken:
        reference.observe(feed, observe)
    return MeanOutputs(means, taken)


def correct_biases(
    model: ir.Model,
    coded: ir.Model,
    nodes: Mapping[str, Precision],
    wanted: MeanOutputs,
    progress: Callable[[float, str], None] = lambda fraction, message: None,
) -> CorrectedBiases:
    """Correct the biases of a graph in place, so that the mean outputs of its quantised form are
    those of the float graph.

    A Conv, ConvTranspose or Gemm that has no bias gets one; a MatMul has its bias in the Add
    behind it, and is left where there is none.

    Args:
        model: the float graph, its weights rounded or not.
        coded: its quantised form, which takes and gives floats.
        nodes: node name -> precision, as `mean_outputs` had them.
        wanted: of the float graph.
    """
    left: dict[str, str] = {}
    biases = {bias.output: bias for bias in channel_biases(model, nodes, left)}
    ends = _ends(coded, biases)
    shifts = {}
    done = run_in_stages(coded, list(ends), wanted.feeds)
    for count, (end, made) in enumerate(done, 1):
        bias = ends[end]
        found = sum(_channel_means(values, bias.axis) for values in made) / len(made)
        shift = (wanted.means[bias.output] - found).astype(np.float32)
        bias.write(model.graph, bias.read() + shift)
        for values in made:  # those behind it see it corrected
            turned = np.moveaxis(values, bias.axis, -1)
            turned += shift
        shifts[str(bias.node.name)] = float(np.sqrt(np.mean(np.square(shift))))
        progress(count / len(ends), module_of(bias.node))
    return CorrectedBiases(shifts, left)


def _ends(coded: ir.Model, biases: Mapping[str, ChannelBias]) -> dict[ir.Node, ChannelBias]:
    """Return the nodes of the quantised graph that make the tensors, before these become codes."""
    made = {str(value.name): node for node in coded.graph for value in node.outputs}
    outputs = {str(value.name) for value in coded.graph.outputs}
    found = {
        made[f"{name}.float" if name in outputs else name]: bias for name, bias in biases.items()
    }
    return {node: found[node] for node in coded.graph if node in found}


def _channel_means(values: np.ndarray, axis: int) -> np.ndarray:
    turned = np.moveaxis(values, axis, -1)
    means: np.ndarray = turned.reshape(-1, turned.shape[-1]).mean(0, dtype=np.float64)
    return means

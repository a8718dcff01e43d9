"""Weights rounded with a look at their inputs: GPTQ or AdaRound, layer by layer on the float model.

What comes out is the same graph, some of whose weights lie exactly on their codes, and the scales
of these; whoever quantises it finds the codes again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput, Where
from modelc.ir.network_encodings import Precision
from modelc.ir.operands import LinearNode, linear_of
from modelc.ir.packing.coded_rows import CodedRows, dequantise_rows
from modelc.ir.packing.kinds import IntegerForm
from modelc.ir.provenance import module_of
from modelc.quant.algorithms.adaround import AdaRound
from modelc.quant.algorithms.gptq import Gptq
from modelc.quant.algorithms.hessian import checked, damped
from modelc.quant.network.patches import patches_of
from modelc.reference.network import Feed, NetworkReference

Rounding = Literal["gptq", "adaround"]

MOMENTS_BYTES: Final = 512 << 20
"""Of all second moments that are gathered at once; more layers take another round of inferences."""
WIDEST: Final = 8192
"""Inputs of an output channel; a layer of more is rounded to nearest, for its moments would take
half a gigabyte."""

_FORMS: Final[Mapping[str, IntegerForm]] = {"int4": IntegerForm(4), "int8": IntegerForm(8)}


@dataclass(frozen=True)
class RoundedWeights:
    """What was rounded.

    Attributes:
        scales: name of a weight -> scale of each output channel.
        left: nodes that are rounded to nearest later, and why.
    """

    scales: Mapping[str, tuple[float, ...]]
    left: Mapping[str, str]


def round_weights(
    model: ir.Model,
    nodes: Mapping[str, Precision],
    feeds: Callable[[], Iterable[Feed]],
    how: Rounding,
    progress: Callable[[float, str], None] = lambda fraction, message: None,
) -> RoundedWeights:
    """Round the weights of linear nodes in place, so that their outputs change little.

    The second moments of each node's inputs are gathered on the float model. Convolutions are
    matrix products of their patches, of one matrix for each group; transposed ones are left.

    Args:
        nodes: node name -> precision, whose weights are int4 or int8 by channel.
        feeds: returns the calibration feeds anew each time.

    Raises:
        BadInput: inputs are NaN or infinite; names the module.
    """
    left: dict[str, str] = {}
    chosen = list(_chosen(model, nodes, left))
    scales: dict[str, tuple[float, ...]] = {}
    done = 0
    rounded = []
    for wave in _waves(chosen):
        moments = _moments(model, wave, feeds())
        for linear in wave:
            node = linear.node
            tensor = linear.weight.const_value
            assert tensor is not None
            shape = tuple(tensor.shape.numpy())
            form = _FORMS[nodes[str(node.name)].weights]
            algorithm = Gptq() if how == "gptq" else AdaRound()
            second = [
                damped(checked(own, module_of(node)), algorithm.damping)
                for own in moments.pop(str(node.name))
            ]
            # Output channels come group after group, as the moments do.
            rows = linear.rows(tensor.numpy())
            try:
                coded = _rounded(algorithm, rows, form, second)
            except np.linalg.LinAlgError as error:
                raise BadInput(
                    "the second moments of the inputs have no Cholesky decomposition",
                    where=Where(module=module_of(node)),
                    hint="give more calibration feeds, or another rounding",
                ) from error
            name = str(linear.weight.name)
            array = linear.unrows(np.concatenate([dequantise_rows(part) for part in coded]), shape)
            rounded.append((linear.weight, ir.Tensor(array, name=name)))
            scales[name] = tuple(float(x) for part in coded for x in part.scales.reshape(-1))
            done += 1
            progress(done / len(chosen), module_of(node))
    # Only now: all moments are of the float model.
    for value, tensor in rounded:
        value.const_value = tensor
    return RoundedWeights(scales, left)


def _chosen(
    model: ir.Model, nodes: Mapping[str, Precision], left: dict[str, str]
) -> Iterator[LinearNode]:
    for node in model.graph:
        linear, precision = linear_of(node), nodes.get(str(node.name))
        if linear is None or precision is None or precision.activations == "float":
            continue
        name = str(node.name)
        if precision.weights not in _FORMS or not precision.per_channel:
            left[name] = "only int4 and int8 by channel are rounded so"
        elif len(linear.weight.uses()) > 1:
            left[name] = "its weight is used elsewhere as well"
        elif linear.axis is None or node.op_type == "ConvTranspose":
            left[name] = "its outputs do not all have the same inputs"
        elif node.attributes.get_int("transA", 0) or _inputs(linear) > WIDEST:
            left[name] = "its inputs are turned, or too many"
        else:
            yield linear


def _rounded(
    algorithm: Gptq | AdaRound, rows: np.ndarray, form: IntegerForm, moments: list[np.ndarray]
) -> list[CodedRows]:
    """Return rows [channels, n] as codes, in parts; moments [n, n] are of one group each."""
    if isinstance(algorithm, AdaRound):  # groups are learned together, for they are many and small
        together = np.stack(moments) if len(moments) > 1 else moments[0]
        return [algorithm.round(rows, form, together)]
    parts = zip(np.split(rows, len(moments)), moments, strict=True)
    return [algorithm.round(part, form, own) for part, own in parts]


def _waves(nodes: Iterable[LinearNode]) -> Iterator[list[LinearNode]]:
    wave: list[LinearNode] = []
    size = 0
    for linear in nodes:
        needed = 4 * _groups(linear.node) * _inputs(linear) ** 2
        if wave and size + needed > MOMENTS_BYTES:
            yield wave
            wave, size = [], 0
        wave.append(linear)
        size += needed
    if wave:
        yield wave


def _moments(
    model: ir.Model, wave: Iterable[LinearNode], feeds: Iterable[Feed]
) -> dict[str, np.ndarray]:
    """Return X'X / rows of the inputs of each node, float32 [groups, inputs, inputs]."""
    readers: dict[str, list[LinearNode]] = {}
    for linear in wave:
        source = linear.node.inputs[0]
        assert source is not None
        readers.setdefault(str(source.name), []).append(linear)
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}

    def observe(name: str, values: np.ndarray) -> None:
        for linear in readers.get(name, ()):
            patches = patches_of(linear.node, values)
            rows = patches.reshape(len(patches), _groups(linear.node), -1).transpose(1, 0, 2)
            key = str(linear.node.name)
            product = rows.transpose(0, 2, 1) @ rows
            sums[key] = sums[key] + product if key in sums else product
            counts[key] = counts.get(key, 0) + len(patches)

    reference = NetworkReference(model)
    for feed in feeds:
        reference.observe(feed, observe)
    if not sums:
        raise BadInput("there are no calibration feeds", hint="give at least one")
    return {key: total / np.float32(max(counts[key], 1)) for key, total in sums.items()}


def _inputs(linear: LinearNode) -> int:
    """Return how many numbers an output channel is made of."""
    tensor = linear.weight.const_value
    assert tensor is not None and linear.axis is not None
    return int(tensor.size) // int(tensor.shape.numpy()[linear.axis])


def _groups(node: ir.Node) -> int:
    return node.attributes.get_int("group", 1) if "Conv" in node.op_type else 1

"""A file's encodings, found for the tensors of one decoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput, Where
from modelc.ir.encodings import Encoding, IntegerType, from_range
from modelc.quant.aimet.derive import derive
from modelc.quant.aimet.encodings import UNSIGNED, AimetEncodings, TensorEncoding, to_activation
from modelc.quant.aimet.heads import join_heads, split_head
from modelc.quant.aimet.names import Index, Target, foreign_names, simplify

_MASK: Final = "mask.full"
_WEIGHTS: Final = (".weight", ".bias")
MATRICES: Final = ("_proj.weight", "lm_head.weight", "embed_tokens.weight")
"""How names of matrices and of the table end; the other weights are vectors."""

_ROTARY: Final = ("rope.cos.new", "rope.sin.new")


@dataclass(frozen=True)
class Matched:
    """What a file gives a decoder; every list is sorted.

    Attributes:
        encodings: of the expanded graph's tensors, by name: what calibration gives otherwise.
        weights: by name in the expanded graph (`model.layers.0.mlp.up_proj.weight`).
        derived: those of `encodings` that the file doesn't say, but lets follow.
        missing: tensors that nothing gives an encoding.
        unmatched: names in the file that are no tensor of the decoder by any known rule.
        floats: names that the file leaves in floating point, and so are not used.
    """

    encodings: Mapping[str, Encoding]
    weights: Mapping[str, TensorEncoding]
    derived: tuple[str, ...]
    missing: tuple[str, ...]
    unmatched: tuple[str, ...]
    floats: tuple[str, ...]


def match_encodings(
    found: AimetEncodings, model: ir.Model, path: Path, cache: IntegerType = "uint8"
) -> Matched:
    """Find a file's tensors in an expanded graph, under canonical names, Genie's or exporters'.

    Where several names of one tensor differ, as of a KV cache before and after or of its heads, it
    gets what covers all; cos and sin likewise, because Genie takes them in one encoding.

    Args:
        path: where `found` was read, for errors.
        cache: type of a KV cache that the file doesn't name.

    Raises:
        BadInput: an activation is of a kind that HTP can't hold; names of one tensor differ in
            bits; the mask doesn't end at 0; or as `match_weights`.
    """
    where = Where(path=str(path))
    values = [value for node in model.graph for value in node.outputs]
    needed = {str(value.name) for value in values if value.dtype == ir.DataType.FLOAT}
    weights = {
        name: _stored_shape(value)
        for name, value in model.graph.initializers.items()
        if name.endswith(_WEIGHTS)
    }
    layers = sum(name.startswith("present.") and name.endswith(".key") for name in needed)
    said = {**found.parameters, **found.activations}
    index = foreign_names(needed | weights.keys(), layers, said)

    encodings: dict[str, Encoding] = {}
    kept = match_weights(found, weights, path)
    for name, target in _targets(index, said):
        if target.name not in weights:
            encoding = to_activation(name, said[name], where)
            encoding = _mirrored(encoding) if target.mirrored else encoding
            others = [encodings[target.name]] if target.name in encodings else []
            encodings[target.name] = widest([encoding, *others], name, where)
    _share_rotary(encodings, where)
    _check_mask(encodings, where)

    tables = {name: to_activation(name, kept[name], where) for name in kept if _whole(kept[name])}
    followed = derive(model, {**encodings, **tables}, cache)
    derived = {name: followed[name] for name in followed if name in needed}
    together = encodings | derived
    return Matched(
        {name: together[name] for name in sorted(together)},
        kept,
        tuple(sorted(derived)),
        tuple(sorted(needed - together.keys())),
        tuple(sorted(name for name in said if simplify(split_head(name)[0]) not in index)),
        found.floats,
    )


def match_weights(
    found: AimetEncodings, shapes: Mapping[str, Sequence[int]], path: Path
) -> dict[str, TensorEncoding]:
    """Return what a file says of a decoder's weights, sorted by their names.

    Args:
        shapes: of the weights by name, as Hugging Face stores them: outputs first.
        path: where `found` was read, for errors.

    Raises:
        BadInput: a weight is there twice, with scales that are not of its shape, or in heads that
            don't go together.
    """
    where = Where(path=str(path))
    said = {**found.parameters, **found.activations}
    heads: dict[str, dict[int, TensorEncoding]] = {}
    for name, target in _targets(foreign_names(shapes, 0, ()), said):
        _, head = split_head(name)
        if head in heads.setdefault(target.name, {}):
            raise BadInput(f"two entries are for {target.name}", where=where)
        heads[target.name][head] = said[name]
    kept = {name: join_heads(name, heads[name], where) for name in sorted(heads)}
    for name, encoding in kept.items():
        _check_weight(name, encoding, shapes[name], where)
    return kept


def _targets(index: Index, names: Iterable[str]) -> Iterator[tuple[str, Target]]:
    """Yield each name of the file with each tensor that it, or its head, says."""
    for name in sorted(names):
        whole, _ = split_head(name)
        yield from ((name, target) for target in index.get(simplify(whole), ()))


def _mirrored(encoding: Encoding) -> Encoding:
    last = int(np.iinfo(encoding.dtype).max)
    return Encoding(encoding.scale, last - encoding.zero_point, encoding.dtype)


def widest(encodings: Sequence[Encoding], name: str, where: Where) -> Encoding:
    """Return one encoding that covers all, which several names of a tensor share.

    Raises:
        BadInput: they differ in bits.
    """
    first = encodings[0]
    if all(encoding == first for encoding in encodings):
        return first
    if len({encoding.dtype for encoding in encodings}) > 1:
        raise BadInput(
            f"{name} and another name of the same tensor have different bit widths",
            where=where,
            hint="a KV cache's input and output, cos and sin, and heads share one encoding",
        )
    low = min(encoding.minimum for encoding in encodings)
    high = max(encoding.maximum for encoding in encodings)
    return from_range(low, high, first.dtype)


def _share_rotary(encodings: dict[str, Encoding], where: Where) -> None:
    if found := [encodings[name] for name in _ROTARY if name in encodings]:
        encodings.update(dict.fromkeys(_ROTARY, widest(found, _ROTARY[0], where)))


def _check_mask(encodings: Mapping[str, Encoding], where: Where) -> None:
    mask = encodings.get(_MASK)
    if mask and (mask.dtype, mask.zero_point) != ("uint16", 65535):
        raise BadInput(
            f"the attention mask's encoding reaches {mask.maximum:g} in {mask.dtype}",
            where=where,
            hint="runtimes write the code 65535 for a position that is seen, so it must mean 0",
        )


def _stored_shape(weight: ir.Value) -> Sequence[int]:
    """A matrix is [inputs, outputs] where it is multiplied by; a table is as it is stored."""
    shape = weight.shape.numpy() if weight.shape is not None else ()
    table = any(node.op_type == "Gather" for node in weight.consumers())
    return shape if table else shape[::-1]


def _check_weight(name: str, found: TensorEncoding, shape: Sequence[int], where: Where) -> None:
    """A matrix [outputs, inputs] has a scale per output, or per block of its inputs."""
    channels, inputs = shape[0], prod(shape[1:])
    expected = {"tensor": 1, "channel": channels, "lpbq": channels}
    fits = inputs % (found.block_size or 1) == 0
    if found.block_size:
        expected["block"] = blocks = channels * (inputs // found.block_size)
        fits = fits and (found.block_scales is None or found.block_scales.size == blocks)
    if not fits or found.scales.size != expected[found.granularity]:
        blocked = f" for blocks of {found.block_size}" if found.block_size else ""
        raise BadInput(
            f"{name} has {found.scales.size} scales{blocked}, which a weight of {list(shape)} "
            "can't have",
            where=where,
            hint="the file must be of the same model",
        )
    with np.errstate(over="ignore"):
        narrow = found.scales.astype(np.float32)
    if not (np.isfinite(narrow) & (narrow > 0)).all():
        raise BadInput(f"{name} has scales that float32 can't hold", where=where)


def _whole(found: TensorEncoding) -> bool:
    return found.granularity == "tensor" and found.bits in UNSIGNED

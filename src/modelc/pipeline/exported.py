"""How large encodings files get that tell of weights too: JSON has no short way to say a scale."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from modelc.errors import BadInput
from modelc.ir.packing.kinds import MATRIX_KINDS
from modelc.ir.stored import tensor_shape
from modelc.pipeline.decoder_job import DecoderJob
from modelc.quant.overrides import EMBEDDING

# A file of each graph; tools read it whole, and need many times its size to do so.
MOST_BYTES: Final = 64 << 20
_SCALE: Final = 30  # bytes that a scale and its offset take, with what is between them
_FACTOR: Final = 4  # a block's factor


def tells_of_weights(plan: DecoderJob, place: str) -> bool:
    """Return whether the encodings of a part's weights fit in a file."""
    return plan.quantised and parameters_bytes(plan, place) <= MOST_BYTES


def check_size(plan: DecoderJob, place: str) -> None:
    """Refuse to write a part's encodings where those of its weights are wanted and don't fit.

    Raises:
        BadInput: they don't.
    """
    if plan.quantised and not tells_of_weights(plan, place):
        size = parameters_bytes(plan, place)
        raise BadInput(
            f"the scales of part {place} would take {size >> 20} MB as JSON, the only form that "
            f"tools read; {MOST_BYTES >> 20} MB can be handled",
            hint="use --quant w4a16 or w8a16, whose scales are few, or more --splits",
        )


def parameters_bytes(plan: DecoderJob, place: str) -> int:
    """Return about how many bytes the encodings of a part's matrices take in each graph's file."""
    part, total = plan.layout.part(place), 0
    for module, inputs, outputs in _matrices(plan):
        form = MATRIX_KINDS.get(plan.kinds[module])
        if form is None or not part.holds(f"{module}.weight"):
            continue
        blocks = outputs * (inputs // form.block if form.block else 1)
        total += _SCALE * outputs + _FACTOR * blocks if form.scale_bits else _SCALE * blocks
    return total


def _matrices(plan: DecoderJob) -> Iterator[tuple[str, int, int]]:
    """Yield module, inputs and outputs of every matrix that is multiplied by."""
    weights = plan.sizes.model.weights
    for module in plan.kinds:
        if module != EMBEDDING:
            matrix = weights.get(f"{module}.weight") or weights[f"{EMBEDDING}.weight"]  # tied head
            outputs, inputs = tensor_shape(matrix)
            yield module, inputs, outputs

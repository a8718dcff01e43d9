"""The calls that choose tokens from logits: see `rows/sampling.py`."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from modelc.errors import BadInput
from modelc.ir.emit import dims_of
from modelc.targets.cuda.emitter import Choosing, Emitter
from modelc.targets.cuda.inputs import SEEN
from modelc.targets.cuda.kernel import Extent
from modelc.targets.cuda.kernel_table import KERNELS
from modelc.targets.cuda.plan import Call
from modelc.targets.cuda.rows.sampling import BINS, MOST_TOKENS, PART

_MODULE: Final = "sampling"
_GREEDY: Final = ("sample_peak", "sample")
_SAMPLED: Final = ("sample_peak", "sample_bins", "sample_groups", "sample")
_NEEDED: Final = frozenset({"logits", "part_peak", "part_token", "chosen"})
"""What a greedy choice takes; the rest is optional."""


def choosing(emitter: Emitter, logits: ir.Value) -> Choosing:
    """Return the calls that choose a token for each sequence of a function.

    Raises:
        BadInput: the vocabulary is too large to be sampled from.
    """
    vocabulary = dims_of(logits)[-1]
    assert isinstance(vocabulary, int)
    if vocabulary > MOST_TOKENS:
        raise BadInput(f"a vocabulary of {vocabulary} tokens; {MOST_TOKENS} can be sampled from")
    sides: dict[str, tuple[str, tuple[int, ...]]] = {
        "part_peak": ("fp32", (-(-vocabulary // PART),)),
        "part_token": ("i32", (-(-vocabulary // PART),)),
        "counts": ("i32", (BINS,)),
        "weights": ("i64", (BINS,)),
        "filled": ("i32", (BINS,)),
        "grouped": ("i32", (vocabulary,)),
        "chosen": ("i32", ()),
    }
    names = {"logits": emitter.read(logits), "seen": SEEN}
    for name, (kind, each) in sides.items():
        dims = (Extent(1, "sequences"), *(Extent(side) for side in each))
        names[name] = emitter.buffer(f"{_MODULE}.{name}", kind, dims)
    constants = {"vocab": vocabulary, "part": PART, "bins": BINS}

    def call(kernel: str, greedy: bool) -> Call:
        taken = [tensor.name for tensor in KERNELS[kernel].tensors]
        tensors = {name: names.get(name, name) for name in taken if not greedy or name in _NEEDED}
        return emitter.call(_MODULE, kernel, tensors, constants)

    return Choosing(
        greedy=tuple(call(kernel, True) for kernel in _GREEDY),
        sampled=tuple(call(kernel, False) for kernel in _SAMPLED),
        chosen=names["chosen"],
    )

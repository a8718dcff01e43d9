"""From a CUDA graph to its launch plan: one function for each size of call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import onnx_ir as ir

from modelc.ir.emit import dims_of
from modelc.targets.cuda.choosing import choosing
from modelc.targets.cuda.dispatch import dispatch
from modelc.targets.cuda.emitter import Emitter, Numbers
from modelc.targets.cuda.plan import CacheFacts, Function, LaunchPlan, WeightFacts
from modelc.targets.cuda.variant import Variant
from modelc.targets.cuda.weights_file import NAMES

_FEW: Final = (1, 4, 16)
_ROWS: Final = 256  # logits of a prefill, if the batch wants no more


@dataclass(frozen=True)
class Sizes:
    """What calls are compiled for.

    Attributes:
        context_length: positions of a sequence.
        max_batch: sequences that are decoded together.
        prefill_chunk: new tokens of a prompt that are computed together.
        page: positions in a page of the KV cache.
    """

    context_length: int
    max_batch: int = 1
    prefill_chunk: int = 512
    page: int = 64

    @property
    def max_pages(self) -> int:
        return -(-self.context_length // self.page)

    @property
    def batches(self) -> tuple[int, ...]:
        """Greatest batch of each function that decodes."""
        return (*(size for size in _FEW if size < self.max_batch), self.max_batch)


def make_plan(
    model: ir.Model,
    sizes: Sizes,
    *,
    act: str,
    kv: str,
    opt: int = 3,
    ranks: int = 1,
) -> tuple[LaunchPlan, dict[str, ir.TensorProtocol]]:
    """Return the launch plan of a CUDA graph, and its weights by name.

    Args:
        act, kv: element types of activations and of the KV cache.
        opt: from 2 up kernels of their own for up to 16 tokens; at 3 norms write the codes that
            layers read, and decoding is captured into CUDA graphs.
    """
    graph = model.graph
    weights: dict[str, ir.TensorProtocol] = {}
    variants: dict[str, Variant] = {}
    same: dict[object, str] = {}

    def function(
        name: str, kind: Literal["decode", "prefill"], tokens: int, sequences: int, rows: int
    ) -> Function:
        most = {
            "tokens": tokens, "sequences": sequences, "rows": rows, "max_pages": sizes.max_pages,
        }  # fmt: skip
        numbers = Numbers(kind, most, act, kv, sizes.page, opt >= 2, opt >= 3)
        emitter = Emitter(numbers, weights, variants, same=same)
        dispatch(graph, emitter)
        (logits,) = graph.outputs
        return emitter.function(name, logits, choosing(emitter, logits))

    chunk = min(sizes.prefill_chunk, sizes.context_length)
    rows = min(chunk, max(_ROWS, sizes.max_batch))
    functions = [
        *(function(f"decode.{size}", "decode", size, size, size) for size in sizes.batches),
        function(f"prefill.{chunk}", "prefill", chunk, sizes.max_batch, rows),
    ]
    facts = {
        name: WeightFacts(NAMES[one.dtype][0], tuple(int(side) for side in one.shape.numpy()))
        for name, one in weights.items()
    }
    cache = next(value for value in graph.inputs if str(value.name).startswith("key_cache."))
    _, heads, _, head_dim = dims_of(cache)
    assert isinstance(heads, int) and isinstance(head_dim, int)
    layers = sum(str(value.name).startswith("key_cache.") for value in graph.inputs)
    vocabulary = dims_of(graph.outputs[0])[-1]
    assert isinstance(vocabulary, int)
    plan = LaunchPlan(
        act=act,
        vocabulary=vocabulary,
        context_length=sizes.context_length,
        cache=CacheFacts(layers, heads, head_dim, sizes.page, kv),
        weights=facts,
        variants=variants,
        functions=tuple(functions),
        captures=opt >= 3,
        ranks=ranks,
    )
    return plan, weights

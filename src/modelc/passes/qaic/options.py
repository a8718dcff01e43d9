"""What may differ between graphs for the card."""

from __future__ import annotations

from dataclasses import dataclass

from modelc.decoder.adapter import Adapter
from modelc.errors import BadInput
from modelc.passes.qaic.functions import OPSET


@dataclass(frozen=True)
class QaicGraphOptions:
    """The contract's variants; sizes are no part of it, they come with the specialisations.

    Attributes:
        continuous_batching: states of `full_batch_size` sequences, picked by `batch_index`; also
            what prefix caching needs, with `kv_cache_batch_size` of them.
        num_logits_to_keep: several rows of logits, for verifying speculated tokens.
        comp_ctx_lengths: attention looks at the first positions only, as many as an input is long.
        repeat_kv_heads: each key and value head this many times, so that each device of a tensor
            slice has one of its own.
        adapters: of which `lora_ids` picks one for each sequence.
        max_top_k: tokens are chosen on the card, of at most so many; 0: the host gets logits.
        opset: of the default domain; 13 for SDK 1.20.

    Raises:
        BadInput: a count out of its range, or tokens chosen of several rows of logits.
    """

    continuous_batching: bool = False
    num_logits_to_keep: bool = False
    comp_ctx_lengths: bool = False
    repeat_kv_heads: int = 1
    adapters: tuple[Adapter, ...] = ()
    max_top_k: int = 0
    opset: int = OPSET

    def __post_init__(self) -> None:
        if self.repeat_kv_heads < 1:
            raise BadInput(f"key and value heads can't be there {self.repeat_kv_heads} times")
        if self.max_top_k < 0:
            raise BadInput(f"max_top_k {self.max_top_k} is below 0")
        if self.max_top_k and self.num_logits_to_keep:
            raise BadInput(
                "the card chooses one token of a sequence, but speculated ones need several",
                hint="leave sampling to the host, or don't speculate",
            )

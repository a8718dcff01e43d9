"""Key and value heads that are there several times, one for each device of a tensor slice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from modelc.decoder.config import DecoderModel
from modelc.errors import BadInput
from modelc.ir.stored import MadeMatrix, StoredMatrix, tensor_shape


@dataclass(frozen=True)
class RepeatedHeads(MadeMatrix):
    """A projection's weight or bias with the rows of every head several times in a row.

    Attributes:
        source: the weight, not transposed.
        heads: how many it has.
        times: how often each of them is there.
    """

    source: StoredMatrix = field(kw_only=True)
    heads: int = field(kw_only=True)
    times: int = field(kw_only=True)

    def decode(self) -> np.ndarray:
        rows = self.source.decode()
        heads = rows.reshape(self.heads, -1, *rows.shape[1:])
        repeated = np.repeat(heads, self.times, axis=0).reshape(self.shape)
        return repeated.T if self.transposed else repeated

    def decode_rows(self, rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = replace(self, transposed=False).decode()[rows]
        return found


def repeat_kv_heads(model: DecoderModel, times: int) -> DecoderModel:
    """Return the same decoder with each key and value head `times` times: query heads that shared
    one share its copies, so the numbers stay.

    Raises:
        BadInput: there are fewer query heads than that, or they don't divide evenly.
    """
    config = model.config
    if times == 1:
        return model
    if config.heads % (config.kv_heads * times):
        raise BadInput(
            f"{config.heads} query heads can't share {config.kv_heads} key and value heads "
            f"{times} times over",
            hint=f"{config.kv_heads} times a divisor of {config.heads // config.kv_heads} heads",
        )
    weights = dict(model.weights)
    for name, matrix in model.weights.items():
        if ".self_attn.k_proj." in name or ".self_attn.v_proj." in name:
            weights[name] = _repeated(matrix, config.kv_heads, times)
    return DecoderModel(replace(config, kv_heads=config.kv_heads * times), weights)


def _repeated(matrix: StoredMatrix, heads: int, times: int) -> RepeatedHeads:
    first, *rest = tensor_shape(matrix)
    return RepeatedHeads(
        matrix.path,
        matrix.offset,
        matrix.format,
        (first * times, *rest),
        source=matrix,
        heads=heads,
        times=times,
    )

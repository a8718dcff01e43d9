"""Feeds graphs of Genie's tensor contract as Genie does: chunks of the largest AR that is full
enough, a KV cache that grows from slot 0, a mask that hides what isn't there yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


@dataclass
class GenieLoop:
    """`graphs` runs each AR's graph; `quantise` and `dequantise` turn floats into graph inputs and
    graph outputs into floats, by tensor name."""

    graphs: Mapping[int, Run]
    cos: np.ndarray
    sin: np.ndarray
    kv_heads: int
    head_dim: int
    layers: int
    hidden: float = -1000.0
    quantise: Callable[[str, np.ndarray], np.ndarray] = lambda name, values: values.astype("f")
    dequantise: Callable[[str, np.ndarray], np.ndarray] = lambda name, codes: codes
    caches: dict[str, np.ndarray] = field(default_factory=dict)
    length: int = 0

    @property
    def context(self) -> int:
        return len(self.cos)

    def logits(self, token_ids: Sequence[int], ar: int) -> np.ndarray:
        """Append tokens in chunks of one AR; return their logits, float [n, vocab]."""
        rows = []
        for start in range(0, len(token_ids), ar):
            rows.append(self._call(token_ids[start : start + ar], ar))
        return np.concatenate(rows)

    def _call(self, chunk: Sequence[int], ar: int) -> np.ndarray:
        count, past = len(chunk), self.context - ar
        ids = np.zeros((1, ar), np.int32)
        ids[0, :count] = chunk
        mask = np.full((1, 1, ar, self.context), self.hidden)
        for row in range(count):
            mask[..., row, : self.length] = 0
            mask[..., row, past : past + row + 1] = 0
        where = np.minimum(self.length + np.arange(ar), self.context - 1)
        feeds = {
            "input_ids": ids,
            "attention_mask": self.quantise("attention_mask", mask),
            "position_ids_cos": self.quantise("position_ids_cos", self.cos[where][None, None]),
            "position_ids_sin": self.quantise("position_ids_sin", self.sin[where][None, None]),
        }
        for layer in range(self.layers):
            key, value = f"past_key_{layer}", f"past_value_{layer}"
            if key not in self.caches:
                sizes = (self.kv_heads, 1, self.head_dim, self.context)
                self.caches[key] = self.quantise(f"{key}_in", np.zeros(sizes))
                self.caches[value] = self.quantise(f"{value}_in", np.zeros(sizes)).swapaxes(2, 3)
            feeds[f"{key}_in"] = np.ascontiguousarray(self.caches[key][..., :past])
            feeds[f"{value}_in"] = np.ascontiguousarray(self.caches[value][:, :, :past])
        made = self.graphs[ar](feeds)
        new = slice(self.length, self.length + count)
        for layer in range(self.layers):
            key, value = f"past_key_{layer}", f"past_value_{layer}"
            self.caches[key][..., new] = made[f"{key}_out"][..., :count]
            self.caches[value][:, :, new] = made[f"{value}_out"][:, :, :count]
        self.length += count
        return self.dequantise("logits", made["logits"])[0, :count]

"""An ONNX Runtime session whose KV cache is one set of buffers, read and written in place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from modelc.errors import Damaged, Where

if TYPE_CHECKING:
    import onnxruntime

_PAST: Final = re.compile(r"past_key_values\.(\d+\.(?:key|value))")


class CachedSession:
    """A lowered decoder of batch 1.

    Decoding is bound once: `step` changes three numbers in place, and runs.
    """

    def __init__(self, path: Path, vocab_size: int, threads: int = 0) -> None:
        """Load model.onnx; `threads` 0 is one for each physical core.

        Raises:
            Damaged: the file is no lowered decoder.
        """
        self._session = _load(path, threads)
        self.vocab_size = vocab_size
        self._caches = {
            found[1]: np.zeros((1, *argument.shape[1:]), np.float32)
            for argument in self._session.get_inputs()
            if (found := _PAST.fullmatch(argument.name))
        }
        self._decode = self._call(1, [0])

    def step(self, token_id: int, past: int) -> np.ndarray:
        """Run one token at position `past`; returns its logits, float32 [vocab], which the next
        step overwrites."""
        call = self._decode
        call.token_ids[0, 0] = token_id
        call.run(past)
        logits: np.ndarray = call.logits[0, 0]
        return logits

    def extend(self, token_ids: Sequence[int], past: int, rows: Sequence[int]) -> np.ndarray:
        """Run tokens at the positions from `past`; returns float32 [len(rows), vocab], the logits
        of those of them whose indices are `rows`."""
        call = self._call(len(token_ids), rows)
        call.token_ids[0] = token_ids
        call.run(past)
        logits: np.ndarray = call.logits[0]
        return logits

    def _call(self, count: int, rows: Sequence[int]) -> _Call:
        return _Call(self._session, self._caches, count, rows, self.vocab_size)


class _Call:
    """A number of tokens and of wanted rows, bound to arrays that ONNX Runtime reads and writes."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        caches: Mapping[str, np.ndarray],
        count: int,
        rows: Sequence[int],
        vocab_size: int,
    ) -> None:
        import onnxruntime as ort

        self.token_ids = np.zeros((1, count), np.int64)
        self.logits = np.zeros((1, len(rows), vocab_size), np.float32)
        self._last = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)
        inputs = {
            "input_ids": self.token_ids,
            "logits_rows": np.array(rows, np.int64),
            "seqlens_k": self._last,
            "total_sequence_length": self._total,
            **{f"past_key_values.{name}": cache for name, cache in caches.items()},
        }
        outputs = {
            "logits": self.logits,
            **{f"present.{name}": cache for name, cache in caches.items()},
        }
        self._run = session.run_with_iobinding
        self._binding = session.io_binding()
        self._held = (inputs, outputs)  # the binding has addresses only
        for name, array in inputs.items():
            self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            self._binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))

    def run(self, past: int) -> None:
        """Run the tokens at the positions from `past`."""
        total = past + self.token_ids.shape[1]
        self._last[0] = total - 1
        self._total[()] = total
        self._run(self._binding)


def _load(path: Path, threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        message = f"ONNX Runtime can't load it: {error}"
        raise Damaged(message, where=Where(path=str(path))) from error

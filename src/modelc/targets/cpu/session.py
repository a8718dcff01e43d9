"""An ONNX Runtime session whose KV cache is one set of buffers, read and written in place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelc.errors import Damaged, Where

if TYPE_CHECKING:
    import onnxruntime

_PAST: Final = re.compile(r"past_key_values\.(\d+\.(?:key|value))")


class CachedSession:
    """A lowered decoder of batch 1.

    Decoding is bound once: `step` changes three numbers in place, and runs.

    Args:
        threads: 0 for ONNX Runtime's own choice, one for each physical core.

    Raises:
        Damaged: the file is no lowered decoder.
    """

    def __init__(self, path: Path, vocab_size: int, threads: int = 0) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise Damaged(
                f"ONNX Runtime can't load it: {error}", where=Where(path=str(path))
            ) from error
        self._ort = ort
        self._vocab_size = vocab_size
        self._caches = {
            found[1]: ort.OrtValue.ortvalue_from_numpy(
                np.zeros(argument.shape[1:], np.float32)[None]
            )
            for argument in self._session.get_inputs()
            if (found := _PAST.fullmatch(argument.name))
        }
        self._decode = _Call(self, 1)

    def step(self, token_id: int, past: int) -> np.ndarray:
        """Run one token at position `past`; returns its logits, float32 [vocab], until the next
        call."""
        call = self._decode
        call.token_ids[0, 0] = token_id
        call.seqlens[0] = past
        call.total[()] = past + 1
        call.run()
        row: np.ndarray = call.logits[0, 0]
        return row

    def extend(self, token_ids: Sequence[int], past: int, rows: Sequence[int]) -> np.ndarray:
        """Run tokens at the positions from `past`; returns float32 [len(rows), vocab], the logits
        of those of them whose indices are `rows`."""
        call = _Call(self, len(token_ids), rows)
        call.token_ids[0] = token_ids
        call.seqlens[0] = past + len(token_ids) - 1
        call.total[()] = past + len(token_ids)
        call.run()
        return call.logits[0]

    def bind(self, inputs: dict[str, np.ndarray], logits: np.ndarray) -> Any:
        """Return a function that runs on these arrays, whatever is in them then."""
        binding: onnxruntime.IOBinding = self._session.io_binding()
        wrap = self._ort.OrtValue.ortvalue_from_numpy
        # The values are views of the arrays, and hold them.
        values = {name: wrap(array) for name, array in inputs.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in self._caches.items():
            binding.bind_ortvalue_input(f"past_key_values.{name}", value)
            binding.bind_ortvalue_output(f"present.{name}", value)
        result = wrap(logits)
        binding.bind_ortvalue_output("logits", result)
        session = self._session

        def run() -> None:
            session.run_with_iobinding(binding)

        run.holds = (values, result)  # type: ignore[attr-defined]
        return run


class _Call:
    """The arrays of one kind of call."""

    def __init__(self, owner: CachedSession, count: int, rows: Sequence[int] = (0,)) -> None:
        self.token_ids = np.zeros((1, count), np.int64)
        self.seqlens = np.zeros(1, np.int32)
        self.total = np.zeros((), np.int32)
        self.logits = np.zeros((1, len(rows), owner._vocab_size), np.float32)
        inputs = {
            "input_ids": self.token_ids,
            "logits_rows": np.asarray(rows, np.int64),
            "seqlens_k": self.seqlens,
            "total_sequence_length": self.total,
        }
        self.run = owner.bind(inputs, self.logits)

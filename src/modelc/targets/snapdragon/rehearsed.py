"""A decoder too large for the simulator: its graphs' logits were computed on the CPU, and each part
was tried in the simulator by itself when it was compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from modelc.errors import Missing
from modelc.targets.runtime import Finding, Generation, OnToken, Sampling
from modelc.targets.snapdragon.binary import BinaryInfo
from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.shipped import chipset_findings, not_run_findings, proof_findings

_HINT: Final = "run the bundle on a device, or compile with --keep-twins and be patient"


class Rehearsed:
    """The numbers of lowered graphs (`Runtime`), and the proofs of compiled parts.

    Args:
        tokens: of the verification text.
        rows: float32 [n, vocab]: the logits after each of them.
        proofs: graph -> what `proof.compare` told of it.
    """

    name = "onnxruntime-cpu, lowered graphs"

    def __init__(
        self,
        tokens: Sequence[int],
        rows: np.ndarray,
        chipset: Chipset,
        shipped: Mapping[str, BinaryInfo],
        proofs: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._tokens = tuple(tokens)
        self._rows = rows
        self._chipset = chipset
        self._shipped = shipped
        self._proofs = proofs

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return the logits of the sequence that was rehearsed, or of its beginning.

        Raises:
            Missing: it is another sequence.
        """
        if tuple(token_ids) != self._tokens[: len(token_ids)]:
            raise Missing("only the verification text was rehearsed", hint=_HINT)
        return self._rows[: len(token_ids)]

    def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        on_token: OnToken | None = None,
    ) -> Generation:
        """Raises Missing: there is nothing here that could."""
        raise Missing("a model of this size has nothing that generates here", hint=_HINT)

    def findings(self, token_ids: Sequence[int], logits: np.ndarray) -> Sequence[Finding]:
        """Each part computes in the simulator what it does on the CPU, and is for the chipset."""
        return (
            *proof_findings(self._proofs),
            *not_run_findings(self._shipped, self._proofs),
            *chipset_findings(self._shipped, self._chipset),
        )

    def close(self) -> None:
        """Nothing is held."""

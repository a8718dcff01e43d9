"""A compiled decoder on this machine: Genie generates, the simulator gives logits."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.bundle.tokenizer import load_tokenizer
from modelc.decoder.config import load_config
from modelc.ir import genie
from modelc.targets.runtime import Finding, Generation, OnToken, Sampling
from modelc.targets.snapdragon import binary, rehearsal
from modelc.targets.snapdragon.binary import BinaryInfo
from modelc.targets.snapdragon.chipsets import Chipset, find_chipset
from modelc.targets.snapdragon.genie import Genie
from modelc.targets.snapdragon.genie_config import genie_model
from modelc.targets.snapdragon.rehearsed import Rehearsed
from modelc.targets.snapdragon.rotary import rotary_of
from modelc.targets.snapdragon.shipped import chipset_findings, not_run_findings, proof_findings
from modelc.targets.snapdragon.simulate import Simulator

TIMEOUT_S: Final = 4 * 3600.0
_ROLES: Final = ("config", "tokenizer", "info", "proof")
# How much of the verification text Genie and the simulator's loop go on from, and how far.
PROMPT_TOKENS: Final = 24
NEW_TOKENS: Final = 16


class SnapdragonRuntime:
    """Genie and the simulator on the same twins (`Runtime`).

    Args:
        eos_ids: at which Genie ends.
    """

    name = "htp-simulator"

    def __init__(
        self,
        genie: Genie,
        simulator: Simulator,
        eos_ids: Sequence[int],
        chipset: Chipset,
        shipped: Mapping[str, BinaryInfo],
        proofs: Mapping[str, Mapping[str, Any]],
        workdir: Path,
    ) -> None:
        self._genie = genie
        self._simulator = simulator
        self._eos_ids = tuple(eos_ids)
        self._chipset = chipset
        self._shipped = shipped
        self._proofs = proofs
        self._workdir = workdir

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return float32 [len(token_ids), vocab] of the simulator, for which it calls the graphs of
        the shortest AR and of every context length, too."""
        return self._simulator.logits(token_ids, measured=True)

    def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        on_token: OnToken | None = None,
    ) -> Generation:
        """Let Genie generate; rates are the simulator's and say nothing about a device."""
        return self._genie.generate(prompt_ids, sampling, max_new_tokens, stop_ids, on_token)

    def findings(self, token_ids: Sequence[int], logits: np.ndarray) -> Sequence[Finding]:
        """Genie's tokens are the simulator's, and the binaries are right and for the chipset."""
        return (
            self._same_tokens(token_ids),
            *proof_findings(self._proofs),
            *not_run_findings(self._shipped, self._proofs),
            *chipset_findings(self._shipped, self._chipset),
        )

    def close(self) -> None:
        self._genie.close()
        self._simulator.close()
        shutil.rmtree(self._workdir, ignore_errors=True)

    def _same_tokens(self, token_ids: Sequence[int]) -> Finding:
        *shorter, room = self._simulator.context_lengths
        # With several context lengths, up to where the shortest ends and the next one takes over.
        wanted = shorter[0] - NEW_TOKENS // 2 if shorter else min(PROMPT_TOKENS, room // 2)
        prompt = token_ids[: max(1, min(wanted, self._genie.longest_prompt))]
        count = min(NEW_TOKENS, room - len(prompt))
        expected = self._simulator.generate(prompt, Sampling(), count, ()).token_ids
        found = self._genie.generate(prompt, Sampling(), count, ()).token_ids
        # Genie always has an end-of-sequence token, so it ends where the loop goes on.
        rest = expected[len(found) :]
        ended = bool(rest) and rest[0] in self._eos_ids
        same = expected[: len(found)] == found and (ended or not rest)
        agreed = sum(a == b for a, b in zip(expected, found, strict=False))
        detail = f"{agreed} of {len(found)} greedy tokens are those of the simulator's own loop"
        detail += f", after a prompt of {len(prompt)}"
        if shorter:
            detail += f" in contexts of {', '.join(map(str, self._simulator.context_lengths))}"
        if rest:
            detail += f"; the loop goes on with {'an end' if ended else 'no end'} of sequence"
        return Finding("genie_tokens", same, detail)


def open_runtime(
    files: Mapping[str, Path], settings: Mapping[str, Any]
) -> SnapdragonRuntime | Rehearsed:
    """Open a compiled decoder.

    Args:
        files: "config" (the decoder's), "tokenizer" (tokenizer.json), "info" (what was read back
            from the shipped binaries) and "proof" (how close their graphs came); and "rehearsal",
            or folders with twins under any other name.
        settings: context_length, chipset.
    """
    chipset = find_chipset(settings["chipset"])
    infos = json.loads(files["info"].read_text())
    shipped = {name: binary.from_json(row) for name, row in infos.items()}
    proofs = json.loads(files["proof"].read_text())
    if "rehearsal" in files:
        found = rehearsal.load(files["rehearsal"])
        rows = np.concatenate([call[genie.LOGITS] for call in found.calls])
        return Rehearsed(found.tokens, rows, chipset, shipped, proofs)
    config = load_config(files["config"])
    length = int(settings["context_length"])
    twins = sorted(
        twin for name, path in files.items() if name not in _ROLES for twin in path.glob("*.bin")
    )
    workdir = Path(tempfile.mkdtemp(prefix="modelc-"))
    tokenizer = load_tokenizer(files["tokenizer"].parent)
    engine = Genie(
        genie_model(config, context_length=length, binaries=(), eos_ids=tokenizer.eos_ids),
        chipset,
        twins,
        files["tokenizer"],
        workdir=workdir / "genie",
        timeout_s=TIMEOUT_S,
    )
    simulator = Simulator(
        [twin.with_suffix(".onnx") for twin in twins],
        rotary_of(config, length),
        workdir=workdir / "simulator",
        timeout_s=TIMEOUT_S,
    )
    eos_ids = tokenizer.eos_ids
    return SnapdragonRuntime(engine, simulator, eos_ids, chipset, shipped, proofs, workdir)

"""What becomes of one case, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

Verdict = Literal[
    "passed", "folded", "refused", "refused by the provider", "caught", "as the CPU", "coarse",
    "wrong", "crashed", "not in scope",
]  # fmt: skip
"""passed: compiled, simulated, and what the test expects.
folded: the passes computed it; nothing is left for HTP.
refused: by the frontend or a pass, with a reason. Refused by the provider: when it was compiled.
caught: other numbers than expected, and the verification that ends every compile fails.
as the CPU: other numbers than expected, but those of ONNX Runtime's CPU, which is the reference.
coarse: other numbers than expected, but the quantised graph is as far off on the CPU.
wrong: other numbers than expected, and than the CPU's, and the verification passes.
crashed: HTP's compiler or the simulator, which ends the compile as an error."""

VERDICTS: Final[tuple[Verdict, ...]] = (
    "passed", "folded", "refused", "refused by the provider", "caught", "as the CPU", "coarse",
    "wrong", "crashed", "not in scope",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """One case.

    Attributes:
        fixed: it went so with all inputs but the first as constants; with all as inputs it was
            refused, for the reason `as_given`.
        becomes: for each operator that was written out, those that came in its place.
        why: of these, by operator.
        reason: why it didn't pass, or is not in scope.
        refused_as: the operator that was refused: the case's own, or what it was written out as.
        hint: what to do about a refusal.
        sqnr_db: the least of its float outputs; None for integers, or equal ones.
        error: the largest difference, relative to the largest number expected.
    """

    case: str
    operator: str
    verdict: Verdict
    fixed: bool = False
    as_given: str = ""
    becomes: dict[str, list[str]] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    refused_as: str = ""
    hint: str = ""
    sqnr_db: float | None = None
    error: float | None = None

"""The command line."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

from modelc.files import write_atomic
from onnx_nodes.cases import Case, collect
from onnx_nodes.forked import import_for_children
from onnx_nodes.outcome import VERDICTS, Outcome, Verdict
from onnx_nodes.page import page
from onnx_nodes.try_case import try_case

_FINE = ("passed", "folded", "not in scope")
_UNNOTICED: tuple[Verdict, ...] = ("wrong", "crashed")


def main() -> None:
    """Run the cases; exit with 1 if a number went wrong unnoticed, or anything crashed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kept", type=Path, required=True, help="folder for HTP's results")
    parser.add_argument("--only", default="*", help="names of cases, with * and ?")
    parser.add_argument("--write", type=Path, help="the page; needs all cases")
    parser.add_argument("--outcomes", type=Path, help="what became of each, as JSON lines")
    asked = parser.parse_args()
    if asked.write and asked.only != "*":
        parser.error("--write needs all cases, so no --only")
    asked.kept.mkdir(parents=True, exist_ok=True)
    import_for_children()
    warnings.simplefilter("ignore")
    cases = [case for case in collect() if fnmatch(case.name, asked.only)]
    outcomes = [_try(case, asked.kept) for case in cases]
    if asked.outcomes:
        lines = "".join(json.dumps(vars(outcome)) + "\n" for outcome in outcomes)
        write_atomic(asked.outcomes, lines.encode(), durable=False)
    if asked.write:
        write_atomic(asked.write, page(outcomes).encode(), durable=False)
    counts = Counter(outcome.verdict for outcome in outcomes)
    print(", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS))
    sys.exit(any(counts[verdict] for verdict in _UNNOTICED))


def _try(case: Case, kept: Path) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="onnx-nodes-") as folder:
        outcome = try_case(case, Path(folder), kept.resolve())
    if outcome.verdict not in _FINE:
        print(f"{case.name}: {outcome.verdict}: {outcome.reason}", file=sys.stderr, flush=True)
    return outcome

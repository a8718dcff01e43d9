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
from onnx_nodes.schemes import SCHEMES, TriedScheme
from onnx_nodes.try_case import try_case

_FINE = ("passed", "folded", "not in scope")
_UNNOTICED: tuple[Verdict, ...] = ("wrong", "crashed")


def main() -> None:
    """Run the cases; exit with 1 if a number went wrong unnoticed, or anything crashed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kept", type=Path, required=True, help="folder for HTP's results")
    parser.add_argument("--only", default="*", help="names of cases, with * and ?")
    names = [tried.name for tried in SCHEMES]
    parser.add_argument("--scheme", choices=names, help="one of them alone")
    parser.add_argument("--write", type=Path, help="the page; needs all cases")
    parser.add_argument("--outcomes", type=Path, help="what became of each, as JSON lines")
    asked = parser.parse_args()
    if asked.write and (asked.only != "*" or asked.scheme):
        parser.error("--write needs all cases in all schemes, so neither --only nor --scheme")
    asked.kept.mkdir(parents=True, exist_ok=True)
    import_for_children()
    warnings.simplefilter("ignore")
    cases = [case for case in collect() if fnmatch(case.name, asked.only)]
    wanted = [tried for tried in SCHEMES if asked.scheme in (None, tried.name)]
    found = {tried.name: [_try(case, tried, asked.kept) for case in cases] for tried in wanted}
    if asked.outcomes:
        lines = "".join(
            json.dumps({"scheme": name, **vars(outcome)}) + "\n"
            for name, outcomes in found.items()
            for outcome in outcomes
        )
        write_atomic(asked.outcomes, lines.encode(), durable=False)
    if asked.write:
        write_atomic(asked.write, page(found).encode(), durable=False)
    counts = {name: Counter(outcome.verdict for outcome in found[name]) for name in found}
    for name, of in counts.items():
        print(f"{name}: {', '.join(f'{of[verdict]} {verdict}' for verdict in VERDICTS)}")
    sys.exit(any(of[verdict] for of in counts.values() for verdict in _UNNOTICED))


def _try(case: Case, tried: TriedScheme, kept: Path) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="onnx-nodes-") as folder:
        outcome = try_case(case, tried, Path(folder), kept.resolve())
    if outcome.verdict not in _FINE:
        told = f"{case.name} ({tried.name}): {outcome.verdict}: {outcome.reason}"
        print(told, file=sys.stderr, flush=True)
    return outcome

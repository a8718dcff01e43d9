"""What becomes of the codes that a quantised source came with."""

from __future__ import annotations

import json
from typing import Any, Final

from modelc.pipeline.report import REQUANTISED
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import canonical_graph

STEP: Final = "source_codes"


def compare_codes(context: StepContext) -> None:
    """Say which matrices can't keep their codes: requantised.json, weight -> form before and after
    and the relative error of rounding. What is not in it is kept bit for bit.

    Options: weights (beginnings of module paths -> kind).
    """
    from modelc.ir.coded import CodedMatrix
    from modelc.ir.packing.coded_slabs import keeps, relative_error
    from modelc.ir.packing.kinds import MATRIX_KINDS
    from modelc.ir.weights import StoredWeight
    from modelc.passes.htp.quantised_weights import kind_of

    rows: dict[str, Any] = {}
    for name, value in canonical_graph(context).graph.initializers.items():
        weight = value.const_value
        if not isinstance(weight, StoredWeight) or not isinstance(weight.source, CodedMatrix):
            continue
        module = name.removesuffix(".weight")
        form = MATRIX_KINDS[kind_of(module, context.options["weights"])]
        if not keeps(weight.source, form):
            error = relative_error(weight.source, form)
            rows[name] = {
                "from": weight.source.what,
                "to": str(form),
                "relative_error": float(f"{error:.4g}"),
            }
    text = json.dumps(rows, indent=1, sort_keys=True)
    (context.out / REQUANTISED).write_text(text + "\n")

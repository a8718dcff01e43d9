"""The last pass before HTP: whatever it doesn't take is refused by name, all of it at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import onnx_ir as ir

from modelc.errors import BadInput, Where
from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.network.taken import Refusal, refusals

SHOWN: Final = 8


@dataclass(frozen=True)
class CheckOperators(Pass):
    """Changes nothing.

    Raises:
        BadInput: HTP doesn't take some nodes; names them, their modules and why.
    """

    name: ClassVar[str] = "check_operators"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "htp-network"

    def apply(self, model: ir.Model) -> ir.Model:
        found = refusals(model)
        if found:
            more = f"\n  and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            lines = "".join(f"\n  {_line(refusal)}" for refusal in found[:SHOWN])
            raise BadInput(
                f"HTP doesn't take {len(found)} of the network's {model.graph.num_nodes()} "
                f"nodes:{lines}{more}",
                where=Where(module=found[0].module),
                hint="cut them off the model, or let the CPU compute them: --allow-cpu-fallback",
            )
        return model


def _line(refusal: Refusal) -> str:
    return f"{refusal.operator} in {refusal.module}: {refusal.reason}"

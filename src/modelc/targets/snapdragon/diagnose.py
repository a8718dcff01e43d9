"""Turns the provider's log into an error that a user can act on.

ONNX Runtime's own exception only says that nodes fell to the CPU; the reason is in the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from modelc.errors import BadInput, Damaged, ModelcError, ToolFailed, Where
from modelc.process import last_words

_REFUSED = re.compile(r"Unsupported nodes in QNN EP: (\{.*\})")
_NODE = re.compile(r"\{ name: (.*?), type: (\w+) \}")
SHOWN: Final = 5


@dataclass(frozen=True)
class _Symptom:
    text: str
    error: type[ModelcError]
    message: str
    hint: str


_SYMPTOMS: Final = (
    _Symptom(
        "QNN_DEVICE_ERROR_INVALID_CONFIG",
        BadInput,
        "the installed QAIRT does not know this SoC or its settings",
        "check the chipset with `modelc targets`, or install a newer onnxruntime-qnn",
    ),
    _Symptom(
        "Failed to get context binary info",
        Damaged,
        "the context binary is damaged or was made by a newer QAIRT",
        "compile it again with the installed onnxruntime-qnn",
    ),
    _Symptom(
        "Failed to write context cache",
        ToolFailed,
        "the context binary could not be written",
        "check that the disk has room",
    ),
)


def explain(
    log: str, exception: Exception, *, graph: str, modules: Mapping[str, str]
) -> ModelcError:
    """Return the error behind a session that could not be made.

    Args:
        log: what the provider wrote.
        modules: module path of each ONNX node, by the node's name.
    """
    refused = _refused_nodes(log)
    if refused:
        places = sorted({modules.get(name) or name for name, _ in refused})
        operators = ", ".join(sorted({operator for _, operator in refused}))
        more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
        return ToolFailed(
            f"HTP does not take {operators} as used in {', '.join(places[:SHOWN])}{more}",
            where=Where(graph=graph, module=places[0]),
            hint="float operators need a chipset with fp16 or a quantised scheme; "
            "another operator needs a pass that rewrites it",
        )
    for symptom in _SYMPTOMS:
        if symptom.text in log or symptom.text in str(exception):
            return symptom.error(symptom.message, where=Where(graph=graph), hint=symptom.hint)
    return ToolFailed(
        f"HTP's compiler failed: {str(exception).strip()}; its last words:\n{last_words(log)}",
        where=Where(graph=graph),
    )


def _refused_nodes(log: str) -> list[tuple[str, str]]:
    """Return name and operator of what HTP refused, leaving out the casualties: the (de)quantisers
    that stand alone once the operator between them is refused."""
    nodes = dict(pair for line in _REFUSED.findall(log) for pair in _NODE.findall(line))
    culprits = {k: v for k, v in nodes.items() if v not in ("DequantizeLinear", "QuantizeLinear")}
    return list((culprits or nodes).items())

"""Errors made of what the provider wrote."""

from __future__ import annotations

import pytest

from modelc.errors import BadInput, Damaged, ModelcError, ToolFailed, Where
from modelc.targets.snapdragon.diagnose import explain

REFUSED = (
    "2026-01-01 [W:onnxruntime:, qnn_execution_provider.cc:1100] Unsupported nodes in QNN EP: "
    "{ name: n1, type: Erf }{ name: n2.weight, type: DequantizeLinear }{ name: n3, type: Erf }\n"
)
NOT_FOUND = "[E:onnxruntime] {} Failed to create session: QNN_DEVICE_ERROR_INVALID_CONFIG (14000)"
UNREADABLE = "EP Error: Failed to load from EpContext model. Failed to get context binary info."


def test_refused_operators_by_module() -> None:
    modules = {"n1": "model.layers.1.mlp.activation", "n2.weight": "model.layers.0.mlp"}
    error = explain(REFUSED, RuntimeError("assigned to the CPU"), graph="ar8", modules=modules)
    assert isinstance(error, ToolFailed)
    assert error.where == Where(graph="ar8", module="model.layers.1.mlp.activation")
    assert error.message == ("HTP does not take Erf as used in model.layers.1.mlp.activation, n3")


def test_many_modules_are_cut_short() -> None:
    nodes = "".join(f"{{ name: n{index}, type: Erf }}" for index in range(9))
    log = f"Unsupported nodes in QNN EP: {nodes}\n"
    message = explain(log, RuntimeError(), graph="", modules={}).message
    assert message.endswith("n0, n1, n2, n3, n4 and 4 more")


def test_quantisers_alone_are_the_culprits() -> None:
    log = "Unsupported nodes in QNN EP: { name: q, type: QuantizeLinear }\n"
    assert (
        "QuantizeLinear as used in q" in explain(log, RuntimeError(), graph="", modules={}).message
    )


@pytest.mark.parametrize(
    ("log", "kind", "message"),
    [
        (NOT_FOUND, BadInput, "does not know this SoC"),
        (UNREADABLE, Damaged, "is damaged or was made by a newer QAIRT"),
        ("Failed to write context cache", ToolFailed, "could not be written"),
        ("one\n\nelse", ToolFailed, "failed: the exception; its last words:\n  | one\n  | else"),
    ],
)
def test_symptoms(log: str, kind: type[ModelcError], message: str) -> None:
    error = explain(log, RuntimeError("the exception\n"), graph="ar8", modules={})
    assert type(error) is kind
    assert message in error.message
    assert error.where.graph == "ar8"


def test_symptoms_of_the_exception_itself() -> None:
    assert isinstance(explain("", RuntimeError(UNREADABLE), graph="", modules={}), Damaged)

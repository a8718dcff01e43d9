"""What `modelc inspect` finds in a file, whatever kind of file it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        kind: "gguf", "huggingface", "onnx", "context-binary", "dlc" or "bundle".
        facts: name -> plain value.
        tables: title -> rows, each a mapping of column -> plain value.
        shown: of the facts, what people are shown; None for all.
    """

    kind: str
    facts: dict[str, Any]
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    shown: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """Return the JSON form: all facts."""
        return {"kind": self.kind, "facts": self.facts, **self.tables}

"""What the command line calls and what users import: compile, and bundles that run."""

from modelc.api.build import compile, estimate, explain
from modelc.api.bundle import Bundle, GeneratedText

__all__ = ["Bundle", "GeneratedText", "compile", "estimate", "explain"]

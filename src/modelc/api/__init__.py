"""What the command line calls and what users import: compile, evaluate, and bundles that run."""

from modelc.api.build import compile, estimate, explain
from modelc.api.bundle import Bundle, GeneratedText
from modelc.api.evaluation import evaluate

__all__ = ["Bundle", "GeneratedText", "compile", "estimate", "evaluate", "explain"]

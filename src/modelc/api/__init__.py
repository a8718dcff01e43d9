"""What the command line calls and what users import: compile, evaluate, and bundles that run."""

from modelc.api.build import compile, estimate, explain, open_any
from modelc.api.bundle import Bundle
from modelc.api.evaluation import evaluate
from modelc.api.generated import GeneratedText
from modelc.api.network import NetworkBundle
from modelc.api.qnn import QNNCompiler

__all__ = [
    "Bundle",
    "GeneratedText",
    "NetworkBundle",
    "QNNCompiler",
    "compile",
    "estimate",
    "evaluate",
    "explain",
    "open_any",
]

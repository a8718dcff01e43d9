"""Kernels run in Triton's interpreter here; compiling them is done in child processes."""

import os

os.environ["TRITON_INTERPRET"] = "1"

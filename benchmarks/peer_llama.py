"""llama.cpp under test for quality: quantises a GGUF file and gives the logits of a text.

Needs llama-cpp-python.
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np
from quality_text import Text
from serve_llama import Engine
from worker import serve

# "Q4_K_M+" and the like: layers as Q4_K_M has them, head and embedding with more bits.
HEAD: Final = llama_cpp.GGML_TYPE_Q8_0
EMBEDDING: Final = llama_cpp.GGML_TYPE_F16


def quantise(source: str, target: str, kind: str) -> None:
    """Write `source` as a kind of GGUF file, such as Q4_K_M or Q4_K_M+."""
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind.removesuffix('+')}")
    if kind.endswith("+"):
        options.output_tensor_type, options.token_embedding_type = HEAD, EMBEDDING
    status = llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(options))
    if status:
        raise RuntimeError(f"llama_model_quantize returned {status}")


def evaluate(model: str, text: str, kind: str, threads: int, logits: str) -> dict[str, Any]:
    """Quantise and run; the float32 logits of the scored tokens go to the file `logits`.

    Returns:
        the quantised `file`, which lies beside the model, and `seconds` that it took.
    """
    began = time.perf_counter()
    read = Text.load(text)
    engine = Engine()
    file = Path(model).with_name(f"{kind}.gguf")
    quantise(model, str(file), kind)
    seconds = time.perf_counter() - began
    engine.open(str(file), read.windows.shape[1], threads)
    np.save(logits, read.logits(lambda row: engine.logits(row.tolist())))
    return {"seconds": seconds, "file": str(file)}


if __name__ == "__main__":
    serve(
        {
            "version": lambda: {"version": llama_cpp.__version__},
            "evaluate": evaluate,
        }
    )

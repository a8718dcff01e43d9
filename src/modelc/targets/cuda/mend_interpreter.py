"""Where Triton's interpreter differs from its compiler, and kernels here would notice."""

from __future__ import annotations

from typing import Any


def mend_rounding() -> None:
    """The interpreter cuts float32 off where it makes bfloat16 of it, and loses the carry where it
    makes e4m3: let both round to the nearest, ties to even, as GPUs do."""
    import ml_dtypes
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    narrow = {
        tl.bfloat16: (ml_dtypes.bfloat16, np.uint16),
        tl.float8e4nv: (ml_dtypes.float8_e4m3fn, np.uint8),
    }
    builder = interpreter.InterpreterBuilder
    if getattr(builder.create_fp_trunc, "mended", False):
        return

    def mended(original: Any) -> Any:
        def convert(self: Any, value: Any, kind: Any, *mode: Any) -> Any:
            to = kind.scalar
            if value.dtype.scalar not in (tl.float16, tl.float32) or to not in narrow:
                return original(self, value, kind, *mode)
            rounded, bits = narrow[to]
            return interpreter.TensorHandle(value.data.astype(rounded).view(bits), to)

        convert.mended = True  # type: ignore[attr-defined]
        return convert

    builder.create_fp_trunc = mended(builder.create_fp_trunc)
    builder.create_fp_to_fp = mended(builder.create_fp_to_fp)


def mend_splat() -> None:
    """A scalar comparison that is spread over a block becomes integers of what was compared, which
    no mask can be: let it stay truths."""
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    splat = builder.create_splat
    if getattr(splat, "mended", False):
        return

    def mended(self: Any, kind: Any, value: Any) -> Any:
        if value.data.dtype != np.bool_:
            return splat(self, kind, value)
        spread = np.full(kind.shape, value.data.reshape(-1)[0], dtype=np.bool_)
        return interpreter.TensorHandle(spread, tl.int1)

    mended.mended = True  # type: ignore[attr-defined]
    builder.create_splat = mended


def mend_dot() -> None:
    """The interpreter keeps bfloat16 as its bits and multiplies these: let it multiply numbers."""
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    dot = builder.create_dot
    if getattr(dot, "mended", False):
        return

    def widened(handle: Any) -> Any:
        if handle.dtype != tl.bfloat16:
            return handle
        bits = handle.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    def mended(self: Any, a: Any, b: Any, *others: Any) -> Any:
        return dot(self, widened(a), widened(b), *others)

    mended.mended = True  # type: ignore[attr-defined]
    builder.create_dot = mended


def mend_calls() -> None:
    """The interpreter looks through the whole language for what it must replace, whenever one
    function calls another: let it do so once in a launch."""
    import triton.language as tl
    from triton.runtime import interpreter

    patch = interpreter._patch_lang
    if getattr(patch, "mended", False):
        return
    patched: set[str] = set()  # modules of the language, while a kernel runs

    def mended(function: Any) -> Any:
        known = {id(tl): "tl", id(tl.core): "tl.core"}
        seen = {known[id(it)] for it in function.__globals__.values() if id(it) in known}
        if seen and seen <= patched:
            return None  # of a call, which takes nothing back
        scope = patch(function)
        if not patched:  # of the kernel itself
            restore = scope.restore

            def restored() -> None:
                patched.clear()
                restore()

            scope.restore = restored
        patched.update(seen)
        return scope

    mended.mended = True  # type: ignore[attr-defined]
    interpreter._patch_lang = mended

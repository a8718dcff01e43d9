"""What an archive says of tensors, and of the bytes that weights and constants are made of."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from modelc.errors import BadInput
from modelc.frontends.torch.archive.sizes import Sizes
from modelc.frontends.torch.archive.values import (
    QUALIFIED,
    items,
    mapping,
    members,
    one_of,
    text,
    truth,
    union,
    whole,
)

DTYPE_BYTES: Final[Mapping[int, int]] = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 12: 1, 13: 2,
    28: 2, 29: 1, 30: 1, 31: 1, 32: 1, 33: 1, 34: 4, 35: 8,
}  # fmt: skip
"""Bytes of an element, by the number of its type (ScalarType of torch's schema 8)."""

STRIDED: Final = 7
CPU: Final[Mapping[str, Any]] = {"type": "cpu", "index": None}

_MOST_AXES: Final = 64
_LARGEST: Final = 1 << 48
_PAYLOAD: Final = re.compile(r"(?:weight|tensor)_[0-9]{1,9}")
_META: Final = (
    "dtype", "sizes", "requires_grad", "device", "strides", "storage_offset", "layout",
)  # fmt: skip


def read_meta(value: Any, sizes: Sizes) -> dict[str, Any]:
    """Return a tensor's description with numbers for its symbolic sizes, on the CPU."""
    found = members(value, "a tensor", *_META)
    one_of(found["layout"], "the layout of a tensor", {STRIDED})

    def numbers(key: str) -> list[dict[str, int]]:
        given = items(found[key], f"{key} of a tensor")
        if len(given) > _MOST_AXES:
            raise BadInput(f"a tensor of the exported program has {len(given)} axes")
        return [{"as_int": _size(item, sizes)} for item in given]

    shape, strides = numbers("sizes"), numbers("strides")
    if len(shape) != len(strides) or math.prod(size["as_int"] for size in shape) > _LARGEST:
        raise BadInput(
            "a tensor of the exported program has other strides than sizes, or is too large"
        )
    return {
        "dtype": one_of(found["dtype"], "the type of a tensor", DTYPE_BYTES),
        "sizes": shape,
        "requires_grad": truth(found["requires_grad"], "requires_grad of a tensor"),
        "device": dict(CPU),
        "strides": strides,
        "storage_offset": {"as_int": _size(found["storage_offset"], sizes)},
        "layout": STRIDED,
    }


def _size(value: Any, sizes: Sizes) -> int:
    kind, inner = union(value, "a size", ("as_int", "as_expr"))
    if kind == "as_expr":
        inner = sizes.whole(members(inner, "a size", "expr_str", "hint")["expr_str"])
    return whole(inner, "a size", 0, _LARGEST)


def read_payloads(
    config: Mapping[str, Any], kind: str, size_of: Callable[[str], int | None]
) -> dict[str, Any]:
    """Return which tensor lies in which entry, each proven to lie within its bytes.

    Args:
        kind: weight or tensor, which the entries' names begin with.
        size_of: the bytes of an entry, None if there is none.

    Raises:
        BadInput: one is pickled, no tensor, or doesn't fit into its entry.
    """
    made: dict[str, Any] = {}
    types: dict[str, int] = {}
    for name, value in mapping(members(config, "weights", "config")["config"], "weights").items():
        text(name, "the name of a weight", QUALIFIED)
        found = members(value, "a weight", "path_name", "is_param", "use_pickle", "tensor_meta")
        entry = found["path_name"]
        if found["use_pickle"] is not False or not str(entry).startswith(f"{kind}_"):
            raise BadInput(
                f"{name} is stored as a pickled object, which can run code when it is read",
                hint="only plain tensors are read from exported programs; if you trust it, write a "
                "function that returns torch.export.load(...), and give FILE.py:FUNCTION",
            )
        text(entry, "the entry of a weight", _PAYLOAD)
        meta = read_meta(found["tensor_meta"], Sizes({}))
        _check_fits(name, meta, size_of(entry))
        if types.setdefault(entry, meta["dtype"]) != meta["dtype"]:
            raise BadInput(f"{name} shares its bytes with a weight of another type")
        made[name] = {
            "path_name": entry,
            "is_param": truth(found["is_param"], "is_param of a weight"),
            "use_pickle": False,
            "tensor_meta": meta,
        }
    return {"config": made}


def _check_fits(name: str, meta: Mapping[str, Any], available: int | None) -> None:
    if available is None:
        raise BadInput(f"the archive has no bytes for {name}", hint="it is damaged")
    shape = shape_of(meta)
    strides = [stride["as_int"] for stride in meta["strides"]]
    width = DTYPE_BYTES[meta["dtype"]]
    count = math.prod(shape)
    last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    end = (meta["storage_offset"]["as_int"] + last + 1) * width if count else 0
    # An expanded tensor has more elements than bytes; a small file could ask for any memory.
    if available % width or max(end, count * width) > available:
        raise BadInput(
            f"{name} {shape} needs {max(end, count * width)} bytes, its entry has {available}",
            hint="the archive is damaged; or its weights are expanded or fake: save it with "
            "weights of their own",
        )


def shape_of(meta: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the sizes of what `read_meta` gave."""
    return tuple(size["as_int"] for size in meta["sizes"])


def entries_of(payloads: Mapping[str, Any]) -> Collection[str]:
    """Return the names of the entries that `read_payloads` found, sorted."""
    return sorted({payload["path_name"] for payload in payloads["config"].values()})

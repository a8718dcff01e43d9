"""What may be asked of a binary for the card, under the names of the SDK's front end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from modelc.errors import BadInput
from modelc.targets.qaic.compiler_flags import Passed, check_flag

MOST_CORES: Final = 16
MOST_DEVICES: Final = 1024
LARGEST: Final = 1 << 31


@dataclass(frozen=True)
class QpcOptions:
    """Checked options; `None` is what was not asked for.

    Attributes:
        num_cores: cores of each device, at most 16.
        num_devices: devices among which every matrix is split.
        mxfp6_matmul: weights in MXFP6.
        mxint8_kv_cache: the KV cache in MXINT8, not float16.
        batch_size: sequences that are computed together.
        prefill_seq_len: tokens of one call of the prefill.
        ctx_len: tokens that the KV cache holds.
        full_batch_size: sequences of continuous batching.
        kv_cache_batch_size: sequences whose KV cache is kept, more than are computed, for prefixes.
        num_speculative_tokens: tokens that a draft proposes to this model; one decode for each.
        prefill_only: True has no decode, False no prefill, None both.
        comp_ctx_lengths_prefill, comp_ctx_lengths_decode: lengths of the cache that attention
            reads, one specialisation for each.
        ccl_enabled: choose such lengths, if none are given.
        continuous_batching: what full_batch_size says by itself.
        seq_len: token counts of an embedding model, one specialisation for each.
        node_precision_info: file of nodes that keep a precision, or what stands in it.
        aic_hw_version: the card; None is the SDK's default.
        use_onnx_subfunctions: the graph has functions that the compiler keeps.
        mdp_load_partition_config: a partition file instead of an even split.
        passed: flags of the compiler, in the order in which they were given.
    """

    num_cores: int = MOST_CORES
    num_devices: int = 1
    mxfp6_matmul: bool = False
    mxint8_kv_cache: bool = False
    batch_size: int = 1
    prefill_seq_len: int = 32
    ctx_len: int = 128
    full_batch_size: int | None = None
    kv_cache_batch_size: int | None = None
    num_speculative_tokens: tuple[int, ...] | None = None
    prefill_only: bool | None = None
    comp_ctx_lengths_prefill: tuple[int, ...] | None = None
    comp_ctx_lengths_decode: tuple[int, ...] | None = None
    ccl_enabled: bool | None = None
    continuous_batching: bool | None = None
    seq_len: tuple[int, ...] | None = None
    node_precision_info: Mapping[str, tuple[str, ...]] | None = None
    aic_hw_version: str | None = None
    use_onnx_subfunctions: bool = False
    mdp_load_partition_config: str | None = None
    passed: tuple[tuple[str, Passed], ...] = ()

    @property
    def batches_continuously(self) -> bool:
        return self.full_batch_size is not None or self.kv_cache_batch_size is not None

    @property
    def has_compute_lengths(self) -> bool:
        lists = (self.comp_ctx_lengths_prefill, self.comp_ctx_lengths_decode)
        return bool(self.ccl_enabled) or any(lists)


OPTIONS: Final = frozenset(field.name for field in fields(QpcOptions)) - {"passed"}
_COUNTS: Final = {
    "num_cores": MOST_CORES,
    "num_devices": MOST_DEVICES,
    "batch_size": LARGEST,
    "prefill_seq_len": LARGEST,
    "ctx_len": LARGEST,
    "full_batch_size": LARGEST,
    "kv_cache_batch_size": LARGEST,
}
_LISTS: Final = {
    "num_speculative_tokens": 0,
    "comp_ctx_lengths_prefill": 1,
    "comp_ctx_lengths_decode": 1,
    "seq_len": 1,
}
"""Options that are a number or several, and the least that each may be."""
_SWITCHES: Final = frozenset({"mxfp6_matmul", "mxint8_kv_cache", "use_onnx_subfunctions"})
_CHOICES: Final = frozenset({"prefill_only", "ccl_enabled", "continuous_batching"})
_PRECISIONS: Final = ("FP32NodeInstanceNames", "FP16NodeInstanceNames")
_LONGEST_LIST: Final = 64


def read_options(given: Mapping[str, Any]) -> QpcOptions:
    """Check options by name, type and range; those of the compiler keep their order.

    Raises:
        BadInput: a name is unknown (with the nearest known), or a value can't be.
    """
    options, passed = QpcOptions(), []
    for name, value in given.items():
        if name == "node_precision_info" and isinstance(value, Mapping):
            options = replace(options, node_precision_info=_nodes(value))
        elif name == "node_precision_info" and value is not None:
            path = os.fspath(value) if isinstance(value, os.PathLike) else value
            passed.append((name, check_flag(name, path, OPTIONS)))
        elif name in OPTIONS:
            options = replace(options, **{name: _checked(name, value)})
        else:
            passed.append((name, check_flag(name, value, OPTIONS)))
    return replace(options, passed=tuple(passed))


def _checked(name: str, value: Any) -> Any:
    if name in _SWITCHES or (name in _CHOICES and value is not None):
        if not isinstance(value, bool):
            raise BadInput(f"{name} is True or False, not {value!r}")
        return value
    if value is None and getattr(QpcOptions, name, None) is None:
        return None
    if name in _COUNTS:
        return _count(name, value, 1, _COUNTS[name])
    if name in _LISTS:
        values = value if isinstance(value, (list, tuple)) else [value]
        if not 0 < len(values) <= _LONGEST_LIST:
            raise BadInput(f"{name} is one to {_LONGEST_LIST} numbers, not {len(values)}")
        return tuple(_count(name, item, _LISTS[name], LARGEST) for item in values)
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text:
        raise BadInput(f"{name} is text, not {value!r}")
    return text


def _count(name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadInput(f"{name} is a whole number, not {value!r}")
    if not least <= value <= most:
        raise BadInput(f"{name} is {least} to {most}, not {value}")
    return value


def _nodes(given: Mapping[Any, Any]) -> dict[str, tuple[str, ...]]:
    strange = set(given) - set(_PRECISIONS)
    lists = [item for item in given.values() if isinstance(item, (list, tuple))]
    names = [name for item in lists for name in item]
    if strange or len(lists) != len(given) or not names:
        raise BadInput(f"node_precision_info is lists of nodes under {' or '.join(_PRECISIONS)}")
    if not all(isinstance(name, str) and name and name.isprintable() for name in names):
        raise BadInput("node_precision_info names nodes by text")
    return {key: tuple(given[key]) for key in _PRECISIONS if given.get(key)}

"""How each generation of the Apps SDK wants its command line and its files, one row for each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from modelc.errors import BadInput


@dataclass(frozen=True)
class Generation:
    """One generation of the SDK's front end.

    Attributes:
        version: the first SDK of this generation, "1.22".
        compiler: the program's name under the SDK's `exec`.
        order: the arguments, in order; a name in braces is filled in, or left out if not needed.
        kv_order: the arguments of the older interface, `compile_kv_model_on_cloud_ai_100`.
        hw_versions: what -aic-hw-version may be, the default first.
        named: specialisations have names and symbols; else they are flat.
        sorted_json: JSON with sorted keys and no space after the colon.
        state_order: "paired" lists a state's input and output one after the other, "apart" all
            inputs before all outputs.
        prefill_width: what full_batch_exec_size of the prefill is: the rows that it computes, or
            all of full_batch_size.
        lone_decode: a prefill of one token is the decode too, also in continuous batching.
        compute_lengths: how compute-context-lengths are made of what is asked for; "" has none.
        speculative_lists: several numbers of speculative tokens in one binary.
    """

    version: str
    compiler: str
    order: tuple[str, ...]
    kv_order: tuple[str, ...]
    hw_versions: tuple[str, ...]
    named: bool
    sorted_json: bool
    state_order: Literal["paired", "apart"]
    prefill_width: Literal["computed", "full"]
    lone_decode: bool
    compute_lengths: Literal["", "steps of 1", "steps of 32"]
    speculative_lists: bool


_KV_HEAD: Final = ("{model}", "-aic-hw", "{hw_version}", "{specializations}", "-convert-to-fp16")
_KV_TAIL: Final = ("{binary}", "{mxfp6}", "{flags}", "{partition}", "{passed}")

GENERATIONS: Final = (
    Generation(
        version="1.20",
        compiler="qaic-exec",
        order=(
            "-aic-hw",
            "{hw_version}",
            "{model}",
            "-compile-only",
            "{flags}",
            "{specializations}",
            "{custom_io}",
            "{partition}",
            "{binary}",
        ),
        kv_order=(
            *_KV_HEAD,
            "-retained-state",
            "{cores}",
            "{custom_io}",
            "-compile-only",
            *_KV_TAIL,
        ),
        hw_versions=("2.0",),
        named=False,
        sorted_json=False,
        state_order="apart",
        prefill_width="full",
        lone_decode=False,
        compute_lengths="",
        speculative_lists=False,
    ),
    Generation(
        version="1.21",
        compiler="qaic-exec",
        order=(
            "-aic-hw",
            "-compile-only",
            "{hw_version}",
            "{model}",
            "{given_partition}",
            "-compile-only",
            "{flags}",
            "{partition}",
            "{specializations}",
            "{custom_io}",
            "{binary}",
        ),
        kv_order=(
            *_KV_HEAD,
            "-retained-state",
            "{cores}",
            "{custom_io}",
            "-compile-only",
            *_KV_TAIL,
        ),
        hw_versions=("ai100",),
        named=False,
        sorted_json=True,
        state_order="apart",
        prefill_width="full",
        lone_decode=False,
        compute_lengths="steps of 1",
        speculative_lists=False,
    ),
    Generation(
        version="1.22",
        compiler="qaic-compile",
        order=(
            "-aic-hw",
            "{hw_version}",
            "{model}",
            "{dump}",
            "{given_partition}",
            "{partition}",
            "{flags}",
            "{specializations}",
            "{custom_io}",
            "{binary}",
        ),
        kv_order=(*_KV_HEAD, "-retained-state", "{cores}", "{custom_io}", *_KV_TAIL),
        hw_versions=("ai100", "ai200"),
        named=True,
        sorted_json=True,
        state_order="paired",
        prefill_width="computed",
        lone_decode=True,
        compute_lengths="steps of 32",
        speculative_lists=True,
    ),
    Generation(
        version="1.23",
        compiler="qaic-compile",
        order=(
            "-aic-hw",
            "{hw_version}",
            "{model}",
            "{given_partition}",
            "{flags}",
            "{partition}",
            "{specializations}",
            "{custom_io}",
            "{binary}",
        ),
        kv_order=(*_KV_HEAD, "-retained-state", "{cores}", "{custom_io}", *_KV_TAIL),
        hw_versions=("ai100", "ai200"),
        named=True,
        sorted_json=True,
        state_order="paired",
        prefill_width="computed",
        lone_decode=True,
        compute_lengths="steps of 32",
        speculative_lists=True,
    ),
)
"""From the oldest to the newest."""


def generation_of(sdk_version: str) -> Generation:
    """Return the row for an SDK: the newest that is not newer than it.

    Args:
        sdk_version: "1.22", "1.22.0", "1.23.0.dev0".

    Raises:
        BadInput: it is no version, or older than the first row.
    """
    found = re.match(r"v?(\d{1,4})\.(\d{1,4})(?!\d)", sdk_version)
    known = ", ".join(row.version for row in GENERATIONS)
    if found is None:
        raise BadInput(f"{sdk_version!r} is no version of the Apps SDK", hint=f"known: {known}")
    wanted = (int(found[1]), int(found[2]))
    rows = [row for row in GENERATIONS if _numbers(row) <= wanted]
    if not rows:
        raise BadInput(f"Apps SDK {sdk_version} is too old", hint=f"known: {known}, and newer")
    return rows[-1]


def _numbers(row: Generation) -> tuple[int, int]:
    major, minor = row.version.split(".")
    return int(major), int(minor)

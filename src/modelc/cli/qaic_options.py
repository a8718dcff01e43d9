"""Options of a recipe that only Cloud AI 100 has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer

PANEL: Final = "Cloud AI 100"


def _option(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=PANEL)


OPTIONS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "cores": Annotated[int | None, _option("Cores of each device; default: all.")],
        "devices": Annotated[int | None, _option("Devices that share every matrix.")],
        "mxfp6": Annotated[bool, _option("Matrices in MXFP6.", "--mxfp6")],
        "mxint8_kv": Annotated[bool, _option("The KV cache in MXINT8.", "--mxint8-kv")],
        "prefill": Annotated[
            int | None, _option("Tokens of a prompt that one call takes; default: 128.")
        ],
        "batch_size": Annotated[int | None, _option("Sequences that are computed together.")],
        "full_batch_size": Annotated[int | None, _option("Sequences of continuous batching.")],
        "kv_cache_batch_size": Annotated[
            int | None, _option("Sequences that are kept, more than are computed, for prefixes.")
        ],
        "num_speculative_tokens": Annotated[
            str | None, _option("Tokens that a draft proposes; several with commas.")
        ],
        "only": Annotated[str | None, _option("prefill or decode alone.")],
        "comp_ctx_lengths_prefill": Annotated[
            str | None, _option("Lengths of the cache that a prefill may look at.")
        ],
        "comp_ctx_lengths_decode": Annotated[
            str | None, _option("Lengths of the cache that a decode may look at.")
        ],
        "ccl": Annotated[bool, _option("Choose such lengths.", "--ccl")],
        "repeat_kv_heads": Annotated[
            int | None, _option("Each key and value head so many times, one for each device.")
        ],
        "adapter": Annotated[
            list[Path] | None, _option("A LoRA adapter's folder; may be repeated.")
        ],
        "max_top_k": Annotated[
            int | None, _option("Choose tokens on the card, of at most so many.")
        ],
        "node_precision_info": Annotated[
            Path | None, _option("YAML file of nodes that keep float32, or float16.")
        ],
        "partition": Annotated[Path | None, _option("A partition file of your own.")],
        "sdk_version": Annotated[
            str | None, _option("The Apps SDK to prepare for; default: the one here, or 1.23.")
        ],
        "qnn_config": Annotated[
            Path | None, _option("JSON file with further arguments of the QNN tools.")
        ],
        "compiler_flag": Annotated[
            list[str] | None,
            _option("NAME=VALUE for the compiler, such as mos=2; may be repeated."),
        ],
        "prepare_only": Annotated[
            bool, _option("Write all but the compiled program.", "--prepare-only")
        ],
    }
)
FLAGS: Final = ("mxfp6", "mxint8_kv", "ccl", "prepare_only")
# The recipe's names, in its section [qaic].
NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{name: f"qaic_{name}" for name in OPTIONS},
        "cores": "qaic_num_cores",
        "devices": "qaic_num_devices",
        "mxfp6": "qaic_mxfp6_matmul",
        "mxint8_kv": "qaic_mxint8_kv_cache",
        "prefill": "qaic_prefill_seq_len",
        "ccl": "qaic_ccl_enabled",
        "adapter": "qaic_adapters",
        "partition": "qaic_mdp_load_partition_config",
        "compiler_flag": "qaic_compiler",
    }
)

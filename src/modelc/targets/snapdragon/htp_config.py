"""The options of QNN's HTP backend for the graphs of one binary.

Each part has its own, because they name its graphs. Schema:
https://docs.qualcomm.com/doc/80-63442-10/topic/htp_backend.html#qnn-htp-backend-extensions
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from modelc.errors import BadInput
from modelc.targets.snapdragon.chipsets import Chipset
from modelc.targets.snapdragon.genie_config import extension_config

OPTIMIZATIONS: Final = (2, 3)


def htp_config(
    graphs: Sequence[str],
    chipset: Chipset,
    *,
    fp16: bool,
    optimization: int,
    shared_buffers: bool,
    relaxed_fp16: bool = False,
) -> dict[str, Any]:
    """Return the document of options of the HTP backend.

    Args:
        graphs: names of all graphs of the binary; several share their weights.
        fp16: they are float graphs.
        optimization: 2 or 3, how hard the scheduler works.
        shared_buffers: inputs and outputs lie in memory shared with the HTP when the binary runs.
            The generator's `--input_output_tensor_mem_type memhandle` prepares graphs for that:
            https://docs.qualcomm.com/doc/80-63442-10/topic/htp_qmem_graph.html
        relaxed_fp16: ask for half precision, which later releases choose by themselves.

    Raises:
        BadInput: the chipset or the compiler can't do what is asked.
    """
    if optimization not in OPTIMIZATIONS:
        raise BadInput(f"HTP's optimisation is {' or '.join(map(str, OPTIMIZATIONS))}")
    if fp16 and not chipset.fp16:
        raise BadInput(
            f"{chipset.marketing_name} has no fp16", hint="choose a quantised scheme, such as w8a16"
        )
    if len(graphs) > 1 and not chipset.weight_sharing:
        raise BadInput(
            f"{chipset.marketing_name} can't share weights between graphs",
            hint="give each graph a binary of its own",
        )
    options: dict[str, Any] = {
        "graph_names": list(graphs),
        "vtcm_mb": chipset.compile_vtcm_mb,
        "O": optimization,
    }
    if relaxed_fp16:
        options["fp16_relaxed_precision"] = 1
    runtime = extension_config(chipset)
    document = {
        "graphs": [options],
        "devices": runtime["devices"],
        "context": {"weight_sharing_enabled": len(graphs) > 1},
    }
    if shared_buffers:
        document["memory"] = runtime["memory"]
    return document

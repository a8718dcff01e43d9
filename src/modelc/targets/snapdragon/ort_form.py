"""The form in which a program runs the binaries through ONNX Runtime, as on Windows on Snapdragon.

Beside the binaries lie one EPContext model for each graph, and `ort_pipeline.json`, which says how
they make a decoder. `ir/genie.py` says what the tensors are; a call works so:

1. Of `calls`, take one whose past slots, `context_length - ar`, hold the tokens so far, and whose
   `ar` is at least the number of new ones, or the longest and go on with the rest. Its `models`
   run one after the other, each with its inputs by name from the program or a model before it.
2. `input_ids`: the new tokens from the left, then any token. `cos` and `sin`: at the new tokens'
   positions, attention_factor times cosine and sine of position times each of `rotary`'s
   frequencies. `mask`: query i attends the past slots that are filled, and columns
   `context_length - ar` to that + i; `attend` and `hide` are the tensor's own values.
3. Where `cache` says so, the first columns of each output, one per new token, are appended along
   `axis` to the past that is the input of the next call, in slots from 0 on. The rest is not read.
4. Row i of `logits` follows new token i. Codes are quantised: value = (code - zero_point) * scale.

Models that load one binary have to be opened in one process with `session_entries`, which let
them share it. Node and attributes: ONNX Runtime's "EP Context Design", "EPContext with Weight
Sharing".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from modelc.errors import Damaged, Where
from modelc.files import write_atomic
from modelc.ir import genie
from modelc.targets.snapdragon import graph_names
from modelc.targets.snapdragon.binary import BinaryInfo, Graph, Tensor
from modelc.targets.snapdragon.decode_loop import MASKED
from modelc.targets.snapdragon.graph_names import GraphKey
from modelc.targets.snapdragon.rotary import Rotary
from modelc.targets.snapdragon.wrapper import read_wrapper

PIPELINE: Final = "ort_pipeline.json"
VERSION: Final = 1
SESSION_ENTRIES: Final = {"session.disable_cpu_ep_fallback": "1"}
SHARED_ENTRIES: Final = {**SESSION_ENTRIES, "ep.share_ep_contexts": "1"}
PROVIDER_OPTIONS: Final = {"backend_type": "htp", "htp_performance_mode": "burst"}
_TOKEN_AXES: Final = {"key": 3, "value": 2}


def write_ort_form(
    wrappers: Sequence[Path],
    binaries: Mapping[str, BinaryInfo],
    rotary: Rotary,
    folder: Path,
) -> None:
    """Write the EPContext model of each graph and `ort_pipeline.json` into the binaries' folder.

    Args:
        wrappers: of every graph of every part, in any order, as `compile_graphs` made them.
        binaries: what each binary holds, by its file name in `folder`, where it need not lie yet.
        rotary: the model's at its longest context, for every context length: what is in the cache
            is read on in the next one.

    Raises:
        BadInput: they are not all graphs of one model.
        Damaged: a wrapper is none, or is not the wrapper of its binary's graph.
    """
    graphs: dict[GraphKey, Graph] = {}
    shared = any(len(info.graphs) > 1 for info in binaries.values())
    for path in wrappers:
        wrapper = read_wrapper(path)
        graph = _graph_of(wrapper.binary, wrapper.graph, binaries, path)
        _check_ports(wrapper.inputs, graph.inputs, path)
        _check_ports(wrapper.outputs, graph.outputs, path)
        graphs[graph_names.parse(graph.name)] = graph
        write_atomic(folder / _model_name(graph_names.parse(graph.name)), path.read_bytes())
    graph_names.check_complete(list(graphs))
    document = {
        "version": VERSION,
        "provider": "QNNExecutionProvider",
        "provider_options": PROVIDER_OPTIONS,
        "session_entries": SHARED_ENTRIES if shared else SESSION_ENTRIES,
        "rotary": asdict(rotary),
        "calls": [
            _call(ar, length, graphs)
            for length in sorted({key.context_length for key in graphs})
            for ar in sorted({key.ar for key in graphs})
        ],
    }
    write_atomic(folder / PIPELINE, (json.dumps(document, indent=1) + "\n").encode())


def _model_name(key: GraphKey) -> str:
    return f"{key.name}.onnx"


def _graph_of(binary: str, name: str, binaries: Mapping[str, BinaryInfo], wrapper: Path) -> Graph:
    held = binaries[binary].graphs if binary in binaries else ()
    for graph in held:
        if graph.name == name:
            return graph
    raise Damaged(
        f"{binary} holds no graph {name}", where=Where(path=str(wrapper)), hint="compile it again"
    )


def _check_ports(
    declared: Mapping[str, tuple[str, tuple[int, ...]]], tensors: Sequence[Tensor], wrapper: Path
) -> None:
    """Check that a wrapper declares the tensors (type and shape) of its graph."""
    wanted = {tensor.name: (tensor.dtype, tensor.shape) for tensor in tensors}
    if declared != wanted:
        names = sorted(name for name, _ in declared.items() ^ wanted.items())
        raise Damaged(
            f"the wrapper declares other tensors than its graph has: {', '.join(names)}",
            where=Where(path=str(wrapper)),
            hint="compile it again",
        )


def _call(ar: int, length: int, graphs: Mapping[GraphKey, Graph]) -> dict[str, Any]:
    """Describe the graphs that run one after the other for one AR and context length."""
    chain = [key for key in sorted(graphs) if (key.ar, key.context_length) == (ar, length)]
    inputs = {tensor.name: tensor for key in chain for tensor in graphs[key].inputs}
    return {
        "ar": ar,
        "context_length": length,
        "models": [
            {
                "file": _model_name(key),
                "inputs": [asdict(tensor) for tensor in graphs[key].inputs],
                "outputs": [asdict(tensor) for tensor in graphs[key].outputs],
            }
            for key in chain
        ],
        "tokens": genie.INPUT_IDS,
        "cos": genie.COS,
        "sin": genie.SIN,
        "logits": genie.LOGITS,
        "mask": {"name": genie.MASK, **_mask_values(inputs[genie.MASK])},
        "cache": [
            {
                "input": genie.cache(kind, layer, "in"),
                "output": genie.cache(kind, layer, "out"),
                "axis": _TOKEN_AXES[kind],
            }
            for layer in range(sum(name.startswith("past_key_") for name in inputs))
            for kind in ("key", "value")
        ],
    }


def _mask_values(mask: Tensor) -> dict[str, float]:
    """Return what stands for 0 and for minus infinity; codes attend at their zero point."""
    if mask.scale:
        return {"attend": mask.zero_point, "hide": 0}
    return {"attend": 0.0, "hide": MASKED}

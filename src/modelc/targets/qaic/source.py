"""What a binary is made of: an ONNX file with the card's contract, or a Hugging Face folder whose
ONNX is still to be written."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Where

RETAINED: Final = "_RetainedState"
SAMPLER_STATES: Final = frozenset(
    {"past_repetition_penalty_buffer", "past_presence_penalty_buffer"}
)
"""States that are no KV cache, whose types nobody is told."""
_STATE: Final = re.compile(r"(past_key|past_value|compressed_kv|k_pe)\.(\d{1,5})\w*")
_PAIRS: Final = (("past_key", "past_value"), ("compressed_kv", "k_pe"))
_LARGEST_CONFIG: Final = 1 << 24
_LARGEST_ONNX: Final = 1 << 31
_MOST_LAYERS: Final = 10_000
_LAYER_KEYS: Final = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


@dataclass(frozen=True)
class Source:
    """What the files and flags depend on.

    Attributes:
        onnx: the path of the ONNX file, as it stands in the command.
        states: the inputs of the KV cache, layer by layer, key before value; none for an embedding
            model.
        inputs: names of the graph's inputs; None for a graph that is still to be made.
    """

    onnx: str
    states: tuple[str, ...]
    inputs: frozenset[str] | None

    def takes(self, name: str, default: bool) -> bool:
        """Whether the graph has this input; `default` if there is no graph yet."""
        return default if self.inputs is None else name in self.inputs


def read_source(path: str | os.PathLike[str], qpc_dir: str) -> Source:
    """Read the header of an ONNX file, or the config of a folder.

    The ONNX of a folder lies beside `qpc_dir` under its architecture's name, as the SDK's front
    end has it.

    Raises:
        BadInput: it is neither, or can't be what the card runs.
    """
    where = Path(path)
    return _read_folder(where, qpc_dir) if where.is_dir() else _read_onnx(where)


def read_header(path: Path) -> Any:
    """Return the `onnx.ModelProto` of a file, external data left where it is.

    Raises:
        BadInput: it can't be read, or is none.
    """
    import onnx
    from google.protobuf.message import DecodeError

    place = Where(path=str(path))
    try:
        if path.stat().st_size > _LARGEST_ONNX:
            raise BadInput("too large for an ONNX file, which ends at 2 GB", where=place)
        proto = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise BadInput(f"the graph can't be read: {error.strerror}", where=place) from error
    except (DecodeError, ValueError) as error:
        raise BadInput("not an ONNX file, or not whole", where=place) from error
    if not proto.graph.input or not proto.graph.output:
        raise BadInput("not an ONNX file with inputs and outputs", where=place)
    return proto


def _read_onnx(path: Path) -> Source:
    graph = read_header(path).graph
    made_inside = {tensor.name for tensor in graph.initializer}
    inputs = {value.name for value in graph.input} - made_inside
    outputs = {value.name for value in graph.output}
    kept = {name.removesuffix(RETAINED) for name in outputs if name.endswith(RETAINED)}
    kept -= SAMPLER_STATES & inputs
    if lost := kept - inputs or {n for n in inputs if _STATE.fullmatch(n)} - kept:
        raise BadInput(
            f"the state {min(lost)} is not both an input and an output {min(lost)}{RETAINED}",
            where=Where(path=str(path)),
            hint="give an ONNX file that was exported for the card",
        )
    return Source(str(path), _in_order(kept, path), frozenset(inputs))


def _in_order(names: set[str], path: Path) -> tuple[str, ...]:
    """Return states by layer, key before value, and check that none is left out."""
    found: dict[tuple[int, str], str] = {}
    for name in names:
        match = _STATE.fullmatch(name)
        if match is None:
            raise BadInput(f"{name} is no state of the card's", where=Where(path=str(path)))
        found[int(match[2]), match[1]] = name
    kinds = {kind for _, kind in found}
    pair = next((pair for pair in _PAIRS if kinds == set(pair)), ())
    wanted = [(layer, kind) for layer in range(len(names) // 2) for kind in pair]
    if names and sorted(found) != sorted(wanted):
        raise BadInput("the states are not a key and a value of every layer", where=_at(path))
    return tuple(found[key] for key in wanted)


def _at(path: Path) -> Where:
    return Where(path=str(path))


def _read_folder(folder: Path, qpc_dir: str) -> Source:
    path = folder / "config.json"
    try:
        with path.open("rb") as file:
            config = json.loads(file.read(_LARGEST_CONFIG))
    except OSError as error:
        raise BadInput(f"no Hugging Face folder: {error.strerror}", where=_at(path)) from error
    except (ValueError, RecursionError) as error:
        raise BadInput("not JSON", where=_at(path)) from error
    config = config if isinstance(config, dict) else {}
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str) or not name.isidentifier():
        raise BadInput("the config names no architecture", where=_at(path))
    if not name.endswith(("ForCausalLM", "LMHeadModel")):
        raise BadInput(
            f"{name} is no language model", where=_at(path), hint="export it, and give the ONNX"
        )
    layers = next((config[key] for key in _LAYER_KEYS if key in config), None)
    if isinstance(layers, bool) or not isinstance(layers, int) or not 0 < layers <= _MOST_LAYERS:
        raise BadInput("the config has no number of layers", where=_at(path))
    states = (f"past_{kind}.{layer}" for layer in range(layers) for kind in ("key", "value"))
    return Source(str(Path(qpc_dir).parent / f"{name}.onnx"), tuple(states), None)

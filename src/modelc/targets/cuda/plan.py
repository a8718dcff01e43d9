"""The launch plan: what is launched, on what, in which order, and where everything lies in memory.

A plan is for every architecture; how a kernel's work is divided is beside its cubins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from modelc.errors import Damaged, Where
from modelc.targets.cuda.inputs import INPUT_TYPES
from modelc.targets.cuda.kernel import SYMBOLS, Constant, Extent
from modelc.targets.cuda.torch_operators import COLLECTIVES
from modelc.targets.cuda.variant import Variant

FORMAT: Final = 2
PLAN: Final = "plan.json"
_WEIGHTS: Final = "weights.safetensors"

ALIGNMENT: Final = 256  # bytes; what CUDA's own allocator gives
ELEMENT_BYTES: Final[Mapping[str, int]] = {
    "bf16": 2, "fp16": 2, "fp32": 4, "i32": 4, "i64": 8, "u8": 1, "e4m3": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Buffer:
    """A tensor in the arena.

    Attributes:
        type: of its elements.
        dims: its sides, by the sizes of the call.
        offset: of its first byte in the arena.
    """

    type: str
    dims: tuple[Extent, ...]
    offset: int = 0

    def size(self, sizes: Mapping[str, int]) -> int:
        """Bytes that it takes for these sizes."""
        count = 1
        for dim in self.dims:
            count *= dim.of(sizes)
        return count * ELEMENT_BYTES[self.type]


@dataclass(frozen=True)
class Call:
    """One launch of a kernel, or one operator of torch.

    Attributes:
        module: path in the source model.
        kernel: key of the plan's variants; "" for an operator of torch.
        operator: its name in `torch_operators.OPERATORS`; "" for a kernel.
        tensors: parameter -> buffer, weight or input. An operator's are "0", "1", ... and "out".
        attributes: of the operator.
        counts: the symbol that a kernel's `tokens` stands for: `rows` behind `select_rows`.
    """

    module: str
    kernel: str = ""
    operator: str = ""
    tensors: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Constant] = field(default_factory=dict)
    counts: Literal["tokens", "rows"] = "tokens"

    def sizes(self, sizes: Mapping[str, int]) -> Mapping[str, int]:
        """Return a call's sizes as its kernel understands them."""
        return {**sizes, "tokens": sizes[self.counts]}


Mode = Literal["logits", "greedy", "sampled"]
MODES: Final[tuple[Mode, ...]] = ("logits", "greedy", "sampled")
"""What a call ends with: logits, or a token for each sequence, the likeliest or as its options
say."""


@dataclass(frozen=True)
class Function:
    """The model for calls up to a size.

    Attributes:
        kind: in `decode` each sequence has one new token.
        most: greatest value of each symbol.
        arena: bytes that its buffers take.
        result: the buffer with the logits, fp32 [rows, vocabulary].
        greedy, sampled: what follows `calls` to choose a token for each sequence; the rows are the
            sequences then.
        chosen: the buffer with the tokens, i32 [sequences].
    """

    name: str
    kind: Literal["decode", "prefill"]
    most: Mapping[str, int]
    buffers: Mapping[str, Buffer]
    calls: tuple[Call, ...]
    arena: int
    result: str
    greedy: tuple[Call, ...]
    sampled: tuple[Call, ...]
    chosen: str

    def calls_for(self, mode: Mode) -> tuple[Call, ...]:
        """Return all calls, in order."""
        more = {"logits": (), "greedy": self.greedy, "sampled": self.sampled}
        return (*self.calls, *more[mode])


@dataclass(frozen=True)
class WeightFacts:
    """A tensor in the file of weights."""

    type: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        count = 1
        for side in self.shape:
            count *= side
        return count * ELEMENT_BYTES[self.type]


@dataclass(frozen=True)
class CacheFacts:
    """The paged KV cache of one layer: keys and values [pages, heads, page, head_dim] each."""

    layers: int
    heads: int
    head_dim: int
    page: int
    type: str

    @property
    def page_size(self) -> int:
        """Bytes of one page of one layer, keys and values."""
        return 2 * self.heads * self.page * self.head_dim * ELEMENT_BYTES[self.type]

    @property
    def per_token(self) -> int:
        """Bytes of one position in all layers."""
        return self.layers * self.page_size // self.page


@dataclass(frozen=True)
class LaunchPlan:
    """All that running a bundle takes beside weights and cubins.

    Attributes:
        captures: decoding becomes CUDA graphs.
        ranks: devices that share the model.
    """

    act: str
    vocabulary: int
    context_length: int
    cache: CacheFacts
    weights: Mapping[str, WeightFacts]
    variants: Mapping[str, Variant]
    functions: tuple[Function, ...]
    captures: bool = True
    ranks: int = 1
    format: int = FORMAT

    @property
    def arena(self) -> int:
        """Bytes that the largest function's buffers take."""
        return max(function.arena for function in self.functions)

    @property
    def max_batch(self) -> int:
        """Sequences that are decoded together, at most."""
        return max(one.most["sequences"] for one in self.functions if one.kind == "decode")

    @property
    def weight_bytes(self) -> int:
        return sum(weight.size for weight in self.weights.values())

    def operators(self) -> dict[str, list[str]]:
        """Return the modules that are left to each operator of torch, beside what joins devices."""
        left: dict[str, dict[str, None]] = {}
        for function in self.functions:
            for call in function.calls:
                if call.operator and call.operator not in COLLECTIVES:
                    left.setdefault(call.operator, {})[call.module] = None
        return {operator: list(modules) for operator, modules in sorted(left.items())}

    def function_for(self, kind: str, tokens: int) -> Function:
        """Return the smallest function of a kind that takes so many tokens.

        Raises:
            KeyError: none does.
        """
        for function in self.functions:
            if function.kind == kind and function.most["tokens"] >= tokens:
                return function
        raise KeyError(f"{kind} of {tokens} tokens")


def weights_name(rank: int, ranks: int) -> str:
    """Return the name of the file with a device's weights."""
    return _WEIGHTS if ranks == 1 else f"weights.{rank}.safetensors"


def save_plan(plan: LaunchPlan, path: Path) -> None:
    """Write a plan as JSON, sorted."""
    document: dict[str, Any] = asdict(plan)
    document["variants"] = {key: one.document() for key, one in plan.variants.items()}
    path.write_text(json.dumps(document, indent=None, sort_keys=True, separators=(",", ":")) + "\n")


def load_plan(path: Path) -> LaunchPlan:
    """Read what `save_plan` wrote, and check that its parts fit together.

    Raises:
        Damaged: it is something else, of another version, or refers to what it doesn't have.
    """
    # Imported here: compiling needs no validator.
    from pydantic import TypeAdapter

    try:
        document = json.loads(path.read_bytes())
        if document.get("format") != FORMAT:
            raise Damaged(
                f"a launch plan of format {document.get('format')}, not {FORMAT}",
                hint="compile the model again with this version",
            )
        variants = {
            key: Variant.from_document(one) for key, one in document.pop("variants").items()
        }
        document["variants"] = {}
        plan = TypeAdapter(LaunchPlan).validate_python(document)
        plan = replace(plan, variants=variants)
        problem = _problem(plan)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Damaged(f"no launch plan: {error}", where=Where(path=str(path))) from error
    if problem:
        raise Damaged(f"the launch plan is damaged: {problem}", where=Where(path=str(path)))
    return plan


def _problem(plan: LaunchPlan) -> str:
    """Say what doesn't fit together: offsets, sizes and names come from a file."""
    caches = {
        f"{which}_cache.{layer}" for layer in range(plan.cache.layers) for which in ("key", "value")
    }
    for key, variant in plan.variants.items():
        if key != variant.key:
            return f"the kernel {key} isn't what its name says"
    for function in plan.functions:
        if set(function.most) != set(SYMBOLS):
            return f"symbols of {function.name}"
        if not all(0 < size < 1 << 31 for size in function.most.values()):
            return f"sizes of {function.name}"
        for name, buffer in function.buffers.items():
            if buffer.offset < 0 or buffer.offset % ALIGNMENT:
                return f"the place of {name}"
            if any(min(dim.times, dim.per, dim.plus + 1) < 1 for dim in buffer.dims):
                return f"the sides of {name}"
            if buffer.offset + buffer.size(function.most) > function.arena:
                return f"{name} reaches out of the arena"
        known = {*function.buffers, *plan.weights, *caches, *INPUT_TYPES}
        for call in (*function.calls, *function.greedy, *function.sampled):
            if call.kernel and call.kernel not in plan.variants:
                return f"{function.name} launches {call.kernel}, which is not there"
            for name in call.tensors.values():
                if name not in known:
                    return f"{call.module} reads {name}, which is not there"
        for name, kind in ((function.result, "fp32"), (function.chosen, "i32")):
            if name not in function.buffers or function.buffers[name].type != kind:
                return f"{function.name} has no result {name}"
    return ""

"""The ordered passes of each target, by dotted name, and how their fields are filled."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, Final

from modelc.errors import ModelcError
from modelc.passes.base import Pass

_HTP_FLOAT: Final = (
    "modelc.passes.expand:ExpandComposites",
    "modelc.passes.htp.specialise_shapes:SpecialiseShapes",
    "modelc.passes.htp.genie_contract:GenieContract",
    "modelc.passes.htp.scale_queries:ScaleQueries",
)

_NETWORK: Final = (
    "modelc.passes.network.fold_constants:FoldConstants",
    "modelc.passes.network.remove_no_ops:RemoveNoOps",
    "modelc.passes.network.share_results:ShareResults",
    "modelc.passes.network.merge_moves:MergeMoves",
    "modelc.passes.network.fuse_batch_norm:FuseBatchNorm",
    "modelc.passes.network.fuse_norms:FuseNorms",
    "modelc.passes.network.fuse_clips:FuseClips",
    "modelc.passes.network.fuse_activations:FuseActivations",
    "modelc.passes.network.remove_dead_code:RemoveDeadCode",
)

_CUDA: Final = "modelc.passes.cuda"
# What CUDA's kernels can't do without; more fusing at each level of --opt.
_CUDA_START: Final = (
    f"{_CUDA}.fuse_experts:FuseExperts",
    f"{_CUDA}.fuse_attention:FuseAttention",
    f"{_CUDA}.fuse_embedding:FuseEmbedding",
    f"{_CUDA}.fuse_softcap:FuseSoftcap",
    f"{_CUDA}.select_rows:SelectRows",
)
_CUDA_MERGED: Final = (
    *_CUDA_START,
    f"{_CUDA}.fuse_gates:FuseGates",
    f"{_CUDA}.fuse_shared_expert:FuseSharedExpert",
    f"{_CUDA}.merge_linears:MergeLinears",
)
_CUDA_PACKED: Final = (
    f"{_CUDA}.fuse_norms:FuseNorms",
    f"{_CUDA}.shard_tensors:ShardTensors",
    f"{_CUDA}.pack_linears:PackLinears",
)
_CUDA_FUSED: Final = (
    *_CUDA_MERGED,
    *_CUDA_PACKED,
    f"{_CUDA}.fuse_epilogues:FuseEpilogues",
)

_LOWER_NETWORK: Final = (
    "modelc.passes.network.bound_masks:BoundMasks",
    "modelc.passes.network.decompose_operators:DecomposeOperators",
    "modelc.passes.network.guard_tanh:GuardTanh",
    "modelc.passes.network.reduce_rank:ReduceRank",
    "modelc.passes.network.fold_constants:FoldConstants",
    "modelc.passes.network.remove_no_ops:RemoveNoOps",
    "modelc.passes.network.merge_moves:MergeMoves",
    "modelc.passes.network.share_results:ShareResults",
)

PIPELINES: Final[Mapping[str, tuple[str, ...]]] = {
    "cpu": (
        "modelc.passes.cpu.fuse_attention:FuseAttention",
        "modelc.passes.cpu.select_rows:SelectRows",
        "modelc.passes.cpu.fuse_norms:FuseNorms",
        "modelc.passes.cpu.fuse_activation:FuseActivation",
        "modelc.passes.cpu.merge_linears:MergeLinears",
        "modelc.passes.cpu.pack_weights:PackWeights",
    ),
    # The expanded graph, on which ranges are gathered.
    "expanded": ("modelc.passes.expand:ExpandComposites",),
    # The expanded graph as a scheme stores it, run in floats.
    "simulated": (
        "modelc.passes.expand:ExpandComposites",
        "modelc.passes.simulate:Simulate",
    ),
    # What it computes with weights as they are, beside it.
    "exact": ("modelc.passes.add_exact:AddExact",),
    "htp-float": _HTP_FLOAT,
    # What a part with layers goes through between these two.
    "htp-sha": ("modelc.passes.htp.mha_to_sha:MhaToSha",),
    # A float part for converters that know no recent ONNX.
    "htp-plain": ("modelc.passes.htp.plain_onnx:PlainOnnx",),
    # Cloud AI 100.
    "qaic": (
        "modelc.passes.qaic.adapters:AddAdapters",
        "modelc.passes.expand:ExpandComposites",
        "modelc.passes.qaic.operators:CardOperators",
        "modelc.passes.qaic.contract:CardContract",
        "modelc.passes.qaic.logits:KeepLogits",
        "modelc.passes.qaic.sampling:SampleOnCard",
        "modelc.passes.qaic.clip:ClipToHalf",
    ),
    # CUDA, by --opt.
    "cuda-0": (*_CUDA_START, *_CUDA_PACKED),
    "cuda-1": (*_CUDA_MERGED, *_CUDA_PACKED),
    "cuda-2": _CUDA_FUSED,
    "cuda-3": _CUDA_FUSED,
    # A network, for whatever target. Relu and Clip stay behind their Conv and Gemm: QNN has no
    # operator for the two, the provider passes both on. Attention stays products and Softmax, which
    # quantised graphs need ranges of.
    "network": _NETWORK,
    # What "network" gives, for HTP. NCHW stays: the provider turns images where they come in and
    # go out, and nowhere between (two Transposes in all of resnet50, squeezenet, mobilenet).
    "htp-network": (*_LOWER_NETWORK, "modelc.passes.network.check_operators:CheckOperators"),
    # The same where the CPU may take what HTP doesn't.
    "htp-network-fallback": _LOWER_NETWORK,
    "htp-quantised": (*_HTP_FLOAT, "modelc.passes.htp.quantise:Quantise"),
}


def build_pipeline(name: str, settings: Mapping[str, Any]) -> tuple[Pass, ...]:
    """Return the passes of a row, each one's fields filled from `settings` by name.

    A field with a default may be left out; settings that no pass has are an error.

    Raises:
        ModelcError: a field without a value, or a setting without a field.
    """
    passes: list[Pass] = []
    unused = set(settings)
    for dotted in PIPELINES[name]:
        kind = load_pass(dotted)
        fields = dataclasses.fields(kind)
        required = {field.name for field in fields if _is_required(field)}
        if missing := sorted(required - settings.keys()):
            raise ModelcError(f"pass {kind.name} of {name} needs {', '.join(missing)}")
        taken = {field.name: settings[field.name] for field in fields if field.name in settings}
        passes.append(kind(**taken))
        unused -= taken.keys()
    if unused:
        raise ModelcError(f"no pass of {name} has a field {', '.join(sorted(unused))}")
    return tuple(passes)


def load_pass(dotted: str) -> type[Pass]:
    """Import "package.module:Class".

    Raises:
        ImportError, AttributeError: there is no such class.
    """
    module, _, name = dotted.partition(":")
    kind: type[Pass] = getattr(importlib.import_module(module), name)
    return kind


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING

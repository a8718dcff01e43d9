"""MLPerf's presets for the card: what each model, scenario and card adds to the command.

The rows are those of MLCommons' automation, script compile-model-for.qaic (cm4mlops), by release.
A row of more tags takes the place of one of fewer, part by part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SCENARIOS: Final = ("singlestream", "multistream", "offline", "server")
"""The first is meant where none is named."""

CORES: Final = ("nsp.8", "nsp.9", "nsp.14", "nsp.16")
"""Cores of the card; a card that no row names takes its scenario's row."""

NODE_PRECISION: Final = "{node_precision}"
_BERT: Final = (
    "-vvv -compile-only -onnx-define-symbol=batch_size,1 -onnx-define-symbol=seg_length,384"
)
_WHOLE: Final = "-combine-inputs=false -combine-outputs=false"
_LIMITS: Final = (
    "-allocator-dealloc-delay=2 -size-split-granularity=1536 -vtcm-working-set-limit-ratio=1"
)


def _bert_99(nodes: str) -> str:
    return (
        f"-aic-hw -aic-hw-version=2.0 -execute-nodes-in-fp16={nodes} "
        "-quantization-schema=symmetric_with_uint8 -quantization-precision=Int8 "
        f"-quantization-precision-bias=Int32 {_BERT} -multicast-weights {_WHOLE}"
    )


@dataclass(frozen=True)
class Model:
    """What all commands of a model share.

    Attributes:
        base: the compiler's arguments.
        args: further ones, unless a row says others; None needs a row that does.
        calibrate: the arguments of calibration; "" can't be calibrated.
        is_quantised: whether it may be quantised.
        is_batched: whether its calibration reads inputs that are put together into batches.
        frameworks: tags of the framework that it comes from.
    """

    base: str
    args: str | None = ""
    calibrate: str = ""
    is_quantised: bool = True
    is_batched: bool = True
    frameworks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """What a scenario, or a scenario on a card, changes; None leaves it as it was."""

    args: str | None = None
    sut: str | None = None
    batch: int | None = None


@dataclass(frozen=True)
class Release:
    """The presets of one release; keys of rows are (model, scenario, cores or "")."""

    models: dict[str, Model]
    rows: dict[tuple[str, str, str], Row]


_RESNET50: Final = Model(
    base=(
        "-aic-hw -aic-hw-version=2.0 -quantization-schema=symmetric_with_uint8 "
        "-quantization-precision=Int8 -output-node-name=ArgMax -vvv -compile-only "
        "-use-producer-dma=1"
    ),
    args=None,
    calibrate="-output-node-name=ArgMax -profiling-threads={threads}",
    frameworks=("tf",),
)
_RETINANET: Final = Model(
    base=(
        "-aic-hw -aic-hw-version=2.0 -compile-only -enable-channelwise "
        f"-onnx-define-symbol=batch_size,1 -node-precision-info={NODE_PRECISION} "
        "-quantization-schema-constants=symmetric_with_uint8 "
        "-quantization-schema-activations=asymmetric -quantization-calibration=None"
    ),
    args="-aic-enable-depth-first",
    calibrate=(
        "-enable-channelwise -profiling-threads={threads} "
        f"-onnx-define-symbol=batch_size,{{batch}} -node-precision-info={NODE_PRECISION}"
    ),
)
_BERT_CALIBRATE: Final = (
    "-onnx-define-symbol=batch_size,1 -onnx-define-symbol=seg_length,{length} "
    "-input-list-file={input_list} -num-histogram-bins=512 -profiling-threads={threads}"
)
_EARLY_NODES: Final = (
    "Mul,Sqrt,Div,Add,ReduceMean,Softmax,Sub,Gather,Erf,Pow,Concat,Tile,LayerNormalization"
)
_LATER_NODES: Final = "Add,Div,Erf,Softmax"

_ROWS: Final = {
    ("bert-99", "offline", ""): Row(_LIMITS, "-aic-num-cores=1 -mos=1 -ols=3"),
    ("bert-99", "offline", "nsp.14"): Row(sut="-aic-num-cores=1 -mos=1 -ols=3"),
    ("bert-99", "server", ""): Row(_LIMITS, "-aic-num-cores=1 -mos=1 -ols=3"),
    ("bert-99", "server", "nsp.14"): Row(sut="-aic-num-cores=1 -mos=1 -ols=3"),
    ("bert-99", "singlestream", ""): Row("", "-aic-num-cores=8 -mos=8 -ols=1"),
    ("bert-99", "singlestream", "nsp.14"): Row(sut="-aic-num-cores=8 -mos=8 -ols=1"),
    ("resnet50", "multistream", ""): Row("-sdp-cluster-sizes=4,4 -mos=1,4"),
    ("resnet50", "multistream", "nsp.14"): Row(sut="-aic-num-cores=4", batch=1),
    ("resnet50", "offline", ""): Row(
        "-sdp-cluster-sizes=2,2 -multicast-weights", "-aic-num-cores=4 -mos=1,2 -ols=4"
    ),
    ("resnet50", "offline", "nsp.14"): Row(sut="-aic-num-cores=4 -mos=1,2 -ols=4", batch=8),
    ("resnet50", "server", ""): Row(),
    ("resnet50", "server", "nsp.14"): Row(
        "-sdp-cluster-sizes=2,2 -mos=1,2 -multicast-weights", "-aic-num-cores=4 -ols=4", 8
    ),
    ("resnet50", "server", "nsp.16"): Row(
        "-sdp-cluster-sizes=4,4 -mos=1,4", "-aic-num-cores=4 -ols=4", 8
    ),
    ("resnet50", "singlestream", ""): Row(
        "-aic-num-of-instances=1", "-aic-num-cores=8 -mos=1 -ols=1"
    ),
    ("resnet50", "singlestream", "nsp.14"): Row(sut="-aic-num-cores=8 -mos=1 -ols=1", batch=1),
    ("retinanet", "multistream", ""): Row(),
    ("retinanet", "offline", ""): Row(sut="-aic-num-cores=1 -mos=1 -ols=1"),
    ("retinanet", "server", ""): Row(),
    ("retinanet", "singlestream", ""): Row("", "-aic-num-cores=8 -mos=1 -ols=1"),
    ("retinanet", "singlestream", "nsp.14"): Row(sut="-aic-num-cores=8 -mos=1 -ols=1"),
}

RELEASES: Final = {
    "3.1": Release(
        models={
            "bert-99": Model(_bert_99(_EARLY_NODES), calibrate=_BERT_CALIBRATE, is_batched=False),
            "resnet50": _RESNET50,
            "retinanet": _RETINANET,
        },
        rows=_ROWS,
    ),
    "4.0": Release(
        models={
            "bert-99": Model(_bert_99(_LATER_NODES), calibrate=_BERT_CALIBRATE, is_batched=False),
            "bert-99.9": Model(
                f"-aic-hw -aic-hw-version=2.0 -convert-to-fp16 {_BERT} {_WHOLE}",
                is_quantised=False,
                is_batched=False,
            ),
            "resnet50": _RESNET50,
            "retinanet": _RETINANET,
        },
        rows=_ROWS
        | {
            ("bert-99", "offline", ""): Row(_LIMITS, "-aic-num-cores=1 -mos=1 -ols=2"),
            ("bert-99", "offline", "nsp.16"): Row(sut="-aic-num-cores=1 -mos=1 -ols=2"),
            ("bert-99.9", "offline", ""): Row(sut="-aic-num-cores=2 -mos=1 -ols=2"),
            ("bert-99.9", "server", ""): Row(sut="-aic-num-cores=2"),
            ("resnet50", "multistream", ""): Row("", "-aic-num-cores=4 -mos=1 -ols=1"),
        },
    ),
}
"""By MLPerf Inference's round, from the oldest to the newest."""

LATEST: Final = "4.0"

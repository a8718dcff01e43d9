"""The provider's log, in the words of onnxruntime-qnn 2.7."""

from __future__ import annotations

from modelc.targets.snapdragon.network.provider_log import (
    Judgement,
    read_judgements,
    read_refused,
    read_turned,
)

LOG = """\
2026 [V:onnxruntime:, qnn_execution_provider.cc:2198 GetCapabilityImpl] GetCapability pass 1 (pre)
2026 [V:onnxruntime:, qnn_execution_provider.cc:1713 LogNodeSupport] Validation PASSED for 1 nodes \
in OrtNodeUnit (Conv) :
\tOperator type: Conv Node name: conv Node index: 0

\x1b[0;93m2026 [W:onnxruntime:, qnn_model_wrapper.cc:565 CreateQnnNode] \
QNN.backendValidateOpConfig() failed for node `relu` of type `Relu` with error code 3110
\x1b[m
2026 [V:onnxruntime:, qnn_execution_provider.cc:1713 LogNodeSupport] Validation FAILED for 1 nodes \
in OrtNodeUnit (Relu) :
\tOperator type: Relu Node name: relu Node index: 1
\tREASON : Failed to add node.

2026 [V:onnxruntime:, qnn_execution_provider.cc:2198 GetCapabilityImpl] GetCapability pass 2 (post)
2026 [V:onnxruntime:, qnn_execution_provider.cc:1713 LogNodeSupport] Validation FAILED for 3 nodes \
in ReshapeGemmFusionGroup (Gemm) :
\tOperator type: Reshape Node name: gemm_input_reshape Node index: 12
\tOperator type: Gemm Node name: a name with Node index: in it Node index: 14
\tOperator type: Reshape Node name: gemm_output_reshape Node index: 13
\tREASON : Failed to add node.

2026 [V:onnxruntime:, qnn_execution_provider.cc:1713 LogNodeSupport] Validation PASSED for 1 nodes \
in OrtNodeUnit (Relu) :
\tOperator type: Relu Node name: relu Node index: 1

2026 [V:onnxruntime:, qnn_execution_provider.cc:1713 LogNodeSupport] Validation FAILED for 1 nodes \
in OrtNodeUnit (Mod) :
\tOperator type: Mod Node name: mod Node index: 2
\tREASON : QNN Mod Op only support fmod == 0 for now.

"""


def test_the_second_look_counts() -> None:
    untold = "Failed to add node."
    assert read_judgements(LOG) == {
        "conv": Judgement("Conv", True, ""),
        "relu": Judgement("Relu", True, ""),
        "gemm_input_reshape": Judgement("Reshape", False, untold),
        "a name with Node index: in it": Judgement("Gemm", False, untold),
        "gemm_output_reshape": Judgement("Reshape", False, untold),
        "mod": Judgement("Mod", False, "QNN Mod Op only support fmod == 0 for now."),
    }


def test_htps_own_reason() -> None:
    first = LOG[: LOG.index("pass 2")]
    reason = "HTP refuses Relu: its types, sizes or parameters are not what HTP takes there"
    assert read_judgements(first)["relu"] == Judgement("Relu", False, reason)


def test_conversions_around_a_refused_operator_are_its_victims() -> None:
    log = (
        "[V] Validation FAILED for 3 nodes in OrtNodeUnit (Erf) :\n"
        "\tOperator type: DequantizeLinear Node name: dq Node index: 5\n"
        "\tOperator type: Erf Node name: erf Node index: 6\n"
        "\tREASON : no\n\n"
        "[V] Validation FAILED for 1 nodes in OrtNodeUnit (DequantizeLinear) :\n"
        "\tOperator type: DequantizeLinear Node name: int4 Node index: 7\n"
        "\tREASON : neither\n\n"
    )
    assert read_judgements(log) == {
        "dq": Judgement("DequantizeLinear", False, "no", victim=True),
        "erf": Judgement("Erf", False, "no"),
        "int4": Judgement("DequantizeLinear", False, "neither"),
    }


def test_a_log_that_is_cut_off() -> None:
    cut = LOG[: LOG.index("\tOperator type: Relu")]
    assert read_judgements(cut) == {"conv": Judgement("Conv", True, "")}
    assert read_judgements("") == {}


def test_refused_without_the_casualties() -> None:
    log = (
        "[E:onnxruntime:] Unsupported nodes in QNN EP: { name: early, type: Relu }\n"
        "failed\nQNN.backendValidateOpConfig() failed for node `er f` of type `Erf` with error "
        "code 6007\n"
        "[E:onnxruntime:] Unsupported nodes in QNN EP: { name: q, type: QuantizeLinear }"
        "{ name: er f, type: Erf }, \x1b[m\n"
    )
    reason = "HTP refuses Erf: HTP knows no such operator"
    assert read_refused(log) == {"er f": Judgement("Erf", False, reason)}
    alone = "Unsupported nodes in QNN EP: { name: q, type: QuantizeLinear }"
    assert read_refused(alone) == {"q": Judgement("QuantizeLinear", False, "")}
    assert read_refused("all is well") == {}


def test_turned() -> None:
    message = (
        "[ONNXRuntimeError] : 1 : FAIL : Node 'conv_token_1' OpType:Conv with "
        "domain:com.ms.internal.nhwc was inserted using the NHWC format as requested by net"
    )
    assert read_turned(message) == ("conv_token_1", "Conv")
    assert read_turned("another failure") is None

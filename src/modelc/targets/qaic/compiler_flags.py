"""The compiler's flags that options may be passed on to: `k_v=True` is -k-v, `k_v=x` is -k-v=x."""

from __future__ import annotations

from typing import Final, Literal

from modelc.errors import BadInput, nearest

Kind = Literal["switch", "value", "either"]

FLAGS: Final[dict[str, Kind]] = {
    "aic_depth_first_mem": "value",
    "aic_enable_depth_first": "switch",
    "aic_num_of_instances": "value",
    "aic_perf_metrics": "switch",
    "aic_perf_warnings": "switch",
    "aic_profiling_type": "value",
    "allocator_dealloc_delay": "value",
    "allow_mxint8_mdp_io": "switch",
    "batchsize": "value",
    "combine_inputs": "either",
    "combine_outputs": "either",
    "ddr_stats": "switch",
    "device_id": "value",
    "enable_channelwise": "switch",
    "execute_nodes_in_fp16": "value",
    "input_list_file": "value",
    "io_encrypt": "value",
    "load_profile": "value",
    "mdp_dump_partition_config": "value",
    "mdts_mos": "value",
    "mos": "value",
    "multicast_weights": "switch",
    "node_precision_info": "value",
    "num_histogram_bins": "value",
    "ols": "value",
    "onnx_define_symbol": "value",
    "output_node_name": "value",
    "percentile_calibration_value": "value",
    "profiling_threads": "value",
    "qpc_crc": "switch",
    "quantization_calibration": "value",
    "quantization_precision": "value",
    "quantization_precision_bias": "value",
    "quantization_schema": "value",
    "quantization_schema_activations": "value",
    "quantization_schema_constants": "value",
    "register_custom_op": "value",
    "sdp_cluster_sizes": "value",
    "size_split_granularity": "value",
    "split_retained_state_io": "switch",
    "stats_batchsize": "value",
    "stats_level": "value",
    "time_passes": "switch",
    "use_producer_dma": "value",
    "user_tiled": "switch",
    "vtcm_working_set_limit_ratio": "value",
    "vvv": "switch",
}
"""Python name -> whether it is given as True, with a value, or either way."""

SET_ELSEWHERE: Final = {
    "aic_binary_dir": "it is QPC_DIR/qpc",
    "aic_hw": "always given",
    "aic_num_cores": "num_cores",
    "compile_only": "given where the SDK needs it",
    "convert_to_fp16": "always given",
    "custom_io_list_file": "mxint8_kv_cache",
    "device_group": "num_devices",
    "enable_qnn": "the toolchain qnn",
    "m": "the source",
    "model": "the source",
    "mxfp6": "mxfp6_matmul",
    "mxint8": "mxint8_kv_cache",
    "network_specialization_config": "prefill_seq_len, ctx_len and batch_size",
    "onnx_path": "the source",
    "prompt_len": "prefill_seq_len",
    "retained_state": "given where the graph has states",
    "sub_functions": "use_onnx_subfunctions",
}
"""Names that would reach the compiler twice, or come from other front ends, and what to use."""

Passed = bool | int | float | str


def check_flag(name: str, value: object, known: frozenset[str]) -> Passed:
    """Return the value of an option that is passed on, or say what is wrong with it.

    Args:
        known: all other options, to find what an unknown name may have meant.

    Raises:
        BadInput: the compiler has no such flag, or not with such a value.
    """
    if name in SET_ELSEWHERE:
        raise BadInput(f"{name} is no option", hint=f"use instead: {SET_ELSEWHERE[name]}")
    kind = FLAGS.get(name)
    if kind is None:
        raise BadInput(f"unknown option {name}", hint=nearest(name, known | set(FLAGS)))
    if isinstance(value, bool) and kind != "value":
        return value
    if isinstance(value, (int, float, str)) and not isinstance(value, bool) and kind != "switch":
        if isinstance(value, str) and (not value or any(c in value for c in "\0\r\n")):
            raise BadInput(f"{name}: {value!r} is no value of a flag")
        return value
    wanted = "True or False" if kind == "switch" else "a number or text"
    raise BadInput(f"{name} takes {wanted}, not {value!r}")


def flag_text(name: str, value: Passed) -> list[str]:
    """Return the flag that an option becomes; none for False."""
    flag = "-" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag] if value else []
    return [f"{flag}={value}"]

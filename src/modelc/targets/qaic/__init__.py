"""Cloud AI 100: what its compiler is given, and how what it makes is run."""

from modelc.targets.qaic.drop_in import compile_kv_model_on_cloud_ai_100
from modelc.targets.qaic.mlperf import environment, mlperf_command
from modelc.targets.qaic.mlperf_tags import variations
from modelc.targets.qaic.qnn_route import QnnPlan, plan_qnn
from modelc.targets.qaic.qpc import QpcPlan, plan
from modelc.targets.qaic.record import qpc_key

__all__ = [
    "QnnPlan",
    "QpcPlan",
    "compile_kv_model_on_cloud_ai_100",
    "environment",
    "mlperf_command",
    "plan",
    "plan_qnn",
    "qpc_key",
    "variations",
]

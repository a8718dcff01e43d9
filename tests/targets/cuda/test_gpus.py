"""Names of GPUs and architectures."""

import pytest

from modelc.errors import BadInput
from modelc.targets.cuda.gpus import find_gpus
from modelc.targets.find import find_target


def test_architectures_and_names() -> None:
    assert [gpu.arch for gpu in find_gpus("sm90,sm80")] == [80, 90]
    assert find_gpus("h200")[0].memory == 141 * 10**9
    assert find_gpus("sm_90a")[0].name == "h100"
    assert find_target("cuda:sm80,sm89").marketing_name == "NVIDIA A100 80 GB, NVIDIA L40S"


def test_an_unknown_one_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="no kernels are made for cuda:sm91") as caught:
        find_target("cuda:sm91")
    assert "cuda:sm90" in caught.value.hint


def test_fp8_needs_an_architecture_that_has_it() -> None:
    find_target("cuda:sm89,sm90").check_scheme("fp8_block")
    with pytest.raises(BadInput, match="sm80 has no FP8"):
        find_target("cuda:sm80,sm90").check_scheme("fp8")

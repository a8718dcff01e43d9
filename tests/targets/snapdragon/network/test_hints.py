"""What people are told to do about an operator that HTP refuses."""

from __future__ import annotations

import pytest

from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.network.hints import hint_for

ELITE = "snapdragon-8-elite"


@pytest.mark.parametrize(
    ("op_type", "reason", "told"),
    [
        ("Add", "HTP takes bytes as codes of quantised numbers, not as integers", "int32"),
        ("Split", "rest is empty", "size of 0"),
        ("Resize", "its scales or sizes are no constants", "constants"),
        ("Range", "the sizes of y depend on the inputs' numbers", "--dim"),
        ("Dropout", "it is in training mode", "inference"),
        ("ScatterND", "HTP doesn't scatter elements by max", "add and mul"),
        ("Fancy", "HTP has no such operator", "--op-package"),
        ("Fancy", "Fancy is not supported by QNN EP", "--op-package"),
        ("Conv", "HTP refuses Conv3d", "--allow-cpu-fallback"),
    ],
)
def test_what_to_do_follows_from_the_operator_and_the_reason(
    op_type: str, reason: str, told: str
) -> None:
    assert told in hint_for(op_type, reason, find_chipset(ELITE), quantised=False)


def test_without_fp16_the_remedy_is_to_quantise() -> None:
    chipset = find_chipset("qcs6490")
    assert not chipset.fp16
    assert "--quant" in hint_for("Conv", "HTP refuses Conv2d", chipset, quantised=False)
    assert "--quant" not in hint_for("Conv", "HTP refuses Conv2d", chipset, quantised=True)

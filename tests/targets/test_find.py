import pytest

from modelc.errors import BadInput
from modelc.targets.find import CPU, all_targets, find_target


def test_the_cpu_comes_first() -> None:
    assert all_targets()[0] is CPU is find_target("cpu")
    assert CPU.document()["soc_model"] is None


def test_every_name_and_alias_finds_its_chipset() -> None:
    for target in all_targets()[1:]:
        assert target.chipset
        for name in (target.name, *target.chipset.aliases):
            if target.chipset.has_htp:
                found = find_target(name.upper())
                assert found.chipset == target.chipset and found.name == name
            else:
                with pytest.raises(BadInput, match="has no HTP"):
                    find_target(name)


def test_unknown_names() -> None:
    with pytest.raises(BadInput, match="no chipset") as caught:
        find_target("snapdragon-8-elit")
    assert "snapdragon-8-elite" in caught.value.hint


def test_fp16_needs_the_hardware() -> None:
    without = [target for target in all_targets() if target.chipset and not target.chipset.fp16]
    assert without
    for target in without:
        with pytest.raises(BadInput, match="fp16"):
            target.check_scheme("fp16")
        target.check_scheme("w8a16")
    find_target("snapdragon-8-elite").check_scheme("fp16")

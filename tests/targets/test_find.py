import pytest

from modelc.errors import BadInput
from modelc.targets.find import CPU, all_targets, find_target


def test_the_cpu_comes_first() -> None:
    assert all_targets()[0] is CPU is find_target("cpu")
    assert CPU.document()["soc_model"] is None


def test_every_name_and_alias_finds_its_chipset() -> None:
    for target in all_targets()[1:]:
        if target.chipset is None:
            continue
        for name in (target.name, *target.chipset.aliases):
            if target.chipset.has_htp:
                found = find_target(name.upper())
                assert found.chipset == target.chipset and found.name == name
            else:
                with pytest.raises(BadInput, match="has no HTP"):
                    find_target(name)


def test_every_card_is_found_by_its_name() -> None:
    cards = [target for target in all_targets() if target.card]
    assert {target.name for target in cards} >= {"qaic:ai100", "qaic:ai100-ultra"}
    for target in cards:
        assert find_target(target.name.upper()) == target
        assert target.family == "qaic" and target.document()["soc_model"] is None
    with pytest.raises(BadInput, match="no card") as caught:
        find_target("qaic:ai100-ulta")
    assert "qaic:ai100-ultra" in caught.value.hint


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

"""What a compiled decoder finds out about itself, and a chipset that can't share weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modelc
from modelc.pipeline.store import Store
from modelc.targets.runtime import Generation, Sampling
from modelc.targets.snapdragon.binary import BinaryInfo, Graph
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.runtime import SnapdragonRuntime

CHIPSET = find_chipset("sm8750")
TOKENS = list(range(3, 60))
EOS = (5, 99)


class Scripted:
    """Genie or the simulator, with an answer that is known."""

    def __init__(
        self, answer: Sequence[int], contexts: Sequence[int] = (64,), longest: int = 57
    ) -> None:
        self.answer, self.longest_prompt = tuple(answer), longest
        self.context_lengths, self.context_length = contexts, contexts[-1]
        self.prompts: list[Sequence[int]] = []

    def generate(
        self, prompt: Sequence[int], sampling: Sampling, count: int, stop_ids: Sequence[int]
    ) -> Generation:
        self.prompts.append(prompt)
        return Generation(self.answer[:count], len(prompt), 1.0, 1.0)


def findings(
    genie: Scripted, simulator: Scripted, folder: Path, **changes: Any
) -> dict[str, tuple[bool, str]]:
    graph = Graph("token_ar1_cl64_1_of_1_token", (), (), 0, changes.pop("vtcm_mb", 8))
    info = BinaryInfo("v2", **{"soc_model": 69, "htp_arch": "v79", "graphs": (graph,), **changes})
    runtime = SnapdragonRuntime(genie, simulator, EOS, CHIPSET, {"a.bin": info}, {}, folder)
    found = runtime.findings(TOKENS, np.zeros(0))
    return {finding.name: (finding.passed, finding.detail) for finding in found}


@pytest.mark.parametrize(
    ("genie", "simulator", "passed"),
    [
        (range(16), range(16), True),
        # Genie ended at one of its own end-of-sequence tokens.
        (range(5), range(16), True),
        # It ended at none, or went another way.
        (range(4), range(16), False),
        ([0], range(16), False),
        ([*range(4), 99], range(16), False),
        ([], range(16), False),
        (range(16), range(5), False),
    ],
)
def test_genie_agrees_with_the_simulator(
    genie: Sequence[int], simulator: Sequence[int], passed: bool, tmp_path: Path
) -> None:
    found = findings(Scripted(genie), Scripted(simulator), tmp_path)
    assert found["genie_tokens"][0] is passed
    assert found["chipset"] == (True, "a.bin: SoC 69, v79, VTCM 8 MB, 1 graphs")


def test_the_prompt_is_one_that_genie_reads(tmp_path: Path) -> None:
    genie, simulator = Scripted(range(16), longest=4), Scripted(range(16))
    findings(genie, simulator, tmp_path)
    assert genie.prompts == simulator.prompts == [TOKENS[:4]]


def test_with_two_contexts_the_prompt_goes_on_into_the_longer_one(tmp_path: Path) -> None:
    genie, simulator = Scripted(range(16), (32, 64)), Scripted(range(16), (32, 64))
    told = findings(genie, simulator, tmp_path)["genie_tokens"][1]
    assert told.endswith("after a prompt of 24 in contexts of 32, 64")
    assert genie.prompts == [TOKENS[:24]]  # and 16 tokens more


@pytest.mark.parametrize("change", [{"soc_model": 57}, {"htp_arch": "v75"}, {"vtcm_mb": 4}])
def test_another_chipsets_binary(change: dict[str, Any], tmp_path: Path) -> None:
    answer = Scripted(range(16))
    assert findings(answer, answer, tmp_path, **change)["chipset"][0] is False


@pytest.mark.simulator
def test_a_chipset_without_weight_sharing(
    llama_folder: Path, shared_store: Path, tmp_path: Path
) -> None:
    """Gets a binary for each AR length, and Genie takes them together."""
    pytest.importorskip("onnxruntime_qnn", reason="HTP's compiler is not here")
    made = modelc.compile(
        llama_folder,
        target="sm8450",
        output=tmp_path / "bundle",
        context_length=32,
        ar=(8, 1),
        store=Store(shared_store),
    )
    with made:
        binaries = sorted(path.name for path in made.path.glob("*.bin"))
        assert binaries == ["prompt_ar8_cl32_1_of_1.bin", "token_ar1_cl32_1_of_1.bin"]
        checks = made.report.verification["checks"]
        chips = [check for check in checks if check["name"] == "chipset"]
        assert [check["passed"] for check in chips] == [True, True]
        assert "SoC 36, v69" in chips[0]["detail"]

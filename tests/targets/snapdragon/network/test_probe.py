"""What HTP takes is asked once, of the provider itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.qnn_networks import CHIPSET, FLOAT, QUANTISED, TIMEOUT

from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.network import probe
from modelc.targets.snapdragon.network.compile import CompiledNetwork
from modelc.targets.snapdragon.network.options import NetworkOptions
from modelc.targets.snapdragon.network.probe import probe_operators
from modelc.targets.snapdragon.network.verdicts import OperatorVerdict

pytest.importorskip("onnxruntime_qnn", reason="HTP's compiler is not here")
pytestmark = pytest.mark.simulator


def ask(
    model: Path, folder: Path, options: NetworkOptions, chipset: str = CHIPSET
) -> dict[str, OperatorVerdict]:
    verdicts = probe_operators(
        model,
        find_chipset(chipset),
        options,
        cache_dir=folder / "cache",
        workdir=folder / "work",
        timeout_s=TIMEOUT,
    )
    return {verdict.node: verdict for verdict in verdicts}


def test_refused_with_reason_and_remedy_and_asked_once(
    networks: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anything else in the cache than verdicts on this network is asked for again."""
    model = networks("erf")
    first = ask(model, tmp_path, FLOAT)
    [refused] = [verdict for verdict in first.values() if verdict.verdict != "taken"]
    assert (refused.node, refused.op_type, refused.module) == (
        "activation",
        "Erf",
        "net.activation",
    )
    assert (refused.verdict, refused.reason[:26]) == ("refused", "Operators of type `Erf` ar")
    assert "Gelu" in refused.hint
    assert len(first) == 12

    asked = []

    def answer(*_: object, **__: object) -> dict[str, object]:
        asked.append(1)
        return {"nodes": {name: ["refused", "asked again"] for name in first}, "others": {}}

    monkeypatch.setattr(probe, "run_worker", answer)
    assert ask(model, tmp_path, FLOAT) == first
    assert not asked
    [kept] = (tmp_path / "cache").iterdir()
    good = json.loads(kept.read_text())
    for bad in (
        "",
        "[" * 100_000,
        "[]",
        json.dumps({**good, "nodes": {**good["nodes"], "other": ["taken", ""]}}),
        json.dumps({**good, "nodes": {**good["nodes"], "norm": ["gone", ""]}}),
        json.dumps({**good, "nodes": {**good["nodes"], "norm": ["taken", 3]}}),
        json.dumps({**good, "others": ["Relu"]}),
        json.dumps({**good, "more": {}}),
    ):
        kept.write_text(bad)
        assert {verdict.reason for verdict in ask(model, tmp_path, FLOAT).values()} == {
            "asked again"
        }
    assert len(asked) == 8


def test_a_conversion_is_stranded_beside_what_is_refused(
    networks: Callable[[str], Path], tmp_path: Path
) -> None:
    found = ask(networks("stranded"), tmp_path, QUANTISED)
    verdicts = {name: verdict.verdict for name, verdict in found.items()}
    assert verdicts["middle"] == "refused"
    assert {verdicts[name] for name in ("x.q", "conv", "w.dq")} == {"taken"}
    assert {verdicts[name] for name in ("c.dq", "r.q")} == {"stranded"}
    assert "see to the refused operators" in found["c.dq"].hint


def test_a_float_network_on_a_chipset_without_fp16(
    networks: Callable[[str], Path], tmp_path: Path
) -> None:
    """There is no session then: HTP refuses what ONNX Runtime turned for it."""
    found = ask(networks("cnn"), tmp_path, QUANTISED, "qcs6490")
    assert {name for name, v in found.items() if v.verdict == "refused"} >= {"conv", "head"}
    assert "HTP refuses Conv2d" in found["conv"].reason
    assert "quantise" in found["conv"].hint


@pytest.mark.parametrize("name", ["cnn", "erf", "quantised"])
def test_compiling_judges_as_asking_does(
    name: str,
    networks: Callable[[str], Path],
    compiled: Callable[[str], CompiledNetwork],
    tmp_path: Path,
) -> None:
    """Where HTP refuses some, too: `erf` is compiled with help of the CPU."""
    options = QUANTISED if name == "quantised" else FLOAT
    asked = ask(networks(name), tmp_path, options)
    assert list(asked.values()) == list(compiled(name).verdicts)

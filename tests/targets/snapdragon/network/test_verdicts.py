"""Verdicts on the provider's nodes become verdicts on the model's."""

from __future__ import annotations

from modelc.targets.snapdragon.network.provider_log import Judgement
from modelc.targets.snapdragon.network.source_names import SourceNames, Wiring
from modelc.targets.snapdragon.network.verdicts import MERGED, judge

SOURCE = {
    "conv": Wiring(("x", "w"), ("c",)),
    "q": Wiring(("c",), ("cq",)),
    "gone": Wiring(("k",), ("k2",)),
}
TURNED = {
    "Transpose": Wiring(("x",), ("t",)),
    "conv_token_1": Wiring(("t", "w"), ("conv",)),
    "q": Wiring(("conv",), ("cq",)),
    "lost": Wiring(("?",), ("??",)),
}
TAKEN = Judgement("Conv", True, "")


def test_the_worst_verdict_counts_whatever_the_order() -> None:
    judged = {
        "conv_token_1": TAKEN,
        "Transpose": Judgement("Transpose", False, "rank"),
        "q": Judgement("QuantizeLinear", True, ""),
    }
    names = SourceNames(SOURCE, (SOURCE, TURNED))
    found = judge(list(SOURCE), judged, {"q"}, names)
    assert found.nodes["conv"] == ("refused", "rank")
    assert found.nodes["q"][0] == "stranded"
    assert found.nodes["gone"] == ("taken", MERGED)
    assert found == judge(list(SOURCE), dict(reversed(judged.items())), {"q"}, names)
    assert not found.others


def test_no_refusal_gets_lost() -> None:
    names = SourceNames(SOURCE, (SOURCE, TURNED))
    judged = {"lost": Judgement("Reshape", False, "no"), "conv_token_1": TAKEN}
    found = judge(list(SOURCE), judged, (), names)
    assert found.others == {"lost": ("Reshape", "no")}
    assert {verdict for verdict, _ in found.nodes.values()} == {"taken"}

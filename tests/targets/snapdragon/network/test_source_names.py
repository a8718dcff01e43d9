"""The way back from the provider's names to the model's nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelc.targets.snapdragon.network.source_names import SourceNames, Wiring, read_dumps

SOURCE = {
    "proj": Wiring(("e", "w"), ("mm",)),
    "bias": Wiring(("mm", "b"), ("a",)),
    "conv": Wiring(("a", "k"), ("c",)),
    "relu": Wiring(("c",), ("y",)),
}
# MatMul and Add became a Gemm between Reshapes, as ONNX Runtime does it.
FUSED = {
    "reshape_in": Wiring(("e", "s0"), ("r0",)),
    "proj/Fused": Wiring(("r0", "w", "b"), ("r1",)),
    "reshape_out": Wiring(("r1", "s1"), ("a",)),
    "conv": Wiring(("a", "k"), ("c",)),
    "relu": Wiring(("c",), ("y",)),
}
# Conv was turned channels-last: Transposes around it, and values under other names.
TURNED = {
    **{name: wiring for name, wiring in FUSED.items() if name not in ("conv", "relu")},
    "Transpose": Wiring(("a",), ("t",)),
    "conv_token_1": Wiring(("t", "k"), ("conv",)),
    "relu": Wiring(("conv",), ("relu",)),
    "Transpose_token_2": Wiring(("relu",), ("y",)),
}


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("relu", ("relu",)),
        ("conv_token_1", ("conv",)),
        ("proj/Fused", ("proj", "bias")),
        ("reshape_in", ("proj", "bias")),
        ("reshape_out", ("proj", "bias")),
        ("Transpose", ("conv",)),
        ("Transpose_token_2", ("relu",)),
        ("nowhere", ()),
    ],
)
def test_back(name: str, nodes: tuple[str, ...]) -> None:
    assert SourceNames(SOURCE, (FUSED, TURNED)).of(name) == nodes


def test_a_node_put_in_is_not_one_of_the_models_that_is_called_alike() -> None:
    source = {"Transpose": Wiring(("x",), ("a",)), "conv": Wiring(("a", "k"), ("y",))}
    turned = {
        "Transpose": Wiring(("x",), ("a",)),
        "Transpose_token_0": Wiring(("a",), ("t",)),
        "conv_token_1": Wiring(("t", "k"), ("conv",)),
        "Transpose_token_2": Wiring(("conv",), ("y",)),
    }
    names = SourceNames(source, (source, turned))
    assert names.of("Transpose") == ("Transpose",)
    assert names.of("Transpose_token_0") == ("conv",)
    assert names.of("Transpose_token_2") == ("conv",)


def test_without_dumps_names_alone_lead_back() -> None:
    names = SourceNames(SOURCE, ())
    assert names.of("conv_token_1") == ("conv",)
    assert names.of("Transpose") == ()


def test_a_circle_ends() -> None:
    circle = {"a": Wiring(("q",), ("p",)), "b": Wiring(("p",), ("q",))}
    assert SourceNames(SOURCE, (circle,)).of("a") == ()


def test_dumps_are_read_in_order(tmp_path: Path) -> None:
    for index in (10, 2):
        nodes = {f"n{index}": {"input_names": ["x"], "output_names": ["y"]}}
        path = tmp_path / f"main.{index}_qnn_ep_input_graph.json"
        path.write_text(json.dumps({"graph": {"nodes": nodes}}))
    wiring = Wiring(("x",), ("y",))
    assert read_dumps(tmp_path) == ({"n2": wiring}, {"n10": wiring})

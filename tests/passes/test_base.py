"""The runner's contract: what a pass may not do is caught, and the pass is named."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir
import pytest
from support.tiny_source import tiny_config, tiny_source

from modelc.decoder.builder import build_decoder
from modelc.errors import ModelcError
from modelc.ir.legality import Stage
from modelc.ir.provenance import set_module
from modelc.passes.base import Pass, run_passes


@dataclass(frozen=True)
class Canonical(Pass):
    """Takes and gives canonical graphs; does nothing."""

    name: ClassVar[str] = "nothing"
    before: ClassVar[Stage] = "canonical"
    after: ClassVar[Stage] = "canonical"

    def apply(self, model: ir.Model) -> ir.Model:
        return model


@dataclass(frozen=True)
class RenameLogits(Canonical):
    name: ClassVar[str] = "rename-logits"
    to: str = "scores"

    def apply(self, model: ir.Model) -> ir.Model:
        model.graph.outputs[0].name = self.to
        return model


@dataclass(frozen=True)
class AddNode(Canonical):
    """Adds one node that reads the logits."""

    name: ClassVar[str] = "add-node"
    operator: str = "Neg"
    module: str = "extra"
    output: str = "extra"
    first: bool = False

    def apply(self, model: ir.Model) -> ir.Model:
        logits = model.graph.outputs[0]
        node = ir.Node("", self.operator, [logits], name="extra", num_outputs=1)
        node.outputs[0].name = self.output
        set_module(node, self.module)
        if self.first:
            model.graph.insert_before(model.graph.node(0), node)
        else:
            model.graph.append(node)
        return model


@dataclass(frozen=True)
class WantsExpanded(Canonical):
    name: ClassVar[str] = "wants-expanded"
    before: ClassVar[Stage] = "expanded"


@pytest.fixture
def model() -> ir.Model:
    return build_decoder(tiny_source(tiny_config()), 16)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (AddNode(operator="Conv"), "operator Conv .extra. is not legal in canonical graphs"),
        (AddNode(module=""), "node extra .Neg. has lost its module"),
        (AddNode(output="model.norm"), "two tensors are named model.norm"),
        (AddNode(output="input_ids"), "two tensors are named input_ids"),
        (AddNode(first=True), "extra .Neg. reads logits before it is made"),
        (WantsExpanded(), "is not legal in expanded graphs"),
    ],
    ids=["operator", "module", "name", "name of an input", "order", "before"],
)
def test_a_broken_pass_is_named(broken: Pass, message: str, model: ir.Model) -> None:
    with pytest.raises(ModelcError, match=message) as caught:
        run_passes(model, [Canonical(), broken], graph="decoder")
    assert caught.value.where.step == f"{broken.name} (after nothing)"
    assert caught.value.where.graph == "decoder"


def test_an_illegal_operator_names_its_module(model: ir.Model) -> None:
    broken = AddNode(operator="Conv", module="model.layers.1.mlp")
    with pytest.raises(ModelcError) as caught:
        run_passes(model, [broken], graph="decoder")
    assert caught.value.where.module == "model.layers.1.mlp"


def test_records_say_what_each_pass_did(model: ir.Model) -> None:
    seen = []
    nodes = model.graph.num_nodes()
    _, records = run_passes(
        model, [Canonical(), RenameLogits(), AddNode()], graph="decoder", progress=seen.append
    )
    assert [(r.name, r.changed, r.nodes - nodes) for r in records] == [
        ("nothing", False, 0), ("rename-logits", True, 0), ("add-node", True, 1),
    ]  # fmt: skip
    assert seen == records


def test_the_text_after_each_pass_is_dumped(model: ir.Model, tmp_path: Path) -> None:
    broken = AddNode(operator="Conv")
    with pytest.raises(ModelcError):
        run_passes(model, [RenameLogits(), broken], graph="decoder", dump_dir=tmp_path / "ir")
    texts = {path.name: path.read_text() for path in (tmp_path / "ir").iterdir()}
    assert texts.keys() >= {"00_input.txt", "01_rename-logits.txt"}
    assert "%scores" in texts["01_rename-logits.txt"] and "%scores" not in texts["00_input.txt"]

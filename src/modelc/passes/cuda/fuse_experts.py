"""Mixtures of experts: routing, the experts' layers, and their weighed sum, as four operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.errors import ModelcError, Where
from modelc.ir.emit import Scope, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.ir.provenance import module_of
from modelc.passes.base import Pass
from modelc.passes.cpu.contrib import replace, scope_at
from modelc.passes.cpu.linears import Linear, SideBySide, linears
from modelc.passes.cuda.dialect import DOMAIN, import_dialect, made_by, nodes_of

_PROJECTIONS: Final = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class FuseExperts(Pass):
    """Canonical to cuda: what `decoder.experts` writes out becomes Route, ExpertLinear of all
    experts' gates and ups, ExpertLinear of their downs, and Combine."""

    name: ClassVar[str] = "fuse_experts"
    before: ClassVar[Stage] = "canonical"
    after: ClassVar[Stage] = "cuda"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        import_dialect(model)
        routers = [node for node in nodes_of(graph, "TopK") if made_by(node.inputs[0], "Softmax")]
        if not routers:
            return model
        by_module = {module_of(linear.nodes[0]): linear for linear in linears(graph)}
        results = {str(value.name): value for node in graph for value in node.outputs}
        for node in routers:
            module = module_of(node)
            result = results.get(f"{module}.routed", results.get(module))
            if result is None:
                raise ModelcError("experts are not written as in a canonical graph",
                                  where=Where(module=module))  # fmt: skip
            _fuse(graph, node, result, by_module)
        RemoveUnusedNodesPass()(model)
        return model


def _fuse(graph: ir.Graph, choice: ir.Node, result: ir.Value, by_module: dict[str, Linear]) -> None:
    module, scope = module_of(choice), scope_at(graph, choice)
    softmax = made_by(choice.inputs[0], "Softmax")
    assert softmax is not None
    logits, router = softmax.inputs[0], by_module[f"{module}.gate"]
    assert logits is not None
    count, used = _int(logits), _int(choice.outputs[1])
    highest = choice.outputs[0]
    normalise = any(node.op_type == "Div" for node in highest.consumers())
    dims = dims_of(router.x)

    ids = new_value(scope.path("ids"), ["tokens", used], ir.DataType.INT32)
    shares = new_value(scope.path("expert_shares"), ["tokens", used])
    sizes: dict[str, Any] = {"experts": count, "used": used}
    scope.emit_many(
        "Route", [logits], [ids, shares], domain=DOMAIN, normalise=int(normalise), **sizes
    )
    layers = [[by_module[f"{module}.experts.{n}.{which}"] for which in _PROJECTIONS]
              for n in range(count)]  # fmt: skip
    _refuse_biases([layer for expert in layers for layer in expert])
    wide = layers[0][0].width
    gates = _stacked(scope, [layer for gate, up, _ in layers for layer in (gate, up)], "gate+up")
    product = scope.emit(
        "ExpertLinear",
        [router.x, ids, gates],
        ["tokens", used, wide],
        "experts.product",
        domain=DOMAIN,
        activation=_activation(layers[0][0]),
        shared_input=1,
        **sizes,
    )
    downs = _stacked(scope, [down for _, _, down in layers], "down")
    each = scope.emit(
        "ExpertLinear", [product, ids, downs], ["tokens", used, dims[-1]], "experts.down",
        domain=DOMAIN, activation="none", shared_input=0, **sizes,
    )  # fmt: skip
    made = new_value(str(result.name), dims)
    scope.emit_many("Combine", [each, shares], [made], domain=DOMAIN, used=used)
    last = result.producer()
    assert last is not None
    # What is between is read by nobody any more, and goes.
    replace(graph, [last], scope, [result], [made])


def _stacked(scope: Scope, layers: list[Linear], name: str) -> ir.Value:
    """The rows of the layers' weights one below the other: expert after expert."""
    sources = [source for layer in layers for source in layer.matrices]
    return scope.tensor(SideBySide(sources, scope.path(f"experts.{name}.weight")))


def _activation(gate: Linear) -> str:
    for node in gate.result.consumers():
        if node.op_type == "Sigmoid":
            return "silu"
        if node.op_type == "Gelu":
            tanh = node.attributes.get_string("approximate", "none") == "tanh"
            return "gelu_tanh" if tanh else "gelu"
    raise ModelcError("a gate without activation", where=Where(module=module_of(gate.nodes[0])))


def _refuse_biases(layers: list[Linear]) -> None:
    for layer in layers:
        if layer.bias is not None:
            raise ModelcError(
                "no kernel adds an expert's bias",
                where=Where(module=module_of(layer.nodes[0])),
                hint="this model can't be compiled for CUDA",
            )


def _int(value: ir.Value) -> int:
    size = dims_of(value)[-1]
    assert isinstance(size, int)
    return size

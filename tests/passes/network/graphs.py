"""One small network for each pass, with what it is fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from support.network_graphs import Feeds, network, node, normal


@dataclass(frozen=True)
class Case:
    """A network and its inputs."""

    model: ir.Model
    feeds: Feeds


def _fold() -> Case:
    feeds = {"x": normal(2, 6)}
    nodes = [
        node("Shape", "x", "sizes"),
        node("Gather", "sizes first", "rows", axis=0),
        node("Concat", "rows three two", "wanted", axis=0),
        node("Reshape", "x wanted", "y"),
        node("Transpose", "weight", "turned"),
        node("MatMul", "y turned", "z"),
    ]
    constants = {
        "first": np.array([0]), "three": np.array([3]), "two": np.array([2]),
        "weight": normal(4, 2, seed=1),
    }  # fmt: skip
    return Case(network(nodes, feeds, "z", constants), feeds)


def _no_ops() -> Case:
    feeds = {"x": normal(1, 2, 3)}
    nodes = [
        node("Identity", "x", "a"),
        node("Dropout", "a", "b"),
        node("Cast", "b", "c", to=1),
        node("Add", "c zero", "d"),
        node("Transpose", "d", "e", perm=[1, 0, 2]),
        node("Relu", "e", "f"),
        node("Identity", "f", "y"),
        node("Identity", "x", "same"),
    ]
    return Case(network(nodes, feeds, "y same", {"zero": np.float32(0)}), feeds)


def _moves() -> Case:
    feeds = {"x": normal(2, 3, 4)}
    nodes = [
        node("Transpose", "x", "a", perm=[0, 2, 1]),
        node("Transpose", "a", "b", perm=[0, 2, 1]),
        node("Unsqueeze", "b axis", "c"),
        node("Reshape", "c wanted", "d"),
        node("Relu", "d", "e"),
        node("Transpose", "e", "f", perm=[1, 0]),
        node("Reshape", "f back", "y"),
    ]
    constants = {"axis": np.array([0]), "wanted": np.array([6, 4]), "back": np.array([2, 12])}
    return Case(network(nodes, feeds, "y", constants), feeds)


def _share() -> Case:
    feeds = {"x": normal(2, 3)}
    nodes = [
        node("Mul", "x two", "a"),
        node("Mul", "x also_two", "b"),
        node("Exp", "a", "c"),
        node("Exp", "b", "d"),
        node("Add", "c d", "y"),
    ]
    two = np.float32(2)
    return Case(network(nodes, feeds, "y", {"two": two, "also_two": two}), feeds)


def _dead() -> Case:
    feeds = {"x": normal(2, 3)}
    nodes = [node("Exp", "x", "a"), node("Mul", "a weight", "b"), node("Relu", "x", "y")]
    return Case(network(nodes, feeds, "y", {"weight": normal(3)}), feeds)


def _batch_norm() -> Case:
    feeds = {"x": normal(1, 4, 5, 5)}

    def norm(source: str, result: str, letter: str) -> tuple[object, dict[str, np.ndarray]]:
        names = [f"{letter}_{part}" for part in ("scale", "bias", "mean", "variance")]
        numbers = {name: normal(4, seed=i) for i, name in enumerate(names)}
        numbers[names[3]] = np.abs(numbers[names[3]]) + 0.5
        made = node("BatchNormalization", f"{source} {' '.join(names)}", result)
        return made, numbers

    first, numbers = norm("x", "a", "p")
    second, more = norm("b", "c", "q")
    third, others = norm("d", "y", "r")
    nodes = [
        first,
        node("Conv", "a kernel shift", "b", pads=[1, 1, 1, 1], group=2),
        second,
        node("ConvTranspose", "c wide", "d", group=2),
        third,
    ]
    kernels = {"kernel": normal(4, 2, 3, 3), "shift": normal(4, seed=9), "wide": normal(4, 2, 2, 2)}
    constants = {**numbers, **more, **others, **kernels}
    return Case(network(nodes, feeds, "y", constants), feeds)


def _norms() -> Case:
    feeds = {"x": normal(2, 3, 8)}
    nodes = [
        node("ReduceMean", "x last", "mean"),
        node("Sub", "x mean", "centred"),
        node("Pow", "centred two", "squares"),
        node("ReduceMean", "squares last", "variance"),
        node("Add", "variance epsilon", "shifted"),
        node("Sqrt", "shifted", "root"),
        node("Div", "centred root", "normal"),
        node("Mul", "normal scale", "scaled"),
        node("Add", "scaled bias", "layer"),
        node("Mul", "layer layer", "layer_squares"),
        node("ReduceMean", "layer_squares last", "layer_mean"),
        node("Add", "epsilon layer_mean", "layer_shifted"),
        node("Sqrt", "layer_shifted", "layer_root"),
        node("Reciprocal", "layer_root", "inverse"),
        node("Mul", "inverse layer", "unit"),
        node("Mul", "scale unit", "y"),
    ]
    constants = {
        "last": np.array([-1]), "two": np.float32(2), "epsilon": np.float32(1e-5),
        "scale": normal(8, seed=1), "bias": normal(8, seed=2),
    }  # fmt: skip
    return Case(network(nodes, feeds, "y", constants), feeds)


def _activations() -> Case:
    feeds = {"x": normal(2, 8)}
    nodes = [
        node("Div", "x root_two", "a"),
        node("Erf", "a", "b"),
        node("Add", "b one", "c"),
        node("Mul", "x c", "d"),
        node("Mul", "d half", "gelu"),
        node("Pow", "gelu three", "e"),
        node("Mul", "e cubic", "f"),
        node("Add", "gelu f", "g"),
        node("Mul", "g root", "h"),
        node("Tanh", "h", "i"),
        node("Add", "one i", "j"),
        node("Mul", "half gelu", "k"),
        node("Mul", "k j", "tanh_gelu"),
        node("HardSigmoid", "tanh_gelu", "l", alpha=1 / 6, beta=0.5),
        node("Mul", "tanh_gelu l", "swish"),
        node("Softplus", "swish", "m"),
        node("Tanh", "m", "n"),
        node("Mul", "swish n", "y"),
    ]
    constants = {
        "root_two": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5),
        "three": np.float32(3), "cubic": np.float32(0.044715),
        "root": np.float32((2 / np.pi) ** 0.5),
    }  # fmt: skip
    return Case(network(nodes, feeds, "y", constants), feeds)


def _clips() -> Case:
    feeds = {"x": normal(2, 6), "z": normal(2, 6, seed=1)}
    nodes = [
        node("Min", "x high", "a"),
        node("Max", "low a", "b"),
        node("Max", "z low", "c"),
        node("Min", "c high", "d"),
        node("Min", "z low", "e"),
        node("Max", "e high", "turned"),
        node("Max", "x z", "other"),
    ]
    constants = {"high": np.float32(0.5), "low": np.array([-0.25], np.float32)}
    return Case(network(nodes, feeds, "b d turned other", constants), feeds)


def _masks() -> Case:
    feeds = {"x": normal(1, 2, 4, 4), "mask": np.array([[[[1, 1, 1, 0]]]], np.float32)}
    nodes = [
        node("Sub", "one mask", "hidden"),
        node("Mul", "hidden lowest", "bias"),
        node("Add", "x bias", "scores"),
        node("Softmax", "scores", "chances", axis=-1),
        node("IsNaN", "chances", "nothing"),
        node("Where", "nothing zero chances", "y"),
    ]
    constants = {
        "one": np.float32(1), "zero": np.float32(0), "lowest": np.finfo(np.float32).min,
    }  # fmt: skip
    return Case(network(nodes, feeds, "y", constants), feeds)


def _tanh() -> Case:
    feeds = {"x": normal(2, 4)}
    nodes = [
        node("MatMul", "x w", "m"),
        node("Tanh", "m", "a"),
        node("Relu", "x", "r"),
        node("Tanh", "r", "b"),
    ]
    return Case(network(nodes, feeds, "a b", {"w": 20 * normal(4, 3, seed=1)}), feeds)


def _decompose() -> Case:
    feeds = {"x": normal(1, 2, 4, 4)}
    nodes = [
        node("Trilu", "x", "a", upper=0),
        node("Erf", "a", "b"),
        node("AveragePool", "b", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Einsum", "c x", "d", equation="bcij,bcjk->bik"),
        node("ReduceL1", "d last", "y", keepdims=0),
    ]
    return Case(network(nodes, feeds, "y", {"last": np.array([-1])}), feeds)


def _rank() -> Case:
    feeds = {"x": normal(1, 4, 6, 5)}
    nodes = [
        node("Reshape", "x windows", "a"),
        node("Add", "a shift", "b"),
        node("Transpose", "b", "c", perm=[0, 1, 3, 2, 4, 5]),
        node("Softmax", "c", "d", axis=-1),
        node("Reshape", "d flat", "y"),
    ]
    constants = {
        "windows": np.array([1, 2, 2, 3, 2, 5]), "flat": np.array([4, 6, 5]),
        "shift": normal(2, 5),
    }  # fmt: skip
    return Case(network(nodes, feeds, "y", constants), feeds)


CASES: Mapping[str, Callable[[], Case]] = {
    "fold_constants": _fold,
    "remove_no_ops": _no_ops,
    "merge_moves": _moves,
    "share_results": _share,
    "remove_dead_code": _dead,
    "fuse_batch_norm": _batch_norm,
    "fuse_norms": _norms,
    "fuse_clips": _clips,
    "fuse_activations": _activations,
    "bound_masks": _masks,
    "decompose_operators": _decompose,
    "guard_tanh": _tanh,
    "reduce_rank": _rank,
}
"""By the name of the pass."""

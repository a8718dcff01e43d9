"""Linear layers against PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from support.cuda_kernels import close, is_worth_compiling, reference_of, run_both, variant_of

from modelc.targets.cuda.aot import ARCHES, compile_variants
from modelc.targets.cuda.kernel import Tile
from modelc.targets.cuda.kernel_table import KERNELS

SHARED = {80: 163, 89: 99, 90: 227, 100: 227}
"""KB of shared memory that a block can have."""

BOTH = [torch.float16, torch.bfloat16]
GEMM = Tile({"BLOCK_M": 16, "BLOCK_N": 32, "BLOCK_K": 64, "GROUP_M": 2})
FEW = Tile({"BLOCK_N": 16, "BLOCK_K": 128, "SPLIT": 2})
FP8_FEW = Tile({"BLOCK_N": 16, "SPLIT": 2})

Given = dict[str, torch.Tensor | None]


def weight_rows(outputs: int, activation: str) -> int:
    return outputs if activation == "none" else 2 * outputs


def common(
    tokens: int, n: int, activation: str, act: torch.dtype, *, bias: bool, fp32: bool = False
) -> Given:
    return {
        "bias": torch.randn(weight_rows(n, activation)) if bias else None,
        "out": torch.full((tokens, n), torch.nan, dtype=torch.float32 if fp32 else act),
    }


def in_16_bits(tokens: int, n: int, k: int, activation: str, act: torch.dtype) -> Given:
    torch.manual_seed(0)
    w = torch.randn(weight_rows(n, activation), k) / k**0.5
    return {"x": torch.randn(tokens, k).to(act), "w": w.to(act)}


def in_4_bits(tokens: int, n: int, k: int, activation: str, act: torch.dtype, group: int) -> Given:
    """Symmetric in groups of 32, with zero points in others."""
    torch.manual_seed(0)
    rows = weight_rows(n, activation)
    scales = (torch.rand(rows, k // group) + 0.5) / (5 * k**0.5)
    return {
        "x": torch.randn(tokens, k).to(act),
        "codes": torch.randint(0, 256, (rows, k // 2), dtype=torch.uint8),
        "scales": scales.half(),
        "zeros": None if group == 32 else torch.randint(0, 16, scales.shape, dtype=torch.uint8),
    }


def in_8_bits(
    tokens: int, n: int, k: int, activation: str, act: torch.dtype | None, *, blocked: bool
) -> Given:
    """With activations in e4m3 as well, unless there is another type for them."""
    torch.manual_seed(0)
    rows, deep = weight_rows(n, activation), -(-k // 128)
    x = torch.randn(tokens, k)
    given: Given = {"x": x.to(act or torch.float8_e4m3fn)}
    if act is None:
        given["x_scales"] = torch.rand(tokens, deep) + 0.5 if blocked else torch.rand(tokens) + 0.5
    given["w"] = torch.randn(rows, k).to(torch.float8_e4m3fn)
    shape = (-(-rows // 128), deep) if blocked else (rows,)
    given["scales"] = (torch.rand(shape) + 0.5) / k**0.5
    return given


def hold(
    name: str, given: Given, constants: Mapping[str, Any], tokens: int, tile: Tile | None
) -> None:
    """The kernel writes what its reference does."""
    kernel, reference = run_both(name, given, constants, {"tokens": tokens}, tile)
    fp32 = reference["out"].dtype == torch.float32
    close(kernel["out"], reference["out"], 1e-4 if fp32 else 0.01)


@pytest.mark.parametrize("act", BOTH)
@pytest.mark.parametrize(
    ("tokens", "n", "k", "activation"),
    [(1, 48, 64, "none"), (19, 40, 100, "silu"), (17, 35, 80, "gelu"), (3, 16, 64, "gelu_tanh")],
)
def test_linear(tokens: int, n: int, k: int, activation: str, act: torch.dtype) -> None:
    given = in_16_bits(tokens, n, k, activation, act)
    given |= common(tokens, n, activation, act, bias=tokens != 1, fp32=tokens in (3, 17))
    hold("linear", given, {"N": n, "K": k, "activation": activation}, tokens, GEMM)


@pytest.mark.parametrize("act", BOTH)
@pytest.mark.parametrize(("most", "tokens"), [(1, 1), (1, 2), (2, 2), (4, 3), (16, 17)])
@pytest.mark.parametrize(("n", "k", "activation"), [(40, 100, "none"), (9, 256, "silu")])
def test_linear_few(
    most: int, tokens: int, n: int, k: int, activation: str, act: torch.dtype
) -> None:
    given = in_16_bits(tokens, n, k, activation, act)
    given |= common(tokens, n, activation, act, bias=most != 2)
    constants = {"N": n, "K": k, "activation": activation, "most": most}
    hold("linear_few", given, constants, tokens, FEW)


@pytest.mark.parametrize("act", BOTH)
@pytest.mark.parametrize("swap", [0, 1])
@pytest.mark.parametrize(
    ("tokens", "n", "k", "activation", "group"),
    [(19, 40, 288, "none", 32), (2, 9, 256, "silu", 32), (18, 20, 384, "silu", 128)],
)
def test_int4_linear(
    tokens: int, n: int, k: int, activation: str, group: int, swap: int, act: torch.dtype
) -> None:
    given = in_4_bits(tokens, n, k, activation, act, group)
    given |= common(tokens, n, activation, act, bias=swap == 1)
    constants = {"N": n, "K": k, "activation": activation, "group": group}
    tile = Tile({**GEMM.values, "BLOCK_K": 128, "SWAP": swap})
    hold("int4_linear", given, constants, tokens, tile)


@pytest.mark.parametrize("act", BOTH)
@pytest.mark.parametrize(("most", "tokens"), [(1, 1), (8, 5)])
@pytest.mark.parametrize(
    ("n", "k", "activation", "group"),
    [(20, 544, "none", 32), (9, 512, "silu", 32), (20, 640, "gelu", 128)],
)
def test_int4_linear_few(
    most: int, tokens: int, n: int, k: int, activation: str, group: int, act: torch.dtype
) -> None:
    given = in_4_bits(tokens, n, k, activation, act, group)
    given |= common(tokens, n, activation, act, bias=group == 32)
    constants = {"N": n, "K": k, "activation": activation, "group": group, "most": most}
    tile = Tile({"BLOCK_N": 16, "BLOCK_K": 256, "SPLIT": 2})
    hold("int4_linear_few", given, constants, tokens, tile)


@pytest.mark.parametrize("act", BOTH)
@pytest.mark.parametrize(
    ("tokens", "n", "k", "activation"),
    [(3, 150, 130, "none"), (2, 144, 256, "silu"), (18, 40, 130, "silu")],
)
def test_fp8_block_linear(tokens: int, n: int, k: int, activation: str, act: torch.dtype) -> None:
    given = in_8_bits(tokens, n, k, activation, None, blocked=True)
    given |= common(tokens, n, activation, act, bias=n != 144)
    tile = Tile({"BLOCK_M": 16, "BLOCK_N": 32, "GROUP_M": 2})
    constants = {"N": n, "K": k, "activation": activation}
    hold("fp8_block_linear", given, constants, tokens, tile)


@pytest.mark.parametrize("act", BOTH)
@pytest.mark.parametrize(
    ("tokens", "n", "k", "activation"), [(19, 40, 288, "none"), (2, 90, 130, "silu")]
)
def test_fp8_linear(tokens: int, n: int, k: int, activation: str, act: torch.dtype) -> None:
    given = in_8_bits(tokens, n, k, activation, None, blocked=False)
    given |= common(tokens, n, activation, act, bias=n != 40)
    hold("fp8_linear", given, {"N": n, "K": k, "activation": activation}, tokens, GEMM)


@pytest.mark.parametrize("act", BOTH)
@pytest.mark.parametrize("kind", ["fp8_linear_few", "fp8_block_linear_few"])
@pytest.mark.parametrize(("most", "tokens"), [(1, 1), (4, 3)])
@pytest.mark.parametrize(("n", "k", "activation"), [(20, 400, "none"), (70, 256, "silu")])
def test_fp8_few(
    kind: str, most: int, tokens: int, n: int, k: int, activation: str, act: torch.dtype
) -> None:
    given = in_8_bits(tokens, n, k, activation, act, blocked="block" in kind)
    given |= common(tokens, n, activation, act, bias=most == 4)
    constants = {"N": n, "K": k, "activation": activation, "most": most}
    hold(kind, given, constants, tokens, FP8_FEW)


@pytest.mark.parametrize("act", BOTH)
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize(("width", "group"), [(300, 128), (256, 128), (100, 100)])
def test_quantise_fp8(width: int, group: int, static: bool, act: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, width) * 3
    x[1, :group] = 0
    given = {
        "x": x.to(act),
        "static_scale": torch.tensor([0.01]) if static else None,
        "out": torch.ones(3, width).to(torch.float8_e4m3fn),
        "scales": torch.full((3, -(-width // group)), torch.nan),
    }
    constants = {"width": width, "group": group}
    kernel, reference = run_both("quantise_fp8", given, constants, {"tokens": 3})
    close(kernel["scales"], reference["scales"], 1e-6)
    codes = [each["out"].view(torch.uint8).int() for each in (kernel, reference)]
    assert (codes[0] - codes[1]).abs().max() <= 1  # x / scale may round to either side
    assert (codes[0] != codes[1]).float().mean() < 0.01
    wide = reference["scales"].repeat_interleave(group, -1)[:, :width]
    largest = 448 * wide
    off = (reference["out"].float() * wide - given["x"].float().clamp(-largest, largest)).abs()
    assert (off <= given["x"].float().abs() / 16 + wide * 2**-10).all()
    if not static:
        theirs = given["x"].float().split(group, -1)[0].abs().amax(-1) / 448
        assert torch.equal(reference["scales"][[0, 2], 0], theirs[[0, 2]])
        assert reference["scales"][1, 0] == 1


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
def test_gated_reference_is_what_its_formula_says(activation: str) -> None:
    given = in_16_bits(5, 24, 64, activation, torch.float16)
    given |= common(5, 24, activation, torch.float16, bias=True, fp32=True)
    reference_of("linear")(**given, N=24, K=64, activation=activation)
    x, w, bias = given["x"].double(), given["w"].double(), given["bias"].double()
    gate = torch.nn.functional.linear(x, w[:24], bias[:24])
    up = torch.nn.functional.linear(x, w[24:], bias[24:])
    inner = (2 / torch.pi) ** 0.5 * (gate + 0.044715 * gate**3)
    shares = {
        "silu": 1 / (1 + torch.exp(-gate)),
        "gelu": (1 + torch.erf(gate / 2**0.5)) / 2,
        "gelu_tanh": (1 + torch.tanh(inner)) / 2,
    }
    close(given["out"], gate * shares[activation] * up, 1e-5)


def test_int4_reference_is_what_codes_stand_for() -> None:
    """Codes of known values: by hand, not by what decodes them."""
    codes = torch.arange(64).reshape(1, 64) % 16
    packed = torch.stack([group[:16] | (group[16:] << 4) for group in codes.reshape(2, 32)])
    out = torch.empty(64, 1)
    reference_of("int4_linear")(
        x=torch.eye(64), codes=packed.reshape(1, 32).to(torch.uint8),
        scales=torch.tensor([[0.5, 2.0]]).half(), zeros=None, bias=None, out=out,
        N=1, K=64, activation="none", group=32,
    )  # fmt: skip
    by_hand = (codes[0] - 8) * torch.tensor([0.5] * 32 + [2.0] * 32)
    assert torch.equal(out[:, 0], by_hand)


def test_fp8_reference_scales_blocks() -> None:
    given = in_8_bits(4, 150, 200, "none", torch.float16, blocked=True)
    out = torch.empty(4, 150)
    reference_of("fp8_block_linear_few")(
        **given, bias=None, out=out, N=150, K=200, activation="none", most=4
    )
    wide = torch.kron(given["scales"], torch.ones(128, 128))[:150, :200]
    close(out, given["x"].float() @ (given["w"].float() * wide).T, 1e-5)


def realistic() -> list[tuple[str, Given, dict[str, Any]]]:
    """Each kernel with tensors whose types count, and constants; each tile has its case."""
    bf16 = torch.bfloat16
    ends = common(1, 1, "none", bf16, bias=True)
    wide = {"N": 14336, "K": 4096, "activation": "silu"}
    narrow = {"N": 4096, "K": 2880, "activation": "none"}
    one, most = {"most": 1}, {"most": 16}
    whole = in_16_bits(1, 1, 8, "none", bf16)
    group_32, group_128 = (in_4_bits(1, 1, 128, "none", bf16, group) for group in (32, 128))
    e4m3 = in_8_bits(1, 1, 8, "none", None, blocked=True)
    weight_e4m3 = in_8_bits(1, 1, 8, "none", bf16, blocked=True)
    quantised = {
        "x": torch.ones(1).to(bf16),
        "out": torch.ones(1).to(torch.float8_e4m3fn),
        "scales": torch.ones(1),
    }
    return [
        ("linear", whole | ends, wide),
        ("linear_few", whole | ends, wide | most),
        ("linear_few", whole | ends, narrow | one),
        ("int4_linear", group_128 | ends, wide | {"group": 128}),
        ("int4_linear_few", group_32 | ends, narrow | most | {"group": 32}),
        ("int4_linear_few", group_128 | ends, wide | one | {"group": 128}),
        ("fp8_block_linear", e4m3 | ends, wide),
        ("fp8_block_linear_few", weight_e4m3 | ends, narrow | one),
        ("fp8_linear", e4m3 | ends, narrow),
        ("fp8_linear_few", weight_e4m3 | ends, wide | most),
        ("quantise_fp8", quantised, {"width": 14336, "group": 128}),
    ]


@pytest.mark.parametrize("arch", ARCHES)
def test_linear_layers_compile_for_every_architecture(arch: int, tmp_path: Path) -> None:
    variants = [
        variant_of(name, given, constants, KERNELS[name].tile(constants, arch))
        for name, given, constants in realistic()
        if is_worth_compiling(name, constants, arch)
    ]
    cubins = compile_variants(variants, arch, tmp_path, workdir=tmp_path)
    for variant in variants:
        cubin = cubins[variant.key]
        assert cubin.path.read_bytes()[:4] == b"\x7fELF"
        assert cubin.shared <= SHARED[arch] * 1024, variant.document()
        assert cubin.scratch == 0

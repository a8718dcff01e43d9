"""Kernels of mixtures of experts against transformers' routers and plain loops over experts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.cuda_kernels import close, is_worth_compiling, reference_of, run_both
from support.experts import Given, chosen, empty_order, plain_experts
from transformers.models.mixtral.modeling_mixtral import MixtralConfig, MixtralTopKRouter
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeConfig, Qwen3MoeTopKRouter

from modelc.targets.cuda.aot import ARCHES, compile_variants
from modelc.targets.cuda.gpus import SHARED_BYTES
from modelc.targets.cuda.kernel import Tile, power_of_two
from modelc.targets.cuda.kernel_table import KERNELS
from modelc.targets.cuda.rows.experts import EXPERTS, takes_few, tile_rows, tiles_extent
from modelc.targets.cuda.variant import Variant

ACTS = [torch.float16, torch.bfloat16]
# act, tokens, used, experts, block, activation, shared_input, N, K: experts without pairs, tiles
# that are not full, shapes that no tile divides, blocks of scales that gate and up share.
CASES = [
    (torch.bfloat16, 1, 2, 4, 16, "silu", True, 72, 64),
    (torch.float16, 13, 2, 3, 16, "none", False, 136, 96),
    (torch.bfloat16, 3, 2, 4, 32, "gelu_tanh", False, 128, 160),
]
FORMS = ["plain", "int4", "int4_zeros", "fp8", "fp8_block"]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def routed(logits: torch.Tensor, used: int, normalise: bool) -> dict[str, torch.Tensor]:
    tokens, experts = logits.shape
    given = {
        "logits": logits,
        "ids": torch.full((tokens, used), 77, dtype=torch.int32),
        "shares": torch.full((tokens, used), torch.nan),
    }
    constants = {"experts": experts, "used": used, "normalise": normalise}
    kernel, reference = run_both("route", given, constants, {"tokens": tokens})
    assert torch.equal(kernel["ids"], reference["ids"])
    torch.testing.assert_close(kernel["shares"], reference["shares"], equal_nan=True)
    return kernel


def router_of(model: str, experts: int, used: int, normalise: bool) -> Any:
    if model == "mixtral":
        config = MixtralConfig(hidden_size=32, num_local_experts=experts, num_experts_per_tok=used)
        router: Any = MixtralTopKRouter(config)
    else:
        settings: dict[str, Any] = {"num_experts_per_tok": used, "norm_topk_prob": normalise}
        router = Qwen3MoeTopKRouter(Qwen3MoeConfig(hidden_size=32, num_experts=experts, **settings))
    torch.nn.init.normal_(router.weight)
    return router


@pytest.mark.parametrize(
    ("model", "experts", "used", "normalise"),
    [("mixtral", 8, 2, True), ("qwen", 128, 8, True), ("qwen", 60, 4, False)],
)
def test_route_is_that_of_transformers(
    model: str, experts: int, used: int, normalise: bool
) -> None:
    with torch.no_grad():
        logits, shares, ids = router_of(model, experts, used, normalise)(torch.randn(5, 32))
    kernel = routed(logits, used, normalise)
    assert torch.equal(kernel["ids"].long(), ids)
    torch.testing.assert_close(kernel["shares"], shares)


def test_route_takes_the_lower_of_equals() -> None:
    kernel = routed(torch.tensor([[1.0, 2.0, 2.0, 1.0, 2.0, 0.0]]), 4, True)
    assert kernel["ids"].tolist() == [[1, 2, 4, 0]]


def test_route_gives_experts_that_exist_whatever_the_logits() -> None:
    nan, inf = float("nan"), float("inf")
    logits = torch.tensor([[nan] * 5, [-inf] * 5, [inf] * 5, [nan, 1, nan, inf, nan]])
    for row in routed(logits, 4, True)["ids"].tolist():
        assert len(set(row)) == 4 and set(row) <= set(range(5))


@pytest.mark.parametrize("how", ["random", "same"])
@pytest.mark.parametrize(
    ("tokens", "used", "experts", "block", "chunk"),
    [(1, 2, 8, 16, 128), (5, 4, 12, 16, 128), (150, 2, 3, 32, 128)],
)
def test_group_pairs(
    how: str, tokens: int, used: int, experts: int, block: int, chunk: int
) -> None:
    constants = {"experts": experts, "used": used, "block": block}
    ids = chosen(tokens, used, experts, how)
    given = {"ids": ids, **empty_order(tokens, constants)}
    tile = Tile({"CHUNK": chunk, "EXPERTS": power_of_two(experts)})
    kernel, reference = run_both("group_pairs", given, constants, {"tokens": tokens}, tile)
    assert torch.equal(kernel["order"], reference["order"])
    assert torch.equal(kernel["tile_expert"], reference["tile_expert"])

    order = kernel["order"].view(-1, block)
    pairs = order[order >= 0].long()
    assert torch.equal(pairs, ids.flatten().argsort(stable=True))
    owners = kernel["tile_expert"][:, None].expand_as(order)[order >= 0]
    assert torch.equal(owners, ids.flatten()[pairs])


def test_group_pairs_of_a_long_prompt() -> None:
    constants = {"experts": 8, "used": 8, "block": 128}
    ids = chosen(8192, 8, 8)
    given = {"ids": ids, **empty_order(8192, constants)}
    tile = Tile({"CHUNK": 32768, "EXPERTS": 8})
    kernel, _ = run_both("group_pairs", given, constants, {"tokens": 8192}, tile)
    order = kernel["order"]
    assert torch.equal(order[order >= 0].long(), ids.flatten().argsort(stable=True))


def test_tiles_suffice_whatever_experts_are_chosen() -> None:
    for tokens, used, experts, block in [(1, 1, 1, 16), (17, 2, 3, 16), (33, 4, 60, 16)]:
        room = tiles_extent(used, experts, block).of({"tokens": tokens})
        pairs = tokens * used
        # As many tiles as can be: one pair in each, then whole tiles of the rest.
        started = min(pairs, experts)
        assert started + (pairs - started) // block <= room


@pytest.mark.parametrize(
    ("tokens", "used", "experts", "rows"),
    [(1, 2, 8, 16), (100, 2, 8, 32), (1024, 8, 128, 64), (4096, 2, 8, 128)],
)
def test_tiles_are_as_high_as_what_an_expert_gets(
    tokens: int, used: int, experts: int, rows: int
) -> None:
    assert tile_rows(tokens, used, experts) == rows


def test_few_tokens_take_kernels_of_their_own_unless_they_share_experts() -> None:
    assert takes_few(1, 8, 2) and takes_few(8, 2, 8) and takes_few(16, 8, 128)
    assert not takes_few(9, 2, 8) and not takes_few(17, 8, 128)


def weights_of(form: str, rows: int, K: int, group: int) -> tuple[dict[str, Any], torch.Tensor]:
    """Weights as a kernel takes them, and what they stand for, [rows, K], decoded one by one."""
    if form == "plain":
        w = torch.randn(rows, K)
        return {"w": w}, w
    if form.startswith("int4"):
        codes = torch.randint(0, 16, (rows, K), dtype=torch.uint8)
        scales = torch.rand(rows, K // group).add(0.5).mul(0.1).half()
        zeros = (
            torch.randint(0, 16, scales.shape, dtype=torch.uint8) if form == "int4_zeros" else None
        )
        packed = torch.zeros(rows, K // 2, dtype=torch.uint8)
        decoded = torch.zeros(rows, K)
        for column in range(K):
            index, within = divmod(column, group)
            byte = index * (group // 2) + within % (group // 2)
            packed[:, byte] |= codes[:, column] << (4 if within >= group // 2 else 0)
            zero = 8 if zeros is None else zeros[:, index].float()
            decoded[:, column] = (codes[:, column].float() - zero) * scales[:, index].float()
        return {"codes": packed, "scales": scales, "zeros": zeros}, decoded
    w = torch.randn(rows, K).to(torch.float8_e4m3fn)
    scales = torch.rand(rows) + 0.5
    return {"w": w, "scales": scales}, w.float() * scales[:, None]


def fp8_blocks(rows: int, K: int, height: int) -> tuple[dict[str, Any], torch.Tensor]:
    """Like `weights_of`, with a scale for each 128 x 128 of each expert."""
    w = torch.randn(rows, K).to(torch.float8_e4m3fn)
    down, across = -(-height // 128), -(-K // 128)
    scales = torch.rand(rows // height * down, across) + 0.5
    row, column = torch.arange(rows)[:, None], torch.arange(K)[None, :]
    decoded = w.float() * scales[row // height * down + row % height // 128, column // 128]
    return {"w": w, "scales": scales}, decoded


def rows_of(form: str, count: int, K: int, act: torch.dtype) -> tuple[dict[str, Any], torch.Tensor]:
    """Rows as a grouped kernel takes them, and what they stand for."""
    if not form.startswith("fp8"):
        x = torch.randn(count, K).to(act)
        return {"x": x}, x.float()
    x = torch.randn(count, K).to(torch.float8_e4m3fn)
    if form == "fp8":
        scales = torch.rand(count) + 0.5
        return {"x": x, "x_scales": scales}, x.float() * scales[:, None]
    scales = torch.rand(count, -(-K // 128)) + 0.5
    return {"x": x, "x_scales": scales}, x.float() * scales[:, torch.arange(K) // 128]


def kernel_name(form: str) -> str:
    names = {"plain": "expert_linear", "int4_zeros": "expert_int4_linear"}
    return names.get(form, f"expert_{form}_linear")


def case(
    form: str,
    few: bool,
    ids: torch.Tensor,
    constants: dict[str, Any],
    act: torch.dtype,
) -> tuple[Given, torch.Tensor]:
    """Tensors of a launch, and what `plain_experts` says that it gives."""
    N, K, experts = constants["N"], constants["K"], constants["experts"]
    height = N if constants["activation"] == "none" else 2 * N
    if form == "fp8_block":
        weights, decoded = fp8_blocks(experts * height, K, height)
    else:
        weights, decoded = weights_of(form, experts * height, K, constants.get("group", K))
    if form == "plain":
        weights["w"] = decoded = decoded.to(act)
    count = len(ids) if constants["shared_input"] else ids.numel()
    rows, x = rows_of("plain" if few else form, count, K, act)
    given = {**rows, **weights, "out": torch.full((ids.numel(), N), torch.nan, dtype=act)}
    if few:
        given["ids"] = ids
    else:
        given |= empty_order(len(ids), constants)
        grouping = {name: constants[name] for name in ("experts", "used", "block")}
        reference_of("group_pairs")(
            ids=ids, order=given["order"], tile_expert=given["tile_expert"], **grouping
        )
    return given, plain_experts(x, decoded.view(experts, height, K), ids, constants)


def check(form: str, few: bool, ids: torch.Tensor, act: torch.dtype, **given: Any) -> None:
    constants = {**given, "used": ids.shape[1], "group": 32}
    tensors, expected = case(form, few, ids, constants, act)
    name = kernel_name(form) + ("_few" if few else "")
    constants = {key: constants[key] for key in KERNELS[name].constants}
    # Less than the shapes here, so that no program has all of a row.
    values = {"BLOCK_N": 128, "BLOCK_K": 128 if "fp8" in form else 64, "GROUP": 2}
    values["GROUPS"] = 4 if few else 1
    tile = Tile({key: values[key] for key in KERNELS[name].tile_names})
    kernel, reference = run_both(name, tensors, constants, {"tokens": len(ids)}, tile)
    close(reference["out"], expected, 0.01)
    # The interpreter cuts bfloat16 off where a GPU rounds it: 4-bit weights are all off one way.
    cut = act == torch.bfloat16 and form.startswith("int4")
    close(kernel["out"], reference["out"], 0.02 if cut else 0.01)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize(
    ("act", "tokens", "used", "experts", "block", "activation", "shared_input", "N", "K"), CASES
)
def test_products_are_those_of_a_loop_over_experts(
    act: torch.dtype, tokens: int, used: int, experts: int, block: int, activation: str,
    shared_input: bool, N: int, K: int, few: bool, form: str,
) -> None:  # fmt: skip
    ids = chosen(min(tokens, 2) if few else tokens, used, experts)
    shape = {"experts": experts, "block": block, "N": N, "K": K}
    check(form, few, ids, act, **shape, activation=activation, shared_input=shared_input)


@pytest.mark.parametrize("form", FORMS)
def test_all_pairs_may_choose_one_expert(form: str) -> None:
    shape = {"experts": 4, "block": 16, "N": 40, "K": 32}
    ids = chosen(37, 1, 4, "same")
    check(form, False, ids, torch.float16, **shape, activation="silu", shared_input=True)


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
def test_gates(activation: str) -> None:
    shape = {"experts": 2, "block": 16, "N": 16, "K": 32}
    ids = chosen(2, 1, 2)
    check("plain", True, ids, torch.float16, **shape, activation=activation, shared_input=True)


def test_several_groups_at_a_time() -> None:
    shape = {"N": 16, "K": 192, "group": 32, "used": 1, "activation": "silu", "shared_input": True}
    grouping = {"experts": 2, "block": 16}
    for few, constants in [(False, {**shape, **grouping}), (True, shape)]:
        tensors, _ = case("int4_zeros", few, chosen(2, 1, 2), {**shape, **grouping}, torch.float16)
        name = "expert_int4_linear" + ("_few" if few else "")
        tile = {"BLOCK_N": 16, "GROUPS": 4 if few else 2, "GROUP": 2}
        tile = {key: tile[key] for key in KERNELS[name].tile_names}
        kernel, reference = run_both(name, tensors, constants, {"tokens": 2}, Tile(tile))
        close(kernel["out"], reference["out"], 0.01)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("tokens", "used", "width"), [(1, 2, 100), (3, 8, 256)])
def test_combine(tokens: int, used: int, width: int, act: torch.dtype) -> None:
    given = {
        "y": torch.randn(tokens * used, width).to(act),
        "shares": torch.rand(tokens, used),
        "out": torch.full((tokens, width), torch.nan, dtype=act),
    }
    constants, tile = {"used": used, "width": width}, Tile({"BLOCK": 128})
    kernel, reference = run_both("combine", given, constants, {"tokens": tokens}, tile)
    close(kernel["out"], reference["out"], 0.01)
    theirs = torch.einsum("tu,tuw->tw", given["shares"], given["y"].float().view(-1, used, width))
    close(reference["out"], theirs, 0.01)


def realistic(name: str, arch: int) -> Variant:
    """A kernel as it is launched for Qwen3's 128 experts."""
    values: dict[str, Any] = {
        "experts": 128, "used": 8, "normalise": True, "width": 2048, "N": 768, "K": 2048,
        "group": 128, "block": 128 if name == "expert_linear" else 16, "activation": "silu",
        "shared_input": True,
    }  # fmt: skip
    row = KERNELS[name]
    constants = {key: values[key] for key in row.constants}
    types = {tensor.name: tensor.type.replace("act", "bf16") for tensor in row.tensors}
    return Variant(name, types, constants, row.tile(constants, arch))


@pytest.mark.parametrize("arch", ARCHES)
def test_experts_compile(arch: int, tmp_path: Path) -> None:
    all_kernels = [realistic(row.name, arch) for row in EXPERTS if arch >= row.since]
    variants = [v for v in all_kernels if is_worth_compiling(v.kernel, v.constants, arch)]
    cubins = compile_variants(variants, arch, tmp_path, workdir=tmp_path)
    for variant in variants:
        cubin = cubins[variant.key]
        assert cubin.path.read_bytes()[:4] == b"\x7fELF"
        assert cubin.shared <= SHARED_BYTES[arch], variant.kernel

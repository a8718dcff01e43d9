"""Sampling against the sampler of the other targets, and transformers' distributions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.cuda_kernels import compile_at_ends, reference_of, run_both, variant_of
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from modelc.targets.cuda.interpret import interpret
from modelc.targets.cuda.kernel import Tile
from modelc.targets.cuda.kernel_table import KERNELS
from modelc.targets.cuda.rows.sampling import BINS, PART
from modelc.targets.runtime import Sampling
from modelc.targets.sampling import Sampler

HISTORY = [3, 7, 7, 11]

OPTIONS = [
    Sampling(temperature=1.0),
    Sampling(temperature=1.0, top_k=5),
    Sampling(temperature=0.7, top_p=0.8),
    Sampling(temperature=0.02, top_k=50),
    Sampling(temperature=1.3, top_k=12, top_p=0.9, repetition_penalty=1.4),
    Sampling(temperature=40.0, top_p=0.99),
]


def tensors(
    logits: torch.Tensor, options: Sampling, draws: torch.Tensor, part: int, bins: int
) -> dict[str, Any]:
    """All that the four kernels take; every row has the same options."""
    rows, vocab = logits.shape
    parts = -(-vocab // part)
    seen = torch.zeros(rows, vocab, dtype=torch.uint8)
    seen[:, [token for token in HISTORY if token < vocab]] = 1

    def garbage(width: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
        return torch.full((rows, width), 77, dtype=dtype)

    return {
        "logits": logits.contiguous(),
        "penalty": torch.full((rows,), options.repetition_penalty),
        "seen": seen,
        "temperature": torch.full((rows,), options.temperature),
        "top_k": torch.full((rows,), options.top_k, dtype=torch.int32),
        "top_p": torch.full((rows,), options.top_p),
        "draw": draws.float(),
        "part_peak": garbage(parts, torch.float32),
        "part_token": garbage(parts),
        "counts": garbage(bins),
        "weights": garbage(bins, torch.int64),
        "filled": garbage(bins),
        "grouped": garbage(vocab),
        "chosen": torch.full((rows,), -7, dtype=torch.int32),
    }


def choose(given: dict[str, Any], tile: Tile | None = None) -> tuple[list[int], list[int]]:
    """Run the four kernels, holding each against its reference; return what both chose."""
    rows, vocab = given["logits"].shape
    constants, sizes = {"vocab": vocab, "part": 64, "bins": 32}, {"rows": rows}
    for name in ("sample_peak", "sample_bins", "sample_groups"):
        taken = {tensor.name: given.get(tensor.name) for tensor in KERNELS[name].tensors}
        kernel, reference = run_both(name, taken, constants, sizes)
        for key, expected in reference.items():
            if key == "grouped":
                continue  # any order will do in a bin; what is chosen shows whether they are right
            # The exponential differs in its last bit.
            assert torch.allclose(kernel[key].double(), expected.double(), rtol=1e-6, atol=4e6)
        given |= kernel
    taken = {tensor.name: given.get(tensor.name) for tensor in KERNELS["sample"].tensors}
    kernel, reference = run_both("sample", taken, constants, sizes, tile)
    return kernel["chosen"].tolist(), reference["chosen"].tolist()


def greedy(logits: torch.Tensor, **others: torch.Tensor) -> tuple[list[int], list[int]]:
    """Run the two kernels of a greedy choice."""
    every = tensors(logits, Sampling(), torch.zeros(len(logits)), 16, 32)
    given = {key: every[key] for key in ("logits", "part_peak", "part_token", "chosen")} | others
    constants, sizes = {"vocab": logits.shape[1], "part": 16, "bins": 32}, {"rows": len(logits)}
    taken = {tensor.name: given.get(tensor.name) for tensor in KERNELS["sample_peak"].tensors}
    given |= run_both("sample_peak", taken, constants, sizes)[0]
    taken = {tensor.name: given.get(tensor.name) for tensor in KERNELS["sample"].tensors}
    kernel, reference = run_both("sample", taken, constants, sizes)
    return kernel["chosen"].tolist(), reference["chosen"].tolist()


def seeded(vocab: int, seed: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, vocab).astype(np.float32)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_same_seed_draws_what_the_sampler_draws(options: Sampling) -> None:
    logits, rows = seeded(70), 3
    draws = torch.tensor([np.random.default_rng(seed).random() for seed in range(rows)])
    expected = [
        Sampler(Sampling(**{**vars(options), "seed": seed})).choose(logits, HISTORY)
        for seed in range(rows)
    ]
    given = tensors(torch.from_numpy(logits).expand(rows, -1), options, draws, 64, 32)
    kernel, reference = choose(given)
    assert reference == expected
    assert kernel == expected


def their_distribution(logits: torch.Tensor, options: Sampling) -> torch.Tensor:
    scores = logits[None].double()
    scores = RepetitionPenaltyLogitsProcessor(options.repetition_penalty)(
        torch.tensor([HISTORY]), scores
    )
    scores = TemperatureLogitsWarper(options.temperature)(None, scores)
    if options.top_k:
        scores = TopKLogitsWarper(options.top_k)(None, scores)
    if options.top_p < 1:
        scores = TopPLogitsWarper(options.top_p)(None, scores)
    return scores.softmax(-1)[0]


@pytest.mark.parametrize("options", OPTIONS)
def test_draws_have_transformers_distribution(options: Sampling) -> None:
    logits, rows = torch.from_numpy(seeded(40, seed=6)), 2000
    draws = (torch.arange(rows) + 0.5) / rows
    given = tensors(logits.expand(rows, -1), options, draws, 64, 32)
    chosen = given["chosen"]
    taken = {tensor.name: given[tensor.name] for tensor in KERNELS["sample"].tensors}
    reference_of("sample")(**taken, vocab=40, part=16, bins=32)
    shares = torch.bincount(chosen, minlength=40) / rows
    assert (shares - their_distribution(logits, options)).abs().max() <= 1.01 / rows


def test_every_token_is_drawn_between_its_bounds() -> None:
    """The kernel's cumulated probabilities, at both sides of each of the reference's."""
    options, logits = Sampling(temperature=0.8, top_k=4), torch.from_numpy(seeded(40, seed=6))
    theirs = their_distribution(logits, Sampling(**vars(options)))
    bounds = theirs.sort(descending=True).values[:4].cumsum(0)
    draws = torch.cat([bounds - 1e-5, bounds[:3] + 1e-5])
    kernel, reference = choose(tensors(logits.expand(7, -1), options, draws, 64, 32))
    order = theirs.argsort(descending=True)[:4].tolist()
    assert kernel == reference == [*order, *order[1:]]


def test_equals_come_by_id() -> None:
    logits = torch.tensor([[1.0, 3.0, 0.0, 3.0, -0.0, 3.0, 3.0, 0.0]]).expand(3, -1)
    draws = torch.tensor([0.3, 0.4, 0.9])
    for options, expected in (
        (Sampling(temperature=1.0, top_k=3), [1, 3, 5]),
        (Sampling(temperature=1.0, top_p=0.4), [1, 1, 3]),
        (Sampling(temperature=0.0), [1] * 3),
    ):
        given = tensors(logits, options, draws, 64, 32)
        kernel, reference = choose(given | {"penalty": None, "seen": None})
        assert kernel == reference == expected


def test_wide_temperatures_share_one_bin() -> None:
    """A bin larger than a block, whose tokens only bisection tells apart."""
    options, vocab = Sampling(temperature=1000.0, top_k=90), 100
    logits = torch.from_numpy(seeded(vocab))
    given = tensors(logits.expand(2, -1), options, torch.tensor([0.0, 0.99]), 64, 32)
    given |= {"penalty": None, "seen": None}
    kernel, reference = choose(given, Tile({"PARTS": 2, "BLOCK": 64}))
    assert given["counts"][0].tolist() == [vocab] + [0] * 31
    assert kernel == reference
    assert kernel[0] == logits.argmax()


def test_greedy_takes_the_lower_of_equals() -> None:
    torch.manual_seed(1)
    logits = torch.randint(-3, 4, (5, 50)).float()
    kernel, reference = greedy(logits)
    assert kernel == reference == [int(row.numpy().argmax()) for row in logits]


def test_greedy_penalises_what_was_seen() -> None:
    logits = torch.tensor([[1.0, 2.0, 1.9], [-1.0, -1.1, -2.0]])
    seen = torch.tensor([[0, 1, 0], [1, 0, 0]], dtype=torch.uint8)
    kernel, reference = greedy(logits, seen=seen, penalty=torch.tensor([1.5, 1.5]))
    assert kernel == reference == [2, 1]


def test_rows_differ_in_their_options() -> None:
    logits = torch.from_numpy(seeded(50)).expand(4, -1)
    given = tensors(logits, Sampling(), torch.tensor([0.9, 0.9, 0.9, 0.2]), 64, 32)
    given["temperature"] = torch.tensor([0.0, 1.0, 1.0, 2.0])
    given["top_k"] = torch.tensor([0, 1, 0, 3], dtype=torch.int32)
    given["top_p"] = torch.tensor([1.0, 1.0, 0.5, 1.0])
    kernel, reference = choose(given)
    assert kernel == reference
    assert kernel[0] == kernel[1] != kernel[2]


HOSTILE = [
    torch.full((40,), torch.nan),
    torch.full((40,), torch.inf),
    torch.full((40,), -torch.inf),
    torch.full((40,), 3.0),
    torch.tensor([torch.nan, 1.0, torch.inf, -torch.inf] * 10),
    torch.linspace(-3e38, 3e38, 40),
    torch.cat([torch.full((39,), -torch.inf), torch.ones(1)]),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("temperature", [0.0, 1e-40, 1.0, torch.nan])
def test_whatever_the_logits_a_token_is_chosen(temperature: float) -> None:
    logits = torch.stack(HOSTILE)
    draws = torch.tensor([0.0, 0.5, 0.99999994, 1.0, 7.0, torch.nan, -1.0])
    given = tensors(logits, Sampling(), draws, 64, 32)
    given["temperature"] = torch.full((7,), temperature)
    given["top_k"] = torch.tensor([0, 3, -1, 40, 41, 2**31 - 1, 1], dtype=torch.int32)
    given["top_p"] = torch.tensor([1.0, 0.5, torch.nan, 0.0, -3.0, torch.inf, 1e-30])
    constants, sizes = {"vocab": 40, "part": 64, "bins": 32}, {"rows": 7}
    for name in ("sample_peak", "sample_bins", "sample_groups", "sample"):
        taken = {tensor.name: given[tensor.name] for tensor in KERNELS[name].tensors}
        given |= run_kernel(name, taken, constants, sizes)
    assert given["chosen"].ge(0).all()
    assert given["chosen"].lt(40).all()
    assert given["chosen"][6] == 39


def run_kernel(
    name: str, taken: dict[str, Any], constants: dict[str, int], sizes: dict[str, int]
) -> dict[str, torch.Tensor]:
    copies = {key: tensor.clone() for key, tensor in taken.items()}
    interpret(variant_of(name, copies, constants), copies, sizes)
    return copies


def test_sampling_compiles(tmp_path: Path) -> None:
    constants = {"vocab": 128256, "part": PART, "bins": BINS}
    given = tensors(torch.zeros(1, 20), Sampling(), torch.zeros(1), 16, 32)
    least = {"logits", "part_peak", "part_token", "chosen"}
    variants = []
    for name in ("sample_peak", "sample_bins", "sample_groups", "sample"):
        taken = {tensor.name: given[tensor.name] for tensor in KERNELS[name].tensors}
        variants.append(variant_of(name, taken, constants))
        if name in ("sample_peak", "sample"):
            greedily = {key: taken[key] for key in taken.keys() & least}
            variants.append(variant_of(name, greedily, constants))
    compile_at_ends(variants, tmp_path)

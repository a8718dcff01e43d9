"""What torch does of the same: a compiled transformers model, and its FP8 matrix product."""

from __future__ import annotations

import warnings
from typing import Any

from cuda_bounds import clock
from cuda_models import CONFIGS


def compiled_decode(shape: str, batch: int, context: int, device: str, runs: int) -> float:
    """Return the seconds of a step of transformers' model in bf16 with a static cache, under
    torch.compile; `context` positions are in the cache. Without a GPU nothing is compiled."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, StaticCache

    given = {name: value for name, value in CONFIGS[shape].items() if name != "torch_dtype"}
    config = AutoConfig.for_model(**given)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    cache = StaticCache(config=config, max_cache_len=context + 64)
    ids = torch.randint(0, config.vocab_size, (batch, 1), device=device)
    place = torch.tensor([context - 1], device=device)

    def run(step: Any) -> None:
        step(
            input_ids=ids, position_ids=place.expand(batch, 1), cache_position=place,
            past_key_values=cache, use_cache=True,
        )  # fmt: skip

    warnings.filterwarnings("ignore", category=FutureWarning)
    with torch.inference_mode():
        run(model)  # makes the cache, which may not be made in a captured graph
        step: Any = model if device == "cpu" else torch.compile(model, mode="reduce-overhead")
        return clock(lambda: run(step), device, runs, warm_up=6)


def scaled_mm(tokens: int, rows: int, inputs: int, device: str) -> Any:
    """Return a run of torch's product of e4m3 with a scale for each token and each row, to bf16."""
    import torch

    left = torch.randn(tokens, inputs, device=device).to(torch.float8_e4m3fn)
    right = torch.randn(rows, inputs, device=device).to(torch.float8_e4m3fn)
    of_left = torch.rand(tokens, 1, device=device)
    of_right = torch.rand(1, rows, device=device)
    return lambda: torch._scaled_mm(
        left, right.t(), scale_a=of_left, scale_b=of_right, out_dtype=torch.bfloat16
    )

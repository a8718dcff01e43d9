"""Which modules of a decoder are of experts, and how many tokens they see."""

from __future__ import annotations

from typing import Final

from modelc.decoder.config import DecoderConfig

ROUTERS: Final = (".mlp.gate", ".mlp.shared_expert_gate")


def is_router(module: str) -> bool:
    """Return whether a linear layer chooses or weighs experts. It has a row for each of them, and
    is never quantised: a token that is sent elsewhere costs more than its few numbers."""
    return module.endswith(ROUTERS)


def is_expert(module: str) -> bool:
    """Return whether a module is of one expert, and so sees only the tokens that went to it."""
    return ".mlp.experts." in module


def routed_sizes(config: DecoderConfig, tokens: int) -> dict[str, int]:
    """Return the symbolic sizes of all layers with experts for so many tokens, if each expert gets
    as many as the others."""
    sizes: dict[str, int] = {}
    experts = config.experts
    for layer in experts.layers if experts else ():
        assert experts is not None
        module, pairs = f"model.layers.{layer}.mlp", tokens * experts.used
        sizes |= {f"{module}.tokens": tokens, f"{module}.pairs": pairs}
        each = -(-pairs // experts.count)
        sizes |= {f"{module}.experts.{n}.tokens": each for n in range(experts.count)}
    return sizes

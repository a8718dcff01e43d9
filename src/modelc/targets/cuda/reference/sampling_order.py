"""What the kernels of sampling agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LARGEST = 1e38
UNIT = 2.0**40
REACH = 32.0


def standing(
    logits: torch.Tensor, penalty: torch.Tensor | None, seen: torch.Tensor | None
) -> torch.Tensor:
    """Logits as they compete, float32 [rows, vocab]: seen tokens penalised, all finite."""
    import torch

    values = logits
    if penalty is not None and seen is not None:
        factor = penalty[:, None]
        lowered = torch.where(values > 0, values / factor, values * factor)
        values = torch.where(seen != 0, lowered, values)
    return values.nan_to_num(-LARGEST, LARGEST, -LARGEST).clamp(-LARGEST, LARGEST)


def weights_and_bins(
    values: torch.Tensor, temperature: torch.Tensor, bins: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights int64 [rows, vocab] of values, 0 in rows of no temperature, and their bins."""
    warm = temperature > 0
    inverse = (1.0 / temperature).clamp(max=LARGEST)[:, None]
    distance = (values.amax(-1, keepdim=True) - values) * inverse
    weights = (distance.neg().exp() * UNIT).long()
    places = (distance * (bins / REACH)).clamp(max=bins - 1).int()
    return weights * warm[:, None], places

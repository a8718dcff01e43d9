"""The sections of a recipe: [calibration] and [verify]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_CONTEXT = 1 << 22

Count = Annotated[int, Field(ge=1, le=MAX_CONTEXT)]


class Section(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Calibration(Section):
    """[calibration]: what activation ranges are gathered on, and how they are chosen.

    Attributes:
        text: UTF-8 file; None for the one that modelc carries.
        data: samples in place of a text: JSON lines, .npz, or an input list of raw files.
        samples: sequences taken from it, evenly spread.
        sequence_length: tokens in each, at most.
        observer: makes a range of what was seen of a tensor (`quant.observers`).
        percentile: percent of the values that the observer of this name keeps; None for its own.
    """

    text: Path | None = None
    data: Path | None = None
    samples: Count = 16
    sequence_length: Count = 256
    observer: Literal["min-max", "moving-average", "percentile", "entropy", "mse"] = "min-max"
    percentile: Annotated[float, Field(gt=0, le=100)] | None = None

    @model_validator(mode="after")
    def _together(self) -> Calibration:
        if self.text is not None and self.data is not None:
            raise ValueError("text and data, of which there can be one")
        if self.percentile is not None and self.observer != "percentile":
            raise ValueError(f"the observer {self.observer} has no use for a percentile")
        return self


class Verify(Section):
    """[verify]: what the result is compared with the float model on, and how close it must be.

    Attributes:
        text: UTF-8 file; None for the one that modelc carries.
        tokens: at most so many of its tokens; None for what suits the target (the HTP simulator
            is slow).
        min_sqnr_db, min_top1, max_perplexity_ratio: None for the scheme's own threshold.
        max_kl_divergence: mean nats per token; None for any.
    """

    text: Path | None = None
    tokens: Annotated[int, Field(ge=2, le=MAX_CONTEXT)] | None = None
    min_sqnr_db: float | None = None
    min_top1: Annotated[float, Field(ge=0, le=1)] | None = None
    max_perplexity_ratio: Annotated[float, Field(gt=0)] | None = None
    max_kl_divergence: Annotated[float, Field(gt=0)] | None = None

"""What an algorithm works on: one part of a decoder at a time, in memory as float32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from modelc.decoder.config import DecoderConfig, Experts
from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.kinds import Form

Floats = NDArray[np.float32]

UNREACHED: Final = "calibration tokens"
"""In a layer's notes: 0 of a matrix of an expert that no calibration token went to, so that it is
rounded to nearest."""


@dataclass
class Layer:
    """The embedding, one decoder layer, or the last norm with the head.

    Attributes:
        name: "model.embed_tokens", "model.layers.3", "lm_head".
        weights: by full name ("model.layers.3.mlp.up_proj.weight"): matrices [outputs, inputs],
            vectors [n]; what a norm multiplies by (Gemma's w + 1 is added already). Algorithms
            replace entries, never write into an array. The embedding's table and a head of more
            than 4 bits are there only for who has to see the `whole_model`.
        forms: module -> form that its matrix gets; none for the embedding's table.
        reads: module of a matrix -> name of the tensor that it is multiplied with.
        inputs: name of such a tensor -> float32 [tokens, inputs], from the calibration samples;
            empty unless an algorithm of the recipe `needs_inputs`. Who scales a weight's inputs
            changes these as well. An expert's has the tokens that went to it, which may be none.
        coded: module -> its matrix as codes, once it is rounded.
        notes: module -> figures for the report, by algorithm.
    """

    name: str
    config: DecoderConfig
    weights: dict[str, Floats]
    forms: Mapping[str, Form]
    reads: Mapping[str, str] = field(default_factory=dict)
    inputs: dict[str, Floats] = field(default_factory=dict)
    coded: dict[str, CodedRows] = field(default_factory=dict)
    notes: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def is_decoder_layer(self) -> bool:
        return self.name.startswith("model.layers.")

    @property
    def experts(self) -> Experts | None:
        """A decoder layer's experts, if it has any."""
        number = self.name.removeprefix("model.layers.")
        return self.config.experts_of(int(number)) if self.is_decoder_layer else None

    def path(self, name: str) -> str:
        """Return a weight's full name in this layer: "mlp.up_proj.weight" of "model.layers.3"."""
        return f"{self.name}.{name}"

    def inputs_of(self, module: str) -> Floats:
        """Return what a module's matrix is multiplied with, float32 [tokens, inputs]."""
        return self.inputs[self.reads[module]]


@dataclass(frozen=True)
class Algorithm(ABC):
    """A frozen dataclass whose fields are its options.

    Class attributes:
        name: in recipes.
        needs_inputs: it looks at `Layer.inputs`.
        whole_model: it has to see the embedding and the head as well.
    """

    name: ClassVar[str]
    needs_inputs: ClassVar[bool] = False
    whole_model: ClassVar[bool] = False

    def check(self, config: DecoderConfig) -> None:
        """Raise BadInput if a model's architecture does not allow it."""
        del config

    @abstractmethod
    def apply(self, layer: Layer) -> None:
        """Work on a layer, whose `weights`, `inputs` and `coded` it may replace."""


Progress = Callable[[float, str], None]

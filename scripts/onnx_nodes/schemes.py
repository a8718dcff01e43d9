"""The schemes that the cases are tried in, and how far off a number may be in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.passes.base import run_passes
from modelc.passes.network_quantise.quantise import QuantiseNetwork
from modelc.pipeline.network.plan import SIGNED_PRODUCTS
from modelc.pipeline.recipe_sections import Calibration
from modelc.quant.network.calibrate import gather_network_statistics
from modelc.quant.network.encodings import choose_encodings
from modelc.quant.network.precisions import assign_precisions
from modelc.quant.network.schemes import NetworkScheme, find_network_scheme
from modelc.quant.network.unshare import unshare_constants
from modelc.quant.observers import make_observer
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import CompileOptions
from modelc.targets.snapdragon.network.options import NetworkOptions

CHIPSET: Final = "snapdragon-8-elite"


@dataclass(frozen=True)
class TriedScheme:
    """One row.

    Attributes:
        tolerance: the largest difference, relative to the largest number of an output.
    """

    name: str
    tolerance: float

    @property
    def scheme(self) -> NetworkScheme:
        return find_network_scheme(self.name)

    @property
    def options(self) -> NetworkOptions:
        return NetworkOptions(CompileOptions(fp16=not self.scheme.is_quantised))

    def coded(self, model: ir.Model, inputs: Mapping[str, np.ndarray]) -> ir.Model:
        """Return a lowered graph as the scheme stores it, calibrated on the case's own inputs.

        Raises:
            ModelcError: the float model makes NaN.
        """
        if not self.scheme.is_quantised:
            return model
        unshare_constants(model.graph)
        seen = gather_network_statistics(model, [inputs])
        signed = int(find_chipset(CHIPSET).htp_arch.removeprefix("v")) >= SIGNED_PRODUCTS
        scheme = self.scheme
        scheme = replace(scheme, precision=replace(scheme.precision, signed_products=signed))
        chosen = assign_precisions(model, scheme, seen, {})
        observer = make_observer(Calibration().observer)
        encodings = choose_encodings(model, seen, chosen.nodes, observer, {})
        coded, _ = run_passes(model, [QuantiseNetwork(encodings, False)], graph="network")
        return coded


SCHEMES: Final = (TriedScheme("fp16", 0.01), TriedScheme("w8a16", 0.03))
"""Half precision has 11 bits, and some operators take it often; weights of 8 bits are off by half
a step, one 254th of a channel's largest."""

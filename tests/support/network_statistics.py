"""Statistics of small networks, gathered once."""

from functools import cache

import onnx_ir as ir

from modelc.quant.network.calibrate import NetworkStatistics, gather_network_statistics
from support.network_models import cnn, encoder, images, sentences

MAKERS = {
    "cnn": (cnn, images),
    "encoder": (encoder, sentences),
    "outliers": (lambda: encoder(outlier=60.0), sentences),
}


@cache
def seen_of(name: str) -> NetworkStatistics:
    make, feeds = MAKERS[name]
    return gather_network_statistics(make(), feeds(8))


def model_of(name: str) -> ir.Model:
    return MAKERS[name][0]()

"""Schemes of networks on HTP, as rows: how weights and activations are stored, and how good the
result has to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from modelc.errors import BadInput, nearest
from modelc.ir.network_encodings import ActivationType, Precision, WeightType

SENSITIVE_DB: Final = 31.0
"""Below it 8 bits lose too much of a tensor's middle (see `sensitive.py`). Measured on MiniLM, as
the cosine of sentence embeddings to the float ones: at 31 dB, where two nodes of five get 16 bits,
0.993 to 0.997 in HTP's simulator; the same graph on ONNX Runtime at 28 dB 0.93 to 0.97, and with
8 bits alone 0.74 to 0.86."""


@dataclass(frozen=True)
class NetworkScheme:
    """One row.

    Attributes:
        precision: of every node that no override names.
        sensitive_db: nodes of 8 bits whose results would have fewer dB in them get 16; 0: none do.
        min_sqnr_db, min_cosine: what each output must reach against the float model.
    """

    name: str
    precision: Precision
    sensitive_db: float
    min_sqnr_db: float
    min_cosine: float

    @property
    def is_quantised(self) -> bool:
        return self.precision.activations != "float"


_FLOAT: Final = Precision("float", "float")

NETWORK_SCHEMES: Final[Mapping[str, NetworkScheme]] = {
    row.name: row
    for row in (
        NetworkScheme("fp16", _FLOAT, 0, 35.0, 0.999),
        NetworkScheme("w8a16", Precision("uint16", "int8"), 0, 20.0, 0.99),
        NetworkScheme("w8a8", Precision("uint8", "int8"), SENSITIVE_DB, 10.0, 0.95),
        NetworkScheme("w8a8_pure", Precision("uint8", "int8"), 0, 10.0, 0.95),
        NetworkScheme("w4a16", Precision("uint16", "int4"), 0, 6.0, 0.9),
        NetworkScheme("w4a8", Precision("uint8", "int4"), SENSITIVE_DB, 5.0, 0.85),
        NetworkScheme("w4a8_pure", Precision("uint8", "int4"), 0, 5.0, 0.85),
    )
}


@dataclass(frozen=True)
class SchemeOptions:
    """What a user wants otherwise than a scheme has it; None leaves it.

    Attributes:
        activations, weights: types of codes. Biases are int32 always.
        per_channel: weights have one scale for each output channel, otherwise one for all.
        symmetric: activations are encoded around 0.
        sensitive_db, min_sqnr_db, min_cosine: as in `NetworkScheme`.
    """

    activations: ActivationType | None = None
    weights: WeightType | None = None
    per_channel: bool | None = None
    symmetric: bool | None = None
    sensitive_db: float | None = None
    min_sqnr_db: float | None = None
    min_cosine: float | None = None


def find_network_scheme(name: str) -> NetworkScheme:
    """Return the row that is called `name`.

    Raises:
        BadInput: there is none.
    """
    if name not in NETWORK_SCHEMES:
        raise BadInput(
            f"no quantisation scheme of networks is called {name!r}",
            hint=nearest(name, NETWORK_SCHEMES),
        )
    return NETWORK_SCHEMES[name]


def scheme_of_bits(weights: int, activations: int) -> NetworkScheme:
    """Return the row for widths in bits: weights 4 or 8, activations 8 or 16; 16 and 16, or 32 and
    32, mean fp16, HTP's only float.

    Raises:
        BadInput: there is none.
    """
    if weights == activations and weights in (16, 32):
        return NETWORK_SCHEMES["fp16"]
    name = f"w{weights}a{activations}"
    if name not in NETWORK_SCHEMES:
        raise BadInput(
            f"HTP has no weights of {weights} bits with activations of {activations}",
            hint="weights have 4 or 8 bits, activations 8 or 16; fp16 has 16 of both",
        )
    return NETWORK_SCHEMES[name]


def customise(scheme: NetworkScheme, options: SchemeOptions) -> NetworkScheme:
    """Return a scheme with what a user wants otherwise.

    Raises:
        BadInput: HTP does not take what comes of it, or a number is out of range.
    """
    fields = ("activations", "weights", "per_channel", "symmetric")
    wanted = {name: value for name in fields if (value := getattr(options, name)) is not None}
    if wanted and not scheme.is_quantised:
        raise BadInput(
            f"the scheme {scheme.name} has no codes whose {next(iter(wanted))} could be chosen",
            hint="choose a quantised scheme, such as w8a16",
        )
    limits = ("sensitive_db", "min_sqnr_db", "min_cosine")
    numbers = {name: value for name in limits if (value := getattr(options, name)) is not None}
    changed = replace(scheme, precision=replace(scheme.precision, **wanted), **numbers)
    check_precision(changed.precision)
    if not (0 <= changed.sensitive_db < 200 and -1 <= changed.min_cosine <= 1):
        raise BadInput("sensitive_db is from 0 to 200, min_cosine from -1 to 1")
    return changed


def check_precision(precision: Precision) -> None:
    """Refuse what HTP's compiler was seen to refuse, whatever the chipset.

    Not all that is left is taken everywhere: int16 weights need HTP v73; with int16 activations
    depthwise convolutions, Clip and GlobalAveragePool are refused; the compiler then says so.

    Raises:
        BadInput: says what it doesn't take, and what to do.
    """
    for refused, reason, hint in _REFUSED:
        if all(getattr(precision, name) in values for name, values in refused.items()):
            raise BadInput(reason, hint=hint)


_CODES: Final = frozenset({"uint8", "uint16", "int8", "int16"})

_REFUSED: Final[tuple[tuple[Mapping[str, frozenset[object]], str, str], ...]] = (
    (
        {"weights": frozenset({"uint8"}), "per_channel": frozenset({True})},
        "HTP takes no uint8 weights with a scale for each channel",
        "use int8, or per_channel = false",
    ),
    (
        {"weights": frozenset({"int16"}), "activations": _CODES - {"uint16"}},
        "HTP takes int16 weights with activations of uint16 only",
        "use int8 weights, or activations of uint16",
    ),
    (
        {"weights": frozenset({"int4"}), "activations": frozenset({"int8"})},
        "HTP takes no int4 weights with activations of int8",
        "use activations of uint8, which are as good",
    ),
    (
        {"weights": frozenset({"float"}), "activations": _CODES},
        "HTP takes no float weights with codes of activations",
        "choose fp16, or weights of int8 or int4",
    ),
    (
        {
            "weights": frozenset({"int8", "uint8", "int4", "int16"}),
            "activations": frozenset({"float"}),
        },
        "codes of weights with float activations are not supported",
        "choose fp16; or activations of 16 bits, which are as good",
    ),
)

import pytest

from modelc.errors import BadInput
from modelc.ir.network_encodings import Precision
from modelc.quant.network.schemes import (
    NETWORK_SCHEMES,
    SchemeOptions,
    customise,
    find_network_scheme,
    scheme_of_bits,
)


def test_names_say_the_bits() -> None:
    for name, row in NETWORK_SCHEMES.items():
        assert row.name == name
        if row.is_quantised:
            weights, activations = name.removesuffix("_pure").removeprefix("w").split("a")
            assert row.precision.weights == f"int{weights}"
            assert row.precision.activations == f"uint{activations}"
            assert bool(row.sensitive_db) == (activations == "8" and not name.endswith("pure"))


def test_an_unknown_name() -> None:
    with pytest.raises(BadInput, match="'w8a6'") as error:
        find_network_scheme("w8a6")
    assert "w8a16" in error.value.hint


@pytest.mark.parametrize(
    ("bits", "name"), [((8, 8), "w8a8"), ((4, 16), "w4a16"), ((16, 16), "fp16"), ((32, 32), "fp16")]
)
def test_schemes_by_bits(bits: tuple[int, int], name: str) -> None:
    assert scheme_of_bits(*bits).name == name


@pytest.mark.parametrize("bits", [(8, 4), (2, 8), (8, 32), (16, 8)])
def test_no_scheme_has_these_bits(bits: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="HTP has no weights"):
        scheme_of_bits(*bits)


def test_options_change_only_what_they_say() -> None:
    scheme = find_network_scheme("w8a8")
    assert customise(scheme, SchemeOptions()) == scheme
    changed = customise(scheme, SchemeOptions(activations="int16", min_cosine=0.5, symmetric=True))
    assert changed.precision == Precision("int16", "int8", True, True)
    assert (changed.min_cosine, changed.min_sqnr_db) == (0.5, scheme.min_sqnr_db)
    assert customise(scheme, SchemeOptions(sensitive_db=0)).sensitive_db == 0


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("fp16", SchemeOptions(weights="int8"), "has no codes whose weights could be chosen"),
        ("w8a8", SchemeOptions(weights="uint8"), "no uint8 weights"),
        ("w8a8", SchemeOptions(weights="float"), "no float weights"),
        ("w8a8", SchemeOptions(weights="int16"), "int16 weights with activations of uint16 only"),
        ("w8a8", SchemeOptions(activations="float"), "with float activations"),
        ("w4a8", SchemeOptions(activations="int8"), "no int4 weights with activations of int8"),
        ("w8a16", SchemeOptions(min_cosine=1.5), "min_cosine from -1 to 1"),
        ("w8a16", SchemeOptions(sensitive_db=-1), "sensitive_db is from 0"),
    ],
)
def test_what_htp_does_not_take(scheme: str, options: SchemeOptions, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        customise(find_network_scheme(scheme), options)
    customise(
        find_network_scheme("w8a8"), SchemeOptions(weights="uint8", per_channel=False)
    )  # is taken

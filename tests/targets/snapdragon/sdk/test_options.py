"""Arguments against the documentation: `documented.json` was written from the pages it names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sdk_doubles import DOCUMENTED, documented

from modelc.errors import BadInput
from modelc.targets.snapdragon.sdk.options import OPTIONS, InSdk, Option, arguments
from modelc.targets.snapdragon.sdk.toolsets import TOOLSETS

RELEASES = ["2.21.0", "2.28.0", "2.29.0", "2.34.0", "2.35.0", "2.51.0"]
ARITY = {"path": "1", "paths": "1", "choice": "1", "flag": "0", "names": "*"}


def version(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("tool", OPTIONS)
def test_every_option_is_documented_for_its_release(tool: str, release: str) -> None:
    rows = [row for row in OPTIONS[tool] if row.known_to(version(release))]
    assert {row.flag: ARITY[row.kind] for row in rows}.items() <= documented(tool, release).items()
    assert len({row.field for row in rows}) == len(rows), "a field has one flag in a release"


def test_every_row_names_its_page_and_tool() -> None:
    assert set(OPTIONS) == set(TOOLSETS[-1].tools) == set(DOCUMENTED)
    for rows in OPTIONS.values():
        assert all(row.documented.startswith("https://") for row in rows)
        assert all(bool(row.choices) == (row.kind == "choice") for row in rows)


def test_arguments_of_each_kind() -> None:
    assert arguments(
        "qairt-converter",
        {
            "network": "a b/model.onnx",
            "preserve_io_datatype": ("input_ids", "logits"),
            "skip_simplification": True,
            "framework_trace": False,
            "float_bitwidth": 16,
            "overrides": None,
        },
        (2, 39, 0),
    ) == (
        "--input_network", "a b/model.onnx", "--float_bitwidth", "16",
        "--preserve_io_datatype", "input_ids", "logits", "--onnx_skip_simplification",
    )  # fmt: skip
    assert arguments("qairt-converter", {"preserve_io_datatype": ()}, (2, 35)) == (
        "--preserve_io_datatype",
    )
    assert arguments(
        "qnn-context-binary-generator",
        {"model": InSdk("lib/x.so"), "dlcs": ("a.dlc", "b.dlc")},
        (2, 21),
    ) == ("--model", InSdk("lib/x.so"), "--dlc_path", "a.dlc,b.dlc")


@pytest.mark.parametrize(
    ("release", "flag"),
    [((2, 21), "--float_fallback"), ((2, 34, 2), "--float_fallback"),
     ((2, 35, 0), "--enable_float_fallback"), ((2, 51, 0), "--enable_float_fallback")],
)  # fmt: skip
def test_an_option_is_spelt_as_the_release_has_it(release: tuple[int, ...], flag: str) -> None:
    assert arguments("qairt-quantizer", {"float_fallback": True}, release) == (flag,)


@pytest.mark.parametrize(
    ("tool", "values", "message", "hint"),
    [
        ("qairt-quantizer", {"weights_bitwidth": 5}, "--weights_bitwidth: 5", "known: 16, 4, 8"),
        ("qnn-context-binary-generator", {"io_memory": "memhandel"}, "memhandel", "memhandle?"),
        ("qairt-quantizer", {"keep_weights_quantized": True}, "QAIRT 2.34 has no", "QAIRT 2.35"),
        ("qairt-quantizer", {"per_chanel": True}, "no option for per_chanel", "per_channel"),
        ("qnn-context-binary-generator", {"dlcs": ("a,b.dlc",)}, "commas", "rename"),
        ("qnn-context-binary-generator", {"dlcs": ()}, "takes no", ""),
        ("qairt-converter", {"network": "../model.onnx"}, "inside the work folder", ""),
        ("qairt-converter", {"network": "/model.onnx"}, "inside the work folder", ""),
        ("qairt-converter", {"network": "--debug"}, "inside the work folder", ""),
        ("qairt-converter", {"network": "a\0b"}, "inside the work folder", ""),
        ("qairt-converter", {"network": 3}, "takes no 3", ""),
        ("qairt-converter", {"preserve_io_datatype": ("--debug",)}, "no name of a tensor", ""),
    ],
)
def test_what_is_refused(tool: str, values: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(BadInput) as error:
        arguments(tool, values, (2, 34))
    assert message in error.value.message and hint in error.value.hint


@given(st.text(max_size=12))
def test_a_path_is_one_argument_and_no_option(path: str) -> None:
    try:
        found = arguments("qairt-converter", {"network": path}, (2, 35))
    except BadInput:
        return
    assert found == ("--input_network", path) and not path.startswith(("-", "/"))


def test_an_option_ends_where_it_is_said_to() -> None:
    row = Option("x", "--x", "flag", (2, 21), "", before=(2, 35))
    known = {v for v in [(2, 20, 9), (2, 21), (2, 34, 99), (2, 35), (2, 35, 0)] if row.known_to(v)}
    assert known == {(2, 21), (2, 34, 99)}

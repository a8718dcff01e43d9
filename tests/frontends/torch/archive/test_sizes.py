"""Sizes come out as sympy and Python have them, and nothing else is computed."""

from __future__ import annotations

import re

import pytest

from modelc.errors import BadInput
from modelc.frontends.torch.archive.sizes import Sizes, check_given, symbols_of

SIZES = Sizes({"s0": 7, "s31": 12})


@pytest.mark.parametrize(
    "written",
    [
        "s0*s31 + 3",
        "s31 - 2*s0",
        "s0**2 - s31**3",
        "Max(s0, s31, 5)",
        "Min(s0, 9)",
        "floor(s0/2)",
        "ceiling(s31/5)",
        "s0/2 + s0/2",
        "Eq(s0, 7)",
        "Ne(s0, s31)",
        "(s0 < s31) & (s0 >= 7)",
        "(s0 > s31) | ~(s31 <= 11)",
        "Mod(s31, 5)",
    ],
)
def test_what_sympy_writes(written: str) -> None:
    sympy = pytest.importorskip("sympy")
    symbols = {name: sympy.Symbol(name, integer=True, positive=True) for name in ("s0", "s31")}
    expression = sympy.sympify(written, locals=symbols)
    want = expression.subs({symbols[name]: size for name, size in SIZES.fixed.items()})
    text = sympy.srepr(expression)
    got = SIZES.value(text)
    assert got == bool(want) if isinstance(got, bool) else got == int(want)
    assert symbols_of(text) == {str(symbol) for symbol in expression.free_symbols}


S0, S31 = "Symbol('s0', positive=True, integer=True)", "Symbol('s31', integer=True)"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (f"FloorDiv({S31}, Integer(5))", 12 // 5),
        (f"CeilDiv({S31}, Integer(5))", 3),
        (f"CleanDiv({S31}, Integer(4))", 3),
        (f"PythonMod(Mul(Integer(-1), {S0}), Integer(4))", -7 % 4),
        (f"ModularIndexing({S31}, Integer(5), Integer(2))", 12 // 5 % 2),
        (f"PowByNatural({S0}, Integer(2))", 49),
        (f"CeilToInt(IntTrueDiv({S0}, Integer(2)))", 4),
        (f"TruncToInt(FloatTrueDiv(ToFloat({S0}), Float('2.0', precision=53)))", 3),
        (f"Where(Equality({S0}, Integer(7)), Integer(1), Integer(2))", 1),
        (f"LShift({S0}, Integer(3))", 56),
        (f"RShift({S31}, Integer(1))", 6),
        (f"Identity({S0})", 7),
    ],
)
def test_what_torch_adds(text: str, want: int) -> None:
    assert SIZES.whole(text) == want


@pytest.mark.parametrize(
    "guard",
    [
        "L['x'].size()[1] % 2 == 0",
        "not (L['x'].size()[0] != 3)",
        "L['kw']['a'].size()[0] == 5 and L['x'].size()[0] <= 16",
        "max(1, L['x'].size()[1] // 2)*4 >= 8 or L['x'].size()[0] > 9",
        "-L['x'].size()[0] < 0",
    ],
)
def test_guards_are_pythons(guard: str) -> None:
    for first, second in ((3, 8), (2, 5), (17, 1)):
        shapes = {("x",): (first, second), ("kw", "a"): (5,)}
        # Nothing but this test's own texts is evaluated.
        python = re.sub(r"\.size\(\)", "", guard)
        want = eval(python, {"L": {"x": (first, second), "kw": {"a": (5,)}}})
        assert SIZES.holds(guard, shapes) is bool(want)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__",
        "Integer.__class__",
        "Symbol('s0').name",
        "Symbol('__import__')",
        "Symbol('s99')",
        "Symbol('s0', 's1')",
        "Symbol(*['s0'])",
        "open('x', 'w')",
        "eval('1')",
        "Function('f')(Integer(1))",
        "[1][0]",
        "(lambda: 1)()",
        "Integer(1) if 1 else 2",
        "'a' * 9",
        "L['x'].size()[0].__class__",
        "L['x'].size()[5]",
        "L['y'].size()[0]",
        "Mul(*[Integer(2)])",
        "Max(Integer(1), key=Integer)",
        "9**9**9",
        "LShift(Integer(1), Integer(1000000))",
        "Pow(Integer(10), Integer(40))",
        "FloorDiv(Integer(1), Integer(0))",
        "IntTrueDiv(Integer(1), Integer(2))",
        "Float('nan')",
        "Max()",
        "(" * 5000,
        "-" * 15000 + "1",
        "1" * 30000,
        "",
        7,
    ],
)
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(BadInput, match="the exported program has"):
        symbols_of(text)
        Sizes({"s0": 7}).whole(text)
    with pytest.raises(BadInput, match="the exported program has"):
        Sizes({}).holds(text if text != "IntTrueDiv(Integer(1), Integer(2))" else "x",
                        {("x",): (2, 3)})  # fmt: skip


def test_given_sizes() -> None:
    places = {"s0": "axis 0 of x", "s31": "axis 1 of x"}
    check_given({"s0": 1, "s31": 2}, places)
    check_given({}, {})
    for given, message in (
        ({"s0": 1}, r"sizes are open: s31 \(axis 1 of x\)"),
        ({"s0": 1, "s31": 1, "batch": 2}, "no open size 'batch'"),
        ({"s0": 0, "s31": 1}, "s0=0 is no size"),
    ):
        with pytest.raises(BadInput, match=message) as caught:
            check_given(given, places)
        assert caught.value.hint
    with pytest.raises(BadInput, match="no open size") as caught:
        check_given({"batch": 1}, {})
    assert "leave --dim batch out" in caught.value.hint

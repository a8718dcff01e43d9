"""Symbolic sizes: expressions are computed for given sizes, by a table of what may stand in them.

torch writes a size as sympy's `srepr`, `FloorDiv(Symbol('s27', integer=True), Integer(2))`, and a
guard as a condition in Python, `L['x'].size()[1] // 2 != 1`. Both are parsed as Python, and never
run: a form that is not in the tables is refused.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from modelc.errors import BadInput
from modelc.frontends.torch.archive.values import LARGEST, refused

Number = int | float | Fraction | bool
Lengths = Mapping[tuple[str | int, ...], tuple[int, ...]]
"""Shapes of inputs by where a guard finds them: ("x", 0) for `L['x'][0]`."""

SYMBOL: Final = re.compile(r"(?:s|u|zf|zuf)[0-9]{1,9}")
_LONGEST: Final = 20_000
_HIGHEST_POWER: Final = 64


def _power(base: Any, exponent: Any) -> Any:
    if abs(exponent) > _HIGHEST_POWER or (base == 0 and exponent < 0):
        raise ValueError("a power out of range")
    if isinstance(base, int) and isinstance(exponent, int) and exponent < 0:
        base = Fraction(base)
    return base**exponent


def _shift(value: Any, places: Any) -> Any:
    if not 0 <= places <= _HIGHEST_POWER:
        raise ValueError("a shift out of range")
    return value << places


def _exact(value: Any, divisor: Any) -> Any:
    return Fraction(value) / divisor


_CALLS: Final[Mapping[str, Callable[..., Any]]] = {
    "Integer": int,
    "Rational": Fraction,
    "Add": lambda *terms: sum(terms),
    "Mul": lambda *factors: math.prod(factors),
    "Pow": _power,
    "PowByNatural": _power,
    "Max": max,
    "Min": min,
    "max": max,
    "min": min,
    "FloorDiv": operator.floordiv,
    "CleanDiv": operator.floordiv,
    "CeilDiv": lambda value, divisor: -(-value // divisor),
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "ModularIndexing": lambda value, divisor, modulus: value // divisor % modulus,
    "IntTrueDiv": operator.truediv,
    "FloatTrueDiv": operator.truediv,
    "ToFloat": float,
    "TruncToInt": math.trunc,
    "CeilToInt": math.ceil,
    "FloorToInt": math.floor,
    "floor": math.floor,
    "ceiling": math.ceil,
    "LShift": _shift,
    "RShift": operator.rshift,
    "Identity": lambda value: value,
    "Where": lambda condition, yes, no: yes if condition else no,
    "Equality": operator.eq,
    "Unequality": operator.ne,
    "StrictLessThan": operator.lt,
    "LessThan": operator.le,
    "StrictGreaterThan": operator.gt,
    "GreaterThan": operator.ge,
    "And": lambda *terms: all(terms),
    "Or": lambda *terms: any(terms),
    "Not": operator.not_,
}
"""Heads of sympy's and torch's expressions, and what guards call."""

_BINARY: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: _exact,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}

_COMPARE: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@dataclass(frozen=True)
class Sizes:
    """What the symbols of a program stand for. Results are kept by their text."""

    fixed: Mapping[str, int]
    _known: dict[str, Number] = field(default_factory=dict)

    def value(self, expression: Any) -> Number:
        """Return what a size, flag or factor is.

        Raises:
            BadInput: it has a form or a symbol that is not known, or is out of range.
        """
        tree = _parse(expression)
        if expression not in self._known:
            self._known[expression] = self._computed(expression, tree, {})
        return self._known[expression]

    def whole(self, expression: Any) -> int:
        """Return a size."""
        value = self.value(expression)
        if isinstance(value, bool) or value != int(value):
            raise refused("a size", expression)
        return int(value)

    def holds(self, guard: Any, lengths: Lengths) -> bool:
        """Tell whether a guard holds for inputs of these shapes."""
        return bool(self._computed(guard, _parse(guard), lengths))

    def _computed(self, text: str, tree: ast.expr, lengths: Lengths) -> Number:
        try:
            return self._of(tree, lengths)
        except (ArithmeticError, LookupError, ValueError, TypeError, RecursionError) as error:
            raise refused(f"an expression of sizes ({error})", text) from error

    def _of(self, node: ast.expr, lengths: Lengths) -> Number:
        value: Any
        match node:
            case ast.Constant(value=value) if isinstance(value, bool | int | float):
                pass
            case ast.Name(id="true" | "false" as name):
                value = name == "true"
            case ast.Call(func=ast.Name(id="Symbol")):
                value = self.fixed[_symbol(node)]
            case ast.Call(func=ast.Name(id="Float"), args=[ast.Constant(value=str(digits)), *_]):
                value = float(digits)
            case ast.Call(func=ast.Name(id=name), args=given, keywords=[]) if name in _CALLS:
                value = _CALLS[name](*(self._of(argument, lengths) for argument in given))
            case ast.Subscript(
                value=ast.Call(func=ast.Attribute(value=place, attr="size"), args=[], keywords=[]),
                slice=ast.Constant(value=int(axis)),
            ) if _place(place) in lengths and 0 <= axis < len(lengths[_place(place)]):
                value = lengths[_place(place)][axis]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value = -self._of(operand, lengths)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                value = not self._of(operand, lengths)
            case ast.BoolOp(op=ast.And(), values=terms):
                value = all(self._of(term, lengths) for term in terms)
            case ast.BoolOp(op=ast.Or(), values=terms):
                value = any(self._of(term, lengths) for term in terms)
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
                value = _BINARY[type(sign)](self._of(left, lengths), self._of(right, lengths))
            case ast.Compare(left=left, ops=[relation], comparators=[right]) if (
                type(relation) in _COMPARE
            ):
                value = _COMPARE[type(relation)](self._of(left, lengths), self._of(right, lengths))
            case _:
                raise ValueError("its form is not known")
        if not -LARGEST <= value <= LARGEST:
            raise ValueError("a number out of range")
        return value  # type: ignore[no-any-return]


def symbols_of(expression: Any) -> set[str]:
    """Return the symbols of an expression.

    Raises:
        BadInput: it can't be parsed, or has one that is named otherwise than torch does.
    """
    calls = (node for node in ast.walk(_parse(expression)) if isinstance(node, ast.Call))
    try:
        return {_symbol(c) for c in calls if isinstance(c.func, ast.Name) and c.func.id == "Symbol"}
    except ValueError as error:
        raise refused("a symbol of sizes", expression) from error


def shown(expression: Any) -> str:
    """Return an expression as people write it: `2*s0`."""
    try:
        return _shown(_parse(expression))
    except RecursionError as error:
        raise refused("an expression of sizes", expression) from error


def _shown(node: ast.expr) -> str:
    match node:
        case ast.Call(func=ast.Name(id="Symbol" | "Integer"), args=[ast.Constant(value=value), *_]):
            return str(value)
        case ast.Call(func=ast.Name(id="Mul"), args=factors):
            return "*".join(map(_shown, factors))
        case ast.Call(func=ast.Name(id=name), args=given):
            return f"{name}({', '.join(map(_shown, given))})"
        case _:
            return ast.unparse(node)


def _symbol(call: ast.Call) -> str:
    # What sympy assumes of it (integer=True) is known of every size.
    match call.args:
        case [ast.Constant(value=str(name))] if SYMBOL.fullmatch(name):
            return name
    raise ValueError("a symbol is not named as torch does")


def _place(node: ast.expr) -> tuple[str | int, ...]:
    """Return ("x", 0) for `L['x'][0]`, () for anything else."""
    keys: list[str | int] = []
    while True:
        match node:
            case ast.Subscript(value=inner, slice=ast.Constant(value=str() | int() as key)):
                keys.append(key)
                node = inner
            case ast.Name(id="L"):
                return tuple(reversed(keys))
            case _:
                return ()


def _parse(expression: Any) -> ast.expr:
    if not isinstance(expression, str) or len(expression) > _LONGEST:
        raise refused("an expression of sizes", expression)
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise refused("an expression of sizes", expression) from error


def check_given(given: Mapping[str, int], open_sizes: Mapping[str, str]) -> None:
    """Refuse sizes that are missing, that nothing has, or that are none.

    Args:
        open_sizes: where each symbol stands, by its name.
    """
    if strange := sorted(set(given) - set(open_sizes)):
        raise BadInput(
            f"the exported program has no open size {strange[0]!r}",
            hint="open are: " + "; ".join(f"{name} ({at})" for name, at in open_sizes.items())
            if open_sizes
            else f"all its sizes are fixed: leave --dim {strange[0]} out",
        )
    if missing := [name for name in open_sizes if name not in given]:
        raise BadInput(
            "sizes are open: " + "; ".join(f"{name} ({open_sizes[name]})" for name in missing),
            hint="fix them: "
            + " ".join(f"--dim {name}=1" for name in missing)
            + ", or what size you need",
        )
    if wrong := [name for name in given if given[name] < 1]:
        raise BadInput(f"--dim {wrong[0]}={given[wrong[0]]} is no size", hint="give 1 or more")

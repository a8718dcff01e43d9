"""Which kind of weight every module gets: the scheme's, unless an imported encoding or an override
says another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from modelc.errors import BadInput, nearest
from modelc.ir.packing.kinds import MATRIX_KINDS, TABLE_KINDS, Form
from modelc.quant.schemes import Scheme

EMBEDDING: Final = "model.embed_tokens"
HEAD: Final = "lm_head"
_ROOT: Final = "model."


def weight_kinds(
    modules: Mapping[str, Sequence[int]],
    scheme: Scheme,
    overrides: Mapping[str, str],
    imported: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Return each module's kind of weight, a key of `scheme.kinds` (`TABLE_KINDS` for the
    embedding, which is left out if the scheme leaves it as it is).

    Args:
        modules: module path -> shape of its weight [outputs, inputs]; a tied head is `lm_head`,
            with the table's shape.
        overrides: pattern -> kind. A pattern is of a whole module path, with or without the
            leading "model.": `*` stands for anything, dots as well. Of several that match a
            module the last one counts.
        imported: module -> kind that imported encodings say, in place of the scheme's.

    Raises:
        BadInput: patterns match nothing, or kinds are unknown or don't fit modules: says all that
            do; or there are overrides and the scheme quantises no weights.
    """
    if not scheme.has_kinds:
        if overrides:
            raise BadInput(
                f"the scheme {scheme.name} has no kinds of weights to override",
                hint="use a scheme with integer weights, such as w8a16 (w4_b32 on the CPU), or "
                "leave the overrides out",
            )
        return {}
    plain = scheme_kinds(modules, scheme)
    modules = {module: modules[module] for module in plain}
    kinds = {**plain, **imported}
    for pattern, kind in overrides.items():
        for module in modules:
            if _matches(pattern, module):
                kinds[module] = kind
    problems = [*_lost_patterns(overrides, modules), *_wrong_kinds(kinds, modules, scheme.kinds)]
    if problems:
        raise BadInput(
            "; ".join(dict.fromkeys(what for what, _ in problems)),
            hint="; ".join(dict.fromkeys(hint for _, hint in problems)),
        )
    return kinds


def scheme_kinds(modules: Iterable[str], scheme: Scheme) -> dict[str, str]:
    """Return the kind of each module's weight by the scheme alone, whether it fits or not; none
    for a scheme without kinds, nor for what it leaves as it is."""
    if not scheme.has_kinds:
        return {}
    return {module: kind for module in modules if (kind := _default(module, scheme))}


def check_architecture(kinds: Mapping[str, str], htp_arch: int) -> None:
    """Refuse kinds of weights that the compiler of an HTP architecture (79 for v79) doesn't take.

    Raises:
        BadInput: names each kind and a module that has it.
    """
    too_new = {
        kind: module
        for module, kind in kinds.items()
        if module != EMBEDDING and MATRIX_KINDS[kind].since > htp_arch
    }
    if too_new:
        listed = ", ".join(f"{kind} ({module})" for kind, module in too_new.items())
        taken = [kind for kind, form in MATRIX_KINDS.items() if form.since <= htp_arch]
        raise BadInput(
            f"HTP v{htp_arch} does not take weights of kind {listed}",
            hint=f"it takes {', '.join(taken)}: choose another scheme or other overrides",
        )


def _default(module: str, scheme: Scheme) -> str:
    if module == EMBEDDING:
        return scheme.embedding
    return scheme.head if module == HEAD else scheme.weights


def overridden(modules: Iterable[str], overrides: Mapping[str, str]) -> set[str]:
    """Return the modules that a pattern matches."""
    return {m for m in modules if any(_matches(pattern, m) for pattern in overrides)}


def _matches(pattern: str, module: str) -> bool:
    return fnmatchcase(module, pattern) or fnmatchcase(module.removeprefix(_ROOT), pattern)


def _lost_patterns(
    overrides: Mapping[str, str], modules: Mapping[str, Sequence[int]]
) -> Iterator[tuple[str, str]]:
    known = {module.removeprefix(_ROOT) for module in modules}
    for pattern in overrides:
        if not any(_matches(pattern, module) for module in modules):
            yield f"no module is called {pattern}", f"{pattern}: {nearest(pattern, known)}"


def known_kinds(module: str, kinds: Mapping[str, Form] = MATRIX_KINDS) -> list[str]:
    """Return the kinds that a module's weight may be of, by what its target takes. Matrices of 16
    bits are for the head alone: in layers they come out wrong on HTP v85, silently."""
    if module == EMBEDDING:
        return list(TABLE_KINDS)
    return [kind for kind, form in kinds.items() if form.bits <= 8 or module == HEAD]


def _wrong_kinds(
    kinds: Mapping[str, str], modules: Mapping[str, Sequence[int]], taken: Mapping[str, Form]
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with each kind, told of the first module that has it. HTP takes whole
    blocks only."""
    told: set[str] = set()
    for module, kind in kinds.items():
        known, inputs = known_kinds(module, taken), modules[module][-1]
        whole = taken is MATRIX_KINDS and kind in taken and module != EMBEDDING
        block = taken[kind].block if whole else 0
        if kind in told:
            continue
        if kind not in known:
            told.add(kind)
            yield f"{module} can't have weights of kind {kind!r}", f"it takes {', '.join(known)}"
        elif block and inputs % block:
            told.add(kind)
            yield (
                f"{inputs} inputs of {module} are no whole number of blocks of {block}",
                f'give it another kind, such as "{module}" = "w4"',
            )

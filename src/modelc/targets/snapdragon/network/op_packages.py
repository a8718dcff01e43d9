"""A user's own operators: shared libraries that HTP's compiler loads (UDO, user-defined operators).

An operator reaches HTP by its type: the provider hands every ONNX node of that type to the
package, attributes as parameters of the same names. ONNX Runtime refuses a model with operators of
a domain that it doesn't know, so the provider declares those that `CUSTOM_DOMAINS` names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Missing, Where, nearest

CUSTOM_DOMAINS: Final = "ORT_QNN_CUSTOM_OP_DOMAINS"
"""The variable by which the provider learns of domains, "DOMAIN:OP,OP;DOMAIN:OP"; it is read when
the provider's library is loaded."""

TARGETS: Final = ("CPU", "HTP")
"""Where a package runs: a library for this machine prepares and simulates as CPU, one for Hexagon
runs on the device as HTP."""

FORM: Final = "OP:LIBRARY:INTERFACE[:TARGET]"
KNOWN_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Those of ONNX Runtime's own operators."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SEPARATORS: Final = frozenset(",:;")


@dataclass(frozen=True)
class OpPackage:
    """An operator and the library that has it.

    Attributes:
        op: type of the ONNX nodes.
        interface: the symbol in the library that gives its interface. By convention it ends with
            "InterfaceProvider"; what stands before that is the package's name in the QNN graph.
        target: one of TARGETS.
    """

    op: str
    library: Path
    interface: str
    target: str = "CPU"

    def option(self) -> str:
        """Return the provider's form of it."""
        return f"{self.op}:{self.library}:{self.interface}:{self.target}"


def parse_op_package(text: str) -> OpPackage:
    """Return what `OP:LIBRARY:INTERFACE[:TARGET]` says; the library's path is made absolute.

    Raises:
        BadInput: it has another form.
        Missing: there is no such library.
    """
    parts = text.split(":")
    if len(parts) not in (3, 4) or not all(parts):
        raise BadInput(f"{text!r} is no op package", hint=f"write {FORM}")
    op, library, interface, target = (*parts, "CPU")[:4]
    for name in (op, interface):
        if not _IDENTIFIER.fullmatch(name):
            raise BadInput(f"{name!r} of {text!r} is no name of C", hint=f"write {FORM}")
    if target not in TARGETS:
        raise BadInput(f"{target!r} is no target of an op package", hint=nearest(target, TARGETS))
    path = Path(library).absolute()
    if _SEPARATORS & set(str(path)):
        raise BadInput(
            "the provider can't be told of a library whose path has a comma, colon or semicolon",
            where=Where(path=str(path)),
            hint="move it to another folder",
        )
    if not path.is_file():
        raise Missing(
            f"the op package of {op} is not there",
            where=Where(path=str(path)),
            hint="build it with a QAIRT SDK: its examples/OpPackage has makefiles",
        )
    return OpPackage(op, path, interface, target)


def package_options(packages: Sequence[OpPackage]) -> dict[str, str]:
    """Return the provider's option for packages, or none."""
    if not packages:
        return {}
    return {"op_packages": ",".join(package.option() for package in packages)}


def check_packages(nodes: Iterable[Any], packages: Sequence[OpPackage], where: Where) -> None:
    """Check that every package serves a node of the model, and is given once for a target.

    Args:
        nodes: of an ONNX graph.

    Raises:
        BadInput: it is for no node, or two are for the same operator and target.
    """
    types = {node.op_type for node in nodes}
    taken: set[tuple[str, str]] = set()
    for package in packages:
        if package.op not in types:
            raise BadInput(
                f"the model has no {package.op}, which an op package is for",
                where=where,
                hint=nearest(package.op, types),
            )
        if (package.op, package.target) in taken:
            raise BadInput(f"two op packages are for {package.op} on {package.target}", where=where)
        taken.add((package.op, package.target))


def custom_domains(nodes: Iterable[Any], packages: Sequence[OpPackage]) -> dict[str, str]:
    """Return the environment by which the provider declares the packages' operators.

    Args:
        nodes: of an ONNX graph.

    Raises:
        BadInput: an operator of a domain of its own that no package is for, or a domain whose name
            the provider can't be told.
    """
    own = {package.op for package in packages}
    domains: dict[str, set[str]] = {}
    for node in nodes:
        if node.domain in KNOWN_DOMAINS:
            continue
        if node.op_type not in own:
            raise BadInput(
                f"no op package is for {node.domain}:{node.op_type}",
                where=Where(module=node.name),
                hint=f"give the library that has it: `--op-package {FORM}`",
            )
        if not _DOMAIN.fullmatch(node.domain):
            raise BadInput(
                f"the provider can't be told of the domain {node.domain!r}",
                where=Where(module=node.name),
                hint="rename the domain: letters, digits, dots, underscores and dashes",
            )
        domains.setdefault(node.domain, set()).add(node.op_type)
    return _environment(domains)


def _environment(domains: Mapping[str, set[str]]) -> dict[str, str]:
    entries = [f"{domain}:{','.join(sorted(ops))}" for domain, ops in sorted(domains.items())]
    return {CUSTOM_DOMAINS: ";".join(entries)} if entries else {}

"""Qualcomm's backends: what each of them can be given that is made here, without a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from modelc.errors import BadInput, nearest

Format = Literal["context-binary", "dlc", "cpp"]


@dataclass(frozen=True)
class Backend:
    """A backend.

    Attributes:
        formats: what can be made for it offline, the best first.
        why: why no more than that, "" where nothing is missing.
    """

    name: str
    formats: tuple[Format, ...]
    why: str = ""


BACKENDS: Final = {
    backend.name: backend
    for backend in (
        Backend("HTP", ("context-binary", "dlc", "cpp")),
        Backend(
            "GPU",
            ("dlc", "cpp"),
            "the GPU's compiler is its driver, on the device: what is delivered is a DLC, which "
            "the device compiles when it first loads it",
        ),
        Backend(
            "CPU",
            ("dlc", "cpp"),
            "the CPU runs a graph as it is, and there is nothing to compile: what is delivered "
            "is a DLC",
        ),
    )
}


@dataclass(frozen=True)
class Delivery:
    """What is delivered for a backend.

    Attributes:
        note: a sentence for the user, where that is not what was asked for; else "".
    """

    format: Format
    note: str


def find_backend(name: str) -> Backend:
    """Return the backend of a name, in any case.

    Raises:
        BadInput: there is none.
    """
    backend = BACKENDS.get(name.upper())
    if backend is None:
        raise BadInput(f"no backend is called {name!r}", hint=nearest(name.upper(), BACKENDS))
    return backend


def delivery(backend: Backend, wanted: Format) -> Delivery:
    """Return what a backend gets where `wanted` was asked for."""
    if wanted in backend.formats:
        return Delivery(wanted, "")
    return Delivery(backend.formats[0], f"{backend.name}: {backend.why}")

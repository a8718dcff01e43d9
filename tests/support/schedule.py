"""Which tests go to which of pytest-xdist's workers, and which begin."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("tests/targets/snapdragon", "tests/targets/snapdragon/network")
"""Folders whose files share what their conftest compiles: it would be compiled in each worker."""

FIRST = (*TOGETHER, "tests/pipeline", "tests/cli", "tests/passes/htp", "tests/quant/algorithms")
"""Folders of what takes long: begun last, it would leave the other workers idle."""


class ByFile(LoadScopeScheduling):
    """One worker gets a whole file, in whose fixtures models are compiled; or a whole folder."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scope_of(nodeid: str) -> str:
    """Return the file of a test, or its folder if that is one of `TOGETHER`."""
    file = nodeid.partition("::")[0]
    folder = file.rpartition("/")[0]
    return folder if folder in TOGETHER else file


def rank(nodeid: str) -> int:
    """Return the place of a test's folder in `FIRST`, what is not there comes last."""
    places = [place for place, folder in enumerate(FIRST) if nodeid.startswith(f"{folder}/")]
    return places[0] if places else len(FIRST)

"""The files that a recipe for Cloud AI 100 names, for steps to read and a bundle to keep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from modelc.errors import BadInput, Where
from modelc.frontends.huggingface.adapter import CONFIG, WEIGHTS
from modelc.pipeline.recipe_sections import Qaic

ADAPTERS: Final = "adapters"
# Option -> the name under which a step reads its file.
OPTION_FILES: Final[Mapping[str, str]] = {
    "node_precision_info": "node_precision_info",
    "mdp_load_partition_config": "partition",
    "qnn_config": "qnn_config",
}


def card_sources(options: Qaic) -> dict[str, Path]:
    """Return the files by the names under which the steps read them.

    Raises:
        BadInput: one is not there, or two adapters have one name.
    """
    files = {
        name: getattr(options, option)
        for option, name in OPTION_FILES.items()
        if getattr(options, option) is not None
    }
    names = [path.resolve().name for path in options.adapters]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(f"two adapters are called {twice[0]}", hint="rename one's folder")
    for number, folder in enumerate(options.adapters):
        files |= adapter_files(number, folder)
    for path in files.values():
        if not path.is_file():
            raise BadInput("there is no such file", where=Where(path=str(path)))
    return files


def adapter_files(number: int, folder: Path) -> dict[str, Path]:
    return {f"adapter_{number}.{file}": folder / file for file in (CONFIG, WEIGHTS)}


def adapter_folders(count: int, sources: Mapping[str, Path]) -> list[Path]:
    """Return the folders of the adapters that a step reads."""
    return [sources[f"adapter_{number}.{CONFIG}"].parent for number in range(count)]


def kept_files(options: Qaic) -> tuple[Qaic, dict[str, str]]:
    """Return the options with the files' names in a bundle, and these names -> the steps' names."""
    changes: dict[str, object] = {}
    names: dict[str, str] = {}
    for option, name in OPTION_FILES.items():
        if (path := getattr(options, option)) is not None:
            kept = f"given/{path.name}"
            changes[option], names[kept] = Path(kept), name
    folders = []
    for number, folder in enumerate(options.adapters):
        kept = f"{ADAPTERS}/{folder.resolve().name}"
        folders.append(Path(kept))
        names |= {
            f"{kept}/{path.name}": name for name, path in adapter_files(number, folder).items()
        }
    changes["adapters"] = tuple(folders)
    return options.model_copy(update=changes), names

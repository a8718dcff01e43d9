"""Worker: runs libGenie, the runtime that a device uses, on the HTP simulator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelc.process import serve
from modelc.targets.snapdragon.genie_library import Dialog, check_config
from modelc.targets.snapdragon.qnn_system import read_twin
from modelc.targets.snapdragon.tokens_file import TokenWriter


def check(job: dict[str, Any]) -> dict[str, Any]:
    """Validate `job["config"]`."""
    check_config(job["config"])
    return {}


def generate(job: dict[str, Any]) -> dict[str, Any]:
    """Answer `job["tokens"]` with `job["config"]`."""
    write = TokenWriter(job["stream"])
    dialog = _dialog(job)
    answer = dialog.query_tokens(job["tokens"], write)
    return {"token_ids": answer, "profile": _figures(dialog.profile()[-1])}


def chat(job: dict[str, Any]) -> dict[str, Any]:
    """Answer `job["prompts"]`, the turns of one dialog, as text."""
    dialog = _dialog(job)
    answers = [dialog.query_text(prompt) for prompt in job["prompts"]]
    return {"answers": answers, "profile": _figures(dialog.profile()[-1])}


TASKS = {"check": check, "generate": generate, "chat": chat}


def handle(job: dict[str, Any]) -> dict[str, Any]:
    return TASKS[job["task"]](job)


def _dialog(job: dict[str, Any]) -> Dialog:
    engine = job["config"]["dialog"]["engine"]
    for path in engine["model"]["binary"]["ctx-bins"]:
        read_twin(Path(path))  # Genie would crash, or say less
    Path(job["extension_file"]).write_text(json.dumps(job["extension"]))
    return Dialog(job["config"])


def _figures(event: Mapping[str, Any]) -> dict[str, float]:
    return {name: item["value"] for name, item in event.items() if isinstance(item, dict)}


if __name__ == "__main__":
    serve(handle)

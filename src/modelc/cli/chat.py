"""The interactive form of `modelc run`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from modelc.errors import BadInput

if TYPE_CHECKING:
    from modelc.api import Bundle
    from modelc.targets.runtime import Sampling

HELP = "an empty line or Ctrl-D ends it, Ctrl-C stops a reply, /reset starts anew"


def chat_loop(bundle: Bundle, sampling: Sampling, max_new_tokens: int) -> None:
    """Talk until the user ends it. A model without a chat template goes on from each line."""
    templated = bool(bundle.tokenizer.data.chat_template)
    typer.echo(f"{bundle.manifest.source.name} on {bundle.runtime.name}; {HELP}", err=True)
    if not templated:
        typer.echo("no chat template: the model goes on from what you write", err=True)
    messages: list[dict[str, str]] = []
    while line := _ask():
        if line == "/reset":
            messages = []
            continue
        try:
            bundle.tokenizer.encode(line)
        except BadInput as error:
            typer.echo(error.message, err=True)
            continue
        messages.append({"role": "user", "content": line})
        prompt: str | list[dict[str, str]] = messages if templated else line
        try:
            reply = bundle.generate(
                prompt, max_new_tokens, sampling=sampling, chat=templated, on_text=_write
            )
        except BadInput as error:
            typer.echo(f"{error.message}; starting anew", err=True)
            messages = []
            continue
        except KeyboardInterrupt:
            typer.echo("\nstopped", err=True)
            messages.pop()
            continue
        _write("\n")
        messages.append({"role": "assistant", "content": reply.text})


def _ask() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

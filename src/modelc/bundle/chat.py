"""Renders chat templates (Jinja, as Hugging Face's models carry them) in a sandbox."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from modelc.errors import BadInput

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_RENDERED = 16 << 20
"""Characters at which a template is taken for a trap."""

Message = Mapping[str, Any]
"""{"role": "user", "content": "..."}"""


def render_chat(
    template: str,
    messages: Sequence[Message],
    special: Mapping[str, str],
    *,
    add_generation_prompt: bool = True,
    now: datetime | None = None,
) -> str:
    """Return a conversation as the text that the model was trained to see.

    The environment is that of transformers' `apply_chat_template`: `raise_exception`,
    `strftime_now`, `tojson` without HTML escapes, loop controls, `{% generation %}` as a no-op.

    Args:
        now: the time that the template is told; the clock's if None.

    Raises:
        BadInput: the template is damaged, does what a sandbox forbids, or refuses the messages.
    """
    from jinja2 import TemplateError

    variables: dict[str, Any] = {
        **special,
        # Plain copies: a template may not reach the methods of the caller's objects.
        "messages": json.loads(json.dumps([dict(message) for message in messages])),
        "add_generation_prompt": add_generation_prompt,
        "tools": None,
        "documents": None,
        "strftime_now": (now or datetime.now()).strftime,
    }
    text: list[str] = []
    length = 0
    try:
        for piece in _environment().from_string(template).generate(variables):
            length += len(piece)
            if length > MAX_RENDERED:
                raise BadInput("the chat template renders without end")
            text.append(piece)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise BadInput(
            f"the chat template failed: {error}",
            hint="give the prompt as plain text instead, without the chat template",
        ) from error
    return "".join(text)


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    # Imported here: jinja2 takes a third of the start-up time that the command line may.
    from jinja2 import ext, nodes
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(ext.Extension):
        """{% generation %}...{% endgeneration %} marks a trainer's text; it shows what it holds."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[ext.loopcontrols, Generation]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)

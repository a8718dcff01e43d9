"""Chat templates: the environment is that of transformers, the sandbox holds."""

from typing import Any

import pytest

from modelc.bundle import chat
from modelc.bundle.chat import render_chat
from modelc.errors import BadInput

MESSAGES = [
    {"role": "system", "content": "Be <brief> & kind."},
    {"role": "user", "content": "héllo"},
]

EACH = "{% for m in messages %}"

TEMPLATES = {
    "blocks are trimmed": EACH
    + "\n   {% if true %}\n{{ m.content }}\n   {% endif %}\n{% endfor %}\n",
    "tojson does not escape": "{{ messages | tojson }}{{ {'b': 1, 'a': [2]} | tojson(indent=2) }}",
    "loop controls": EACH + "{% if loop.last %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
    "generation": EACH + "{% generation %}{{ m.content }}{% endgeneration %}!{% endfor %}",
    "special tokens": "{{ bos_token }}{{ eos_token }}{{ missing }}|",
    "no tools": "{% if tools is not none or documents %}tools{% endif %}none",
    "namespace": "{% set ns = namespace(n=0) %}"
    + EACH
    + "{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "prompt": "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "macros": "{% macro say(m) %}[{{ m.role | upper }}]{% endmacro %}"
    + EACH
    + "{{ say(m) }}{% endfor %}",
    "slices": "{{ messages[1:][0].content.split('l')[-1].strip() }}{{ messages | length }}",
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_renders_as_transformers_does(template: str) -> None:
    from transformers.utils import chat_template_utils as utils

    special = {"bos_token": "<s>", "eos_token": "</s>"}
    rendered, _ = utils.render_jinja_template(
        [MESSAGES], chat_template=template, add_generation_prompt=True, **special
    )
    assert render_chat(template, MESSAGES, special) == rendered[0]


def test_the_date_is_todays() -> None:
    from datetime import datetime

    year = render_chat("{{ strftime_now('%Y') }}", MESSAGES, {})
    assert abs(int(year) - datetime.now().year) <= 1
    day = datetime(2024, 7, 26)
    assert render_chat("{{ strftime_now('%d %b %Y') }}", MESSAGES, {}, now=day) == "26 Jul 2024"


def test_a_template_may_refuse() -> None:
    with pytest.raises(BadInput, match="roles must alternate") as caught:
        render_chat("{{ raise_exception('roles must alternate') }}", MESSAGES, {})
    assert "plain text" in caught.value.hint


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception.__globals__.os }}",
        "{{ strftime_now.__self__.year }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content + 1 }}",
        "{% for %}",
        "{{ messages | nonsense }}",
        "{{ [][1].x }}",
    ],
)
def test_what_is_damaged_or_forbidden_is_an_error(template: str) -> None:
    with pytest.raises(BadInput):
        render_chat(template, MESSAGES, {})


def test_a_template_that_never_stops_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "MAX_RENDERED", 1000)
    bomb = "{% for i in range(99999) %}{% for j in range(99999) %}xxxx{% endfor %}{% endfor %}"
    with pytest.raises(BadInput, match="without end"):
        render_chat(bomb, MESSAGES, {})


def test_the_callers_messages_are_not_touched() -> None:
    message: dict[str, Any] = {"role": "user", "content": "x", "parts": [1]}
    render_chat("{% set _ = messages[0].parts %}{{ _ }}", [message], {})
    assert message == {"role": "user", "content": "x", "parts": [1]}

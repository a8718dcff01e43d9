"""The sample prompt, and who writes the beginning-of-text token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support import random_models

from modelc.bundle.tokenizer import Tokenizer
from modelc.errors import BadInput
from modelc.ir.tokenizer import TokenizerData
from modelc.targets.runtime import Sampling
from modelc.targets.snapdragon.genie_prompt import QUESTION, genie_bos, sample_prompt


@pytest.fixture(scope="module")
def chatty() -> TokenizerData:
    made = random_models.tokenizer()
    return TokenizerData(
        json=made.backend_tokenizer.to_str(),
        bos_id=0,
        eos_ids=(1,),
        add_bos=True,
        chat_template=made.chat_template,
        special={"bos_token": "<s>"},
    )


def test_the_template_formats_it(chatty: TokenizerData) -> None:
    assert sample_prompt(chatty) == f"<s>user: {QUESTION}\n"
    assert sample_prompt(replace(chatty, chat_template="")) == QUESTION


def test_it_is_the_same_every_day(chatty: TokenizerData) -> None:
    dated = replace(chatty, chat_template="{{ strftime_now('%d %b %Y') }}")
    assert sample_prompt(dated) == "26 Jul 2024"


def test_a_template_that_fails(chatty: TokenizerData) -> None:
    with pytest.raises(BadInput, match="no users here"):
        sample_prompt(replace(chatty, chat_template="{{ raise_exception('no users here') }}"))


def test_bos_is_written_once(chatty: TokenizerData) -> None:
    assert genie_bos(chatty) is None
    plain = replace(chatty, chat_template="")
    assert genie_bos(plain) == 0
    assert genie_bos(replace(plain, add_bos=False)) is None


@pytest.mark.simulator
def test_genie_reads_what_the_template_means(
    chatty: TokenizerData, tiny: Callable[[str], Any]
) -> None:
    """With or without one, Genie goes on as from the tokens that modelc itself would read."""
    pytest.importorskip("onnxruntime_qnn", reason="Genie is not here")
    made, tokenizer = tiny("w8a16"), Tokenizer(chatty)
    short = replace(chatty, chat_template=chatty.chat_template.replace("['content']", "['role']"))
    plain = replace(chatty, chat_template="")
    [messages] = [[{"role": "user", "content": QUESTION}]]
    rows = [
        (short, sample_prompt(short), Tokenizer(short).encode_chat(messages)),
        (plain, "the earth", Tokenizer(plain).encode("the earth")),
    ]
    for data, text, tokens in rows:
        genie = made.genie(replace(made.model, bos_id=genie_bos(data)))
        [answer] = genie.chat([text], Sampling(), 3)
        expected = made.simulator().generate(tokens, Sampling(), 3, ())
        assert answer == tokenizer.decode(expected.token_ids)

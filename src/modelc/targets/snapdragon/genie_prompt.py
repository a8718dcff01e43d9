"""Prompts as Genie must be given them: it knows no chat template."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from modelc.bundle.chat import render_chat
from modelc.ir.tokenizer import TokenizerData

SAMPLE_PROMPT: Final = "sample_prompt.txt"
QUESTION: Final = "What is gravity? Keep it short."
# Some templates write the date; a bundle must not depend on when it was made.
_DAY: Final = datetime(2024, 7, 26)


def genie_bos(tokenizer: TokenizerData) -> int | None:
    """Return the token that Genie shall put before every prompt, None for none.

    None where a chat template formats the prompts: it writes the token itself, where it belongs,
    which is before the first turn of a dialog only.
    """
    if tokenizer.chat_template or not tokenizer.add_bos:
        return None
    return tokenizer.bos_id


def sample_prompt(tokenizer: TokenizerData) -> str:
    """Return a question as the model expects it, ready for Genie.

    Raises:
        BadInput: the chat template fails.
    """
    if not tokenizer.chat_template:
        return QUESTION
    messages = [{"role": "user", "content": QUESTION}]
    return render_chat(tokenizer.chat_template, messages, tokenizer.special, now=_DAY)

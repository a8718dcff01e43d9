"""libGenie by ctypes: as much of Genie's C API as modelc needs. Child processes only."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable, Sequence
from ctypes import POINTER, byref, c_char_p, c_int32, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, ToolFailed
from modelc.process import LogMark
from modelc.targets.snapdragon.library import library_path

_TEXT_CALLBACK = ctypes.CFUNCTYPE(None, c_char_p, c_int32, c_void_p)
_TOKEN_CALLBACK = ctypes.CFUNCTYPE(None, POINTER(c_uint32), c_uint32, c_int32, c_void_p)
_ALLOCATE = ctypes.CFUNCTYPE(None, c_size_t, POINTER(c_void_p))

LOG: Final = Path("genie_worker.log")
OK: Final = 0
CONTEXT_EXCEEDED: Final = 4  # what was generated until then is good
_COMPLETE: Final = 0  # the query is a whole sentence
_END: Final = 3  # what a callback is told when the answer is over
_M_PERTURB: Final = -6  # mallopt(3): new memory is filled with the complement of a byte
_FILL_WITH_ZEROS: Final = 0xFF


def check_config(config: dict[str, Any]) -> None:
    """Raises BadInput if Genie rejects the configuration."""
    genie = _library()
    genie.GenieDialogConfig_free(_dialog_config(genie, config))


class Dialog:
    """A loaded model. Paths in its configuration are relative to the working directory.

    Raises:
        BadInput: Genie rejects the configuration.
        ToolFailed: Genie can't load the model.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        _zero_fresh_memory()
        self._genie = _library()
        handle = _dialog_config(self._genie, config)
        self._profile = c_void_p()
        self._call("GenieProfile_create", None, byref(self._profile))
        self._call("GenieDialogConfig_bindProfiler", handle, self._profile)
        self._dialog = c_void_p()
        self._call("GenieDialog_create", handle, byref(self._dialog))

    def query_tokens(
        self, tokens: Sequence[int], on_token: Callable[[int], None]
    ) -> tuple[int, ...]:
        """Read tokens and return the answer's; an end-of-sequence token is not among them.

        `on_token` is called with each of them as it comes.
        """
        answer: list[int] = []

        def receive(new: Any, count: int, _code: int, _user: Any) -> None:
            for token in new[:count] if count else ():
                answer.append(token)
                on_token(token)

        array = (c_uint32 * len(tokens))(*tokens)
        callback = _TOKEN_CALLBACK(receive)
        arguments = (array, len(tokens), _COMPLETE, callback, None)
        self._query("GenieDialog_tokenQuery", *arguments, answer=answer)
        return tuple(answer)

    def query_text(self, prompt: str) -> str:
        """Read a prompt and return the answer.

        Genie holds text back until it is whole UTF-8, so what follows an invalid byte is lost.
        """
        pieces: list[bytes] = []

        def receive(piece: bytes | None, code: int, _user: Any) -> None:
            if piece or code != _END:
                pieces.append(piece or b"")

        callback = _TEXT_CALLBACK(receive)
        self._query("GenieDialog_query", prompt.encode(), _COMPLETE, callback, None, answer=pieces)
        return b"".join(pieces).decode(errors="replace")

    def profile(self) -> list[dict[str, Any]]:
        """Return Genie's own events, oldest first: "type", "duration" in us, and figures by name
        ("time-to-first-token", ...), each with "value" and "unit"."""
        buffers: list[Any] = []

        def allocate(size: int, out: Any) -> None:
            buffers.append(ctypes.create_string_buffer(size))
            out[0] = ctypes.addressof(buffers[-1])

        text, callback = c_char_p(), _ALLOCATE(allocate)
        self._call("GenieProfile_getJsonData", self._profile, callback, byref(text))
        document = json.loads(text.value or b"{}")
        return [
            event
            for component in document.get("components", [])
            if component.get("type") == "dialog"
            for event in component.get("events", [])
        ]

    def _query(self, function: str, *arguments: Any, answer: Sequence[object]) -> None:
        """Raises BadInput if the context was full before there was an answer."""
        mark = LogMark(LOG)
        status = getattr(self._genie, function)(self._dialog, *arguments)
        if status == CONTEXT_EXCEEDED and not answer:
            raise BadInput(
                "Genie's context is full",
                hint="use a shorter prompt, or compile for a longer context or a shorter AR",
            )
        if status not in (OK, CONTEXT_EXCEEDED):
            raise ToolFailed(
                f"{function} failed with status {status}; its last words:\n{_heard(mark)}"
            )

    def _call(self, function: str, *arguments: Any) -> None:
        mark = LogMark(LOG)
        status = getattr(self._genie, function)(*arguments)
        if status != OK:
            raise ToolFailed(
                f"{function} failed with status {status}; its last words:\n{_heard(mark)}",
                hint="if a binary is damaged, compile it again",
            )


def _zero_fresh_memory() -> None:
    """Let malloc give zeros.

    Genie 1.21 clears a float KV cache only to a quarter: as many bytes as it has elements. What
    lay in memory before would be read, and if it is large enough, no mask hides it. On a device
    the cache is memory fresh from the kernel, which is zero.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).mallopt(_M_PERTURB, _FILL_WITH_ZEROS)


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(str(library_path("Genie")))


def _dialog_config(genie: ctypes.CDLL, config: dict[str, Any]) -> c_void_p:
    handle, mark = c_void_p(), LogMark(LOG)
    status = genie.GenieDialogConfig_createFromJson(json.dumps(config).encode(), byref(handle))
    if status != OK:
        raise BadInput(
            f"Genie rejects its configuration (status {status}); its last words:\n{_heard(mark)}"
        )
    return handle


def _heard(mark: LogMark) -> str:
    """Return the last lines that Genie wrote."""
    if sys.platform == "linux":
        ctypes.CDLL(None).fflush(None)  # its stdout is a file, and so buffered
    return mark.last_words()

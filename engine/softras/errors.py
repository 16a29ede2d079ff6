"""The one error of the user's making, and how what the user gave is shown in it."""

from __future__ import annotations

import re
import reprlib
from typing import Any

LONGEST = 1000  # characters of a message; longer text is a file read as a name, and nobody reads it
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60  # characters


def one_line(text: str) -> str:
    """Text as one short line: control characters and halves of characters become spaces, the middle is left out.

    So a terminal, a log and Blender's status bar show it, whatever a file's name, a file's text or another process has
    put into it.
    """
    text = _CONTROL.sub(" ", text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


class InputError(ValueError):
    """What was given cannot be used; the message is one sentence, on one line, that says what to do about it."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def shown(value: Any) -> str:
    """A value as a message shows it: its repr, cut to a few words."""
    try:
        return _SHORT.repr(value)
    except Exception:  # a repr may fail, as that of a whole number of more than 4300 digits
        return f"a {type(value).__name__} that is too large to be shown"

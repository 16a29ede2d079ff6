"""InputError, the one error for what the user gave, and how its messages show values."""

from __future__ import annotations

import re
import reprlib
from typing import Any

LONGEST = 1000  # A message has about so many characters at most: longer text is most likely the content of a file.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60  # A message shows at most so many characters of a value.


def one_line(text: str) -> str:
    """Text as one line: control characters and lone surrogates become spaces, and the middle of long text is left out.

    A terminal, a log and Blender's status bar can then show it, whatever a file or another process has put into it.
    """
    text = _CONTROL.sub(" ", text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


class InputError(ValueError):
    """What the user gave cannot be used. The message is one sentence, on one line, that says what to do about it."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def shown(value: Any) -> str:
    """A value as a message shows it: the beginning and the end of its repr."""
    try:
        return _SHORT.repr(value)
    except Exception:  # A repr may fail, as that of a whole number with more than 4300 digits.
        return f"a {type(value).__name__} that is too large to be shown"

"""Text files of any encoding become text here: meshes, materials, JSON."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .errors import InputError

_MARKS = {  # UTF-32's begins with UTF-16's
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


class Decoded(NamedTuple):
    """The text of a file, and what turns text into such a file again."""

    text: str
    mark: bytes
    encoding: str

    def encode(self, text: str) -> bytes:
        """The bytes of a text in the encoding that the file has."""
        return self.mark + text.encode(self.encoding)


def decode(data: bytes, path: Path | str) -> Decoded:
    """The text in the bytes of the file path: by its byte order mark, else UTF-8, else Latin-1.

    Raises InputError where the bytes are not what the mark says, and for UTF-16 without a mark.
    """
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    encoding = _MARKS.get(mark, "utf-8")
    try:
        return Decoded(data[len(mark) :].decode(encoding), mark, encoding) if mark else _unmarked(data, path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} begins as text in {encoding.upper()} but is damaged; save it as UTF-8.") from error


def _unmarked(data: bytes, path: Path | str) -> Decoded:
    """Every second byte of English in UTF-16 is zero; no other text has one."""
    start = data[:64]
    if len(start) > 3 and (not any(start[0::2]) or not any(start[1::2])) and any(start):
        raise InputError(f"{path} seems to be UTF-16 without a byte order mark; save it as UTF-8.")
    try:
        return Decoded(data.decode("utf-8"), b"", "utf-8")
    except UnicodeDecodeError:
        return Decoded(data.decode("latin-1"), b"", "latin-1")


def lines(text: str) -> Iterator[str]:
    r"""The lines with their ends: \n, \r\n or \r, and no other sign that Unicode calls a line's end.

    One after the other: all lines of a large file at once would take many times its size.
    """
    return (found[0] for found in re.finditer(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+", text))


def shortest(vertices: np.ndarray) -> list[list[str]]:
    """Coordinates in as few digits as give the same float64 back."""
    return [[repr(x).removesuffix(".0") for x in point] for point in vertices.tolist()]

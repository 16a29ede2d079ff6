"""The text of files in any encoding: meshes, materials, JSON."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .errors import InputError

_MARKS = {  # UTF-32 comes before UTF-16, whose mark is the beginning of UTF-32's.
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


class Decoded(NamedTuple):
    """The text of a file, with the byte order mark and the encoding that the file has."""

    text: str
    mark: bytes
    encoding: str

    def encode(self, text: str) -> bytes:
        """The bytes of another text, with the file's mark and in its encoding."""
        return self.mark + text.encode(self.encoding)


def decode(data: bytes, path: Path | str) -> Decoded:
    """The text of a file from its bytes: in the encoding of its byte order mark, else in UTF-8, else in Latin-1.

    Raises InputError for bytes that are not what the mark says, and for UTF-16 without a mark.
    """
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    encoding = _MARKS.get(mark, "utf-8")
    try:
        return Decoded(data[len(mark) :].decode(encoding), mark, encoding) if mark else _unmarked(data, path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} begins as text in {encoding.upper()} but is damaged; save it as UTF-8.") from error


def _unmarked(data: bytes, path: Path | str) -> Decoded:
    """The text of bytes without a mark. Raises InputError if every second byte is zero, as in English in UTF-16."""
    start = data[:64]
    if len(start) > 3 and (not any(start[0::2]) or not any(start[1::2])) and any(start):
        raise InputError(f"{path} seems to be UTF-16 without a byte order mark; save it as UTF-8.")
    try:
        return Decoded(data.decode("utf-8"), b"", "utf-8")
    except UnicodeDecodeError:
        return Decoded(data.decode("latin-1"), b"", "latin-1")


def lines(text: str) -> Iterator[str]:
    r"""The lines of a text with their ends: \n, \r\n or \r, and none of the other line ends of Unicode.

    They come one after the other, since all lines of a large file at once would take many times its size.
    """
    return (found[0] for found in re.finditer(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+", text))


def shortest(vertices: np.ndarray) -> list[list[str]]:
    """Coordinates (V, 3) as text, with as few digits as identify the float64."""
    return [[repr(x).removesuffix(".0") for x in point] for point in vertices.tolist()]

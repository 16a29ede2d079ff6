"""STL files (stereolithography), in text and binary: triangles alone, each with corners of its own."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np

from ..errors import InputError, shown
from ..files import read_bytes
from ..text import decode, lines

_HEADER = 84  # bytes of a binary file before its triangles: a text, and their number
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")])


def read_stl(path: Path) -> np.ndarray:
    """(F, 3, 3) float64: the corners of the triangles, of all solids in the file."""
    data = read_bytes(path)
    count = int.from_bytes(data[80:_HEADER], "little")
    size = _HEADER + count * _TRIANGLE.itemsize
    if len(data) == size:
        return np.frombuffer(data, _TRIANGLE, count, _HEADER)["corners"].astype(np.float64)
    text = decode(data, path).text
    if text.lstrip()[:5].lower() != "solid":
        raise InputError(
            f"{path} is damaged or no STL file: for the {count} triangles that it names it should have {size} bytes, "
            f"not {len(data)}; export it anew."
        )
    return _from_text(path, text)


def _from_text(path: Path, text: str) -> np.ndarray:
    corners = array("d")
    within = None  # how many numbers there were when the solid or the triangle began; None outside solids
    for line in lines(text):
        words = line.lower().split()
        try:
            match words:
                case [] | ["outer", "loop"]:
                    pass
                case ["solid", *_] if within is None:
                    within = len(corners)
                case ["facet", *_] if within == len(corners):
                    pass
                case ["vertex", x, y, z] if within is not None:
                    corners.extend((float(x), float(y), float(z)))
                case ["endloop" | "endfacet"] if within is not None and len(corners) - within in (0, 9):
                    within = len(corners)
                case ["endsolid", *_] if within == len(corners):
                    within = None
                case _:
                    raise ValueError
        except ValueError as error:
            raise InputError(f"{path} has a line that is not valid STL: {shown(line.strip())}.") from error
    if within is not None:
        raise InputError(f"{path} is damaged: it ends within a solid; export it anew.")
    return np.array(corners).reshape(-1, 3, 3)

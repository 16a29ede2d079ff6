"""PLY files (Stanford polygon format), in text and binary: polygons of any kind, colours, texture coordinates."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from ..errors import InputError, shown
from ..mesh import Mesh
from ..text import decode, lines

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float32": "f4", "float64": "f8"},
}
Values = dict[str, np.ndarray | list[np.ndarray]]  # of an element's properties: one array, or lists row by row


@dataclass
class Element:
    """What the header says of an element: each property's type of numbers, and of its length where it is a list."""

    name: str
    count: int
    properties: dict[str, tuple[str, str | None]] = field(default_factory=dict)


@dataclass
class PlyFile:
    """The elements of a file, and the image that a comment of it names."""

    elements: dict[str, Values]
    image: str | None
    types: dict[str, dict[str, str]]

    def kinds(self, element: str, names: tuple[str, ...]) -> list[str]:
        """The types of numbers of properties, as numpy calls them."""
        return [self.types[element][name] for name in names]

    def numbers(self, element: str, names: tuple[str, ...]) -> np.ndarray | None:
        """(count, len(names)) of single numbers, in their own type; None where one is missing."""
        found = [self.elements.get(element, {}).get(name) for name in names]
        arrays = [array for array in found if isinstance(array, np.ndarray)]
        return np.column_stack(arrays) if len(arrays) == len(names) else None

    def lists(self, element: str, *names: str) -> list[np.ndarray] | None:
        """(rows, length) for rows whose lists have the same length, one after the other, by the first of the names that
        there is; None where there is none."""
        found = (self.elements.get(element, {}).get(name) for name in names)
        return next((parts for parts in found if isinstance(parts, list)), None)

    def polygons(self, path: Path) -> list[list[int]]:
        """The corners of each face."""
        parts = self.lists("face", "vertex_indices", "vertex_index") or []
        if any(part.dtype.kind == "f" and (part != np.floor(part)).any() for part in parts):  # NaN too
            raise InputError(f"{path} has a face with a corner that is no whole number; export it anew.")
        if not all(np.isfinite(part).all() for part in parts):
            raise InputError(f"{path} has a face with a vertex that does not exist.")
        return [[int(index) for index in row] for part in parts for row in part.tolist()]


def read_ply(path: Path, data: bytes) -> PlyFile:
    """What is in the bytes of the file path; nothing is taken into memory that the file does not hold."""
    if not data.startswith(b"ply"):
        data = decode(data, path).text.encode()  # marked text: a file in text from beginning to end
    end = re.search(rb"end_header[ \t]*(\r\n|\n|\r)", data)
    if not re.match(rb"ply\s", data) or end is None:
        raise InputError(f"{path} is no PLY file; export it anew.")
    order, elements, image = _header(path, decode(data[: end.start()], path).text)
    body: bytes | memoryview = memoryview(data)[end.end() :]
    types = {element.name: {name: kind for name, (kind, _) in element.properties.items()} for element in elements}
    found, at = {}, 0
    try:
        if order is None:
            body, order = np.array([float(word) for word in bytes(body).split()], dtype="<f8").tobytes(), "<"
            for element in elements:
                element.properties = {n: ("f8", length and "f8") for n, (_, length) in element.properties.items()}
        for element in elements:
            found[element.name], at = _read(body, at, element, order)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path} is damaged: it does not hold the numbers that its header names.") from error
    return PlyFile(found, image, types)


def _header(path: Path, text: str) -> tuple[str | None, list[Element], str | None]:
    """The byte order (None: text), the elements, the image."""
    order: str | None = ""
    elements: list[Element] = []
    image = None
    for line in islice(lines(text), 1, None):
        words = line.split()
        try:
            match words:
                case ["format", kind, _]:
                    order = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}[kind]
                case ["element", name, count]:
                    elements.append(Element(name, int(count)))
                    if elements[-1].count < 0:
                        raise ValueError
                case ["property", "list", length, kind, name]:
                    elements[-1].properties[name] = (_TYPES[kind], _TYPES[length])
                case ["property", kind, name]:
                    elements[-1].properties[name] = (_TYPES[kind], None)
                case ["comment" | "obj_info", *_]:
                    if found := re.search("texturefile(.*)", line, re.IGNORECASE):
                        image = found[1].strip()
                case []:
                    pass
                case _:
                    raise ValueError
        except (ValueError, KeyError, IndexError) as error:
            raise InputError(f"{path} has a header line that is not valid PLY: {shown(line.strip())}.") from error
    if order == "":
        raise InputError(f"{path} does not say its format in its header; export it anew.")
    return order, elements, image


def _read(body: bytes | memoryview, at: int, element: Element, order: str) -> tuple[Values, int]:
    """The element's values from byte `at` on, and where it ends. ValueError where the bytes are too few."""
    parts: list[np.ndarray] = []  # rows whose lists have the same lengths
    left, most = element.count if element.properties else 0, element.count
    if any(length for _, length in element.properties.values()):
        most = 1  # rows looked at together: twice as many wherever all were alike
    while left:
        kind = _row(body, at, element, order)
        rows = np.frombuffer(body, kind, min(left, most, (len(body) - at) // kind.itemsize), at)
        unlike = np.zeros(len(rows), dtype=bool)
        for name, (_, length) in element.properties.items():
            if length:
                unlike |= rows[f"{name} length"] != kind[name].shape[0]
        alike = int(unlike.argmax()) if unlike.any() else len(rows)
        if alike == 0:  # a length that is no whole number
            raise ValueError
        most = 2 * most if alike == len(rows) else 1
        parts.append(rows[:alike])
        left, at = left - alike, at + alike * kind.itemsize
    return {
        name: [part[name] for part in parts]
        if length
        else np.concatenate([part[name] for part in parts] or [np.empty(0)])
        for name, (_, length) in element.properties.items()
    }, at


def _row(body: bytes | memoryview, at: int, element: Element, order: str) -> np.dtype:
    """How the row at byte `at` lies in memory."""
    fields: list[tuple] = []
    size = 0
    for name, (kind, length) in element.properties.items():
        if not length:
            fields.append((name, order + kind))
            size += np.dtype(kind).itemsize
            continue
        count = int(np.frombuffer(body, order + length, 1, at + size)[0])
        size += np.dtype(length).itemsize + count * np.dtype(kind).itemsize
        if count < 0 or at + size > len(body):
            raise ValueError
        fields += [(f"{name} length", order + length), (name, order + kind, (count,))]
    return np.dtype(fields)


def ply_mesh(path: Path, file: PlyFile) -> tuple[np.ndarray, list[list[int]]]:
    """(V, 3) float64 vertices, and the polygons."""
    vertices = file.numbers("vertex", ("x", "y", "z"))
    if vertices is None:
        raise InputError(f"{path} has no vertices; export it anew.")
    return vertices.astype(np.float64), file.polygons(path)


def ply_bytes(mesh: Mesh) -> bytes:
    """The mesh as a binary file, its coordinates as they are: double."""
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(mesh.vertices)}"]
    header += [f"property double {axis}" for axis in "xyz"]
    header += [f"element face {len(mesh.faces)}", "property list uchar int vertex_indices", "end_header\n"]
    faces = np.zeros(len(mesh.faces), dtype=[("count", "u1"), ("corners", "<i4", (3,))])
    faces["count"], faces["corners"] = 3, mesh.faces
    return "\n".join(header).encode() + mesh.vertices.astype("<f8").tobytes() + faces.tobytes()

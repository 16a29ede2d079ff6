"""Wavefront OBJ files: read and written here so that vertices keep their order and other lines stay as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import InputError, shown
from ..files import read_text
from ..mesh import Mesh
from ..text import Decoded, lines, shortest
from .polygons import triangles


def read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) float64 and (F, 3) int64. Indices in the file count from 1, negative ones from the newest vertex."""
    coordinates: list[tuple[float, float, float]] = []
    polygons: list[list[int]] = []
    for statement in obj_statements(read_text(path).text):
        words = obj_words(statement)
        if not words or words[0] not in ("v", "f"):
            continue
        try:
            if words[0] == "v":
                coordinates.append((float(words[1]), float(words[2]), float(words[3])))
                continue
            corners = [int(word.partition("/")[0]) for word in words[1:]]
        except (ValueError, IndexError) as error:
            raise not_valid(path, statement) from error
        if min(corners, default=1) < 0:
            corners = [index if index > 0 else len(coordinates) + 1 + index for index in corners]
        if min(corners, default=1) < 1:
            raise InputError(f"{path} has a face with a vertex that does not exist: {shown(obj_line(statement))}.")
        polygons.append([index - 1 for index in corners])
    vertices = np.array(coordinates, dtype=np.float64).reshape(-1, 3)
    return vertices, triangles(path, vertices, polygons)


def obj_statements(text: str) -> Iterator[str]:
    """The statements, a line each, with the line ends; a line that ends in a backslash goes on."""
    parts: list[str] = []
    for line in lines(text):
        parts.append(line)
        if not line.rstrip("\r\n").endswith("\\"):
            yield "".join(parts)
            parts = []
    if parts:
        yield "".join(parts)


def obj_words(statement: str) -> list[str]:
    """The words of a statement without its comment; the first says what it is."""
    return obj_line(statement).partition("#")[0].split()


def obj_line(statement: str) -> str:
    """A statement in one line, with its comment: names may hold the sign that begins one."""
    return re.sub(r"\\(\r\n|\n|\r|$)", " ", statement).strip()


def not_valid(path: Path, statement: str) -> InputError:
    """The error for a statement that cannot be read."""
    return InputError(f"{path} has a line that is not valid OBJ: {shown(obj_line(statement))}.")


def obj_text(mesh: Mesh) -> str:
    """The mesh as a file of its own."""
    statements = [f"v {' '.join(point)}" for point in shortest(mesh.vertices)]
    statements += [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    return "\n".join(statements) + "\n"


def obj_like(like: Path, mesh: Mesh) -> bytes:
    """The bytes of the file `like`, with the coordinates of a mesh."""
    source = read_text(like)
    statements, indices = _vertex_statements(like, source, len(mesh.vertices))
    for index, point in zip(indices, shortest(mesh.vertices), strict=True):
        statement = statements[index]
        body, sign, comment = obj_line(statement).partition("#")
        rest = body.split()[4:]  # A weight or a colour may follow the coordinates.
        ending = statement[len(statement.rstrip("\r\n")) :]
        statements[index] = " ".join(["v", *point, *rest, *([sign + comment] if sign else [])]) + ending
    return source.encode("".join(statements))


def check_like(like: Path, count: int) -> None:
    """Raises InputError unless the file `like` has `count` vertices."""
    _vertex_statements(like, read_text(like), count)


def _vertex_statements(like: Path, source: Decoded, count: int) -> tuple[list[str], list[int]]:
    """The statements of a file and the indices of its vertices. Raises InputError unless there are `count`."""
    statements = list(obj_statements(source.text))
    indices = [index for index, statement in enumerate(statements) if obj_words(statement)[:1] == ["v"]]
    if len(indices) != count:
        raise InputError(
            f"{like} has {len(indices)} vertices but the fitted mesh has {count}; name the file it started from."
        )
    return statements, indices

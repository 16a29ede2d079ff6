"""OFF files (Geomview's object file format), in text."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..mesh import Mesh
from .files import read_text
from .polygons import triangles
from .text import lines, shortest


def read_off(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) float64 and (F, 3) int64; colours, normals and texture coordinates are left out."""
    rows = [words for line in lines(read_text(path).text) if (words := line.partition("#")[0].split())]
    if rows and re.fullmatch("(ST)?C?N?OFF", rows[0][0]):
        rows[:1] = [rows[0][1:]] if rows[0][1:] else []
    elif not rows or not re.fullmatch("[0-9]+", rows[0][0]):  # the word itself may be missing
        raise InputError(f"{path} is no OFF file of points in space, in text; export it anew.")
    try:
        points, faces = int(rows[0][0]), int(rows[0][1])
        if points < 0 or faces < 0 or len(rows) < 1 + points + faces:
            raise InputError(f"{path} names {points} vertices and {faces} faces and has {len(rows) - 1} lines of them.")
        vertices = np.array([[float(x) for x in row[:3]] for row in rows[1 : 1 + points]], dtype=np.float64)
        polygons = []
        for row in rows[1 + points : 1 + points + faces]:
            polygon = [int(index) for index in row[1 : 1 + int(row[0])]]
            if len(polygon) != int(row[0]):
                raise ValueError
            polygons.append(polygon)
    except InputError:
        raise
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} is damaged: a line of it does not hold the numbers that it needs.") from error
    return vertices.reshape(-1, 3), triangles(path, vertices, polygons)


def off_text(mesh: Mesh) -> str:
    """The mesh as a file."""
    rows = [" ".join(point) for point in shortest(mesh.vertices)]
    rows += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    return "\n".join(["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0", *rows]) + "\n"

"""OFF files (Geomview's object file format), in text."""

from __future__ import annotations

import re
import sys
from itertools import islice
from pathlib import Path

import numpy as np

from ..errors import InputError, shown
from ..files import read_text
from ..mesh import Mesh
from ..text import lines, shortest
from .polygons import triangles


def read_off(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) float64 and (F, 3) int64; colours, normals and texture coordinates are left out."""
    rows = (words for line in lines(read_text(path).text) if (words := line.partition("#")[0].split()))
    first = next(rows, [""])
    if re.fullmatch("(ST)?C?N?OFF", first[0]):
        first = first[1:] or next(rows, [])
    elif not re.fullmatch("[0-9]+", first[0]):  # the word itself may be missing
        raise InputError(f"{path} is no OFF file of points in space, in text; export it anew.")
    try:
        points, faces = int(first[0]), int(first[1])
        if points < 0 or faces < 0:
            raise InputError(f"{path} names {shown(points)} vertices and {shown(faces)} faces; export it anew.")
        coordinates = [(float(x), float(y), float(z)) for x, y, z, *_ in islice(rows, min(points, sys.maxsize))]
        polygons = []
        for row in islice(rows, min(faces, sys.maxsize)):
            polygon = [int(index) for index in row[1 : 1 + int(row[0])]]
            if len(polygon) != int(row[0]):
                raise ValueError
            polygons.append(polygon)
    except InputError:
        raise
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} is damaged: a line of it does not hold the numbers that it needs.") from error
    if (found := len(coordinates) + len(polygons)) < points + faces:
        names = f"{shown(points)} vertices and {shown(faces)} faces"
        raise InputError(f"{path} names {names} and has {found} lines of them.")
    vertices = np.array(coordinates, dtype=np.float64).reshape(-1, 3)
    return vertices, triangles(path, vertices, polygons)


def off_text(mesh: Mesh) -> str:
    """The mesh as a file."""
    rows = [" ".join(point) for point in shortest(mesh.vertices)]
    rows += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    return "\n".join(["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0", *rows]) + "\n"

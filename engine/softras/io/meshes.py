"""Mesh files.

OBJ files are read and written here so that vertices keep their order and a refined file keeps every line
that is not a coordinate; other formats go through trimesh.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..mesh import Mesh
from .files import write_bytes

SUFFIXES = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
_WELDED = (".stl", ".glb", ".gltf")


def load_mesh(path: Path | str) -> Mesh:
    """The mesh in an OBJ, PLY, STL, OFF, GLB or glTF file, polygons as fans of triangles.

    Vertices keep their order and number, loose ones too. Only STL, GLB and glTF are welded: they hold a vertex once
    for each face or texture seam that meets there, and a fit would tear the mesh apart.
    Raises InputError when the file is missing, damaged, or has no faces.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the mesh file {path} does not exist.")
    if _suffix(path) == ".obj":
        return _named(path, *_read_obj(path))
    import trimesh

    try:
        loaded = trimesh.load_mesh(path, process=False)
        if _suffix(path) in _WELDED:
            loaded.merge_vertices(merge_tex=True, merge_norm=True)
        return _named(path, loaded.vertices, loaded.faces)
    except InputError:
        raise
    except Exception as error:  # trimesh raises whatever its parsers raise
        raise InputError(f"the mesh file {path} cannot be read ({error}); export it anew.") from error


def save_mesh(path: Path | str, mesh: Mesh, like: Path | str | None = None) -> None:
    """Write mesh to path; the format follows the suffix.

    Args:
        like: the OBJ file the mesh was refined from. Where path is an OBJ too, every line of it is kept
            (texture coordinates, groups, polygons, materials) and only the coordinates are replaced.

    Raises InputError when the file cannot be written.
    """
    path = Path(path)
    suffix = check_suffix(path)
    if suffix == ".obj":
        if like is not None and _suffix(Path(like)) == ".obj":
            write_bytes(path, _obj_like(Path(like), mesh))
        else:
            write_bytes(path, _obj(mesh))
        return
    import trimesh

    data = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(file_type=suffix[1:])
    if isinstance(data, dict):  # glTF in several files
        raise InputError(f"cannot write {path}: glTF in separate files is not written; use .glb.")
    write_bytes(path, data.encode() if isinstance(data, str) else data)


def check_suffix(path: Path | str) -> str:
    """The suffix of a mesh file that can be read or written, in lower case; InputError for another."""
    return _suffix(Path(path))


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"the mesh format of {path.name} is not known; use one of {', '.join(SUFFIXES)}.")
    return suffix


def _named(path: Path, vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    try:
        return Mesh(vertices, faces)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) float64 and (F, 3) int64. Wavefront OBJ: indices count from 1, negative ones from the newest vertex."""
    coordinates: list[tuple[float, float, float]] = []
    triangles: list[tuple[int, int, int]] = []
    text = path.read_bytes().decode("utf-8", "replace").replace("\\\n", " ").replace("\\\r\n", " ")
    for line in text.splitlines():
        words = line.split()
        if not words or words[0] not in ("v", "f"):
            continue
        try:
            if words[0] == "v":
                coordinates.append((float(words[1]), float(words[2]), float(words[3])))
                continue
            corners = [int(word.partition("/")[0]) for word in words[1:]]
        except (ValueError, IndexError) as error:
            raise InputError(f"{path} has a line that is not valid OBJ: '{line.strip()[:60]}'.") from error
        if min(corners, default=1) < 0:
            corners = [index if index > 0 else len(coordinates) + 1 + index for index in corners]
        if 0 in corners or min(corners, default=1) < 1:
            raise InputError(f"{path} has a face with a vertex index that does not exist: '{line.strip()[:60]}'.")
        first = corners[0] - 1 if corners else 0
        triangles += [(first, b - 1, c - 1) for b, c in pairwise(corners[1:])]
    return np.array(coordinates, dtype=np.float64).reshape(-1, 3), np.array(triangles, dtype=np.int64).reshape(-1, 3)


def _obj(mesh: Mesh) -> bytes:
    lines = [_vertex(*point) for point in mesh.vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    return ("\n".join(lines) + "\n").encode()


def _obj_like(like: Path, mesh: Mesh) -> bytes:
    try:
        lines = like.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"cannot read {like}: {(error.strerror or str(error)).lower()}.") from error
    places = [number for number, line in enumerate(lines) if line.split(maxsplit=1)[:1] == [b"v"]]
    if len(places) != len(mesh.vertices):
        raise InputError(
            f"{like} has {len(places)} vertices but the fitted mesh has {len(mesh.vertices)}; "
            "name the file it started from."
        )
    for number, point in zip(places, mesh.vertices.tolist(), strict=True):
        rest = b" ".join(lines[number].split()[4:])  # a weight or a colour
        ending = b"\r" if lines[number].endswith(b"\r") else b""
        lines[number] = _vertex(*point).encode() + (b" " + rest if rest else b"") + ending
    return b"\n".join(lines)


def _vertex(x: float, y: float, z: float) -> str:
    return f"v {x:.9g} {y:.9g} {z:.9g}"

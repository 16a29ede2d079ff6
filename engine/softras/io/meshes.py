"""Mesh files.

OBJ files are read and written here so that vertices keep their order and a refined file keeps every line
that is not a coordinate; other formats go through trimesh.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..mesh import Mesh
from .files import write_bytes
from .polygons import triangulate

SUFFIXES = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
_WELDED = (".stl", ".glb", ".gltf")


def load_mesh(path: Path | str) -> Mesh:
    """The mesh in an OBJ, PLY, STL, OFF, GLB or glTF file; polygons become triangles, of an OBJ concave ones too.

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
    suffix = check_target(path)
    if suffix == ".obj":
        write_bytes(path, _obj(mesh) if like is None or _suffix(Path(like)) != ".obj" else _obj_like(Path(like), mesh))
        return
    import trimesh

    data = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(file_type=suffix[1:])
    assert not isinstance(data, dict)  # glTF only
    write_bytes(path, data.encode() if isinstance(data, str) else data)


def check_target(path: Path | str, mesh: Mesh | None = None, like: Path | str | None = None) -> str:
    """The suffix of path in lower case; InputError where `save_mesh` of the refined mesh could not write it.

    Args:
        mesh: the start, if `like` is to be checked too.
    """
    path = Path(path)
    suffix = _suffix(path)
    if suffix == ".gltf":
        raise InputError(f"cannot write {path}: glTF in separate files is not written; use .glb.")
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; give a file name.")
    if mesh is not None and like is not None and suffix == _suffix(Path(like)) == ".obj":
        _places(Path(like), obj_statements(Path(like)), len(mesh.vertices))
    return suffix


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
    polygons: list[list[int]] = []
    for statement in obj_statements(path):
        words = obj_words(statement)
        if not words or words[0] not in (b"v", b"f"):
            continue
        try:
            if words[0] == b"v":
                coordinates.append((float(words[1]), float(words[2]), float(words[3])))
                continue
            corners = [int(word.partition(b"/")[0]) for word in words[1:]]
        except (ValueError, IndexError) as error:
            raise InputError(f"{path} has a line that is not valid OBJ: '{_shown(statement)}'.") from error
        if min(corners, default=1) < 0:
            corners = [index if index > 0 else len(coordinates) + 1 + index for index in corners]
        if min(corners, default=1) < 1:
            raise InputError(f"{path} has a face with a vertex index that does not exist: '{_shown(statement)}'.")
        if len(corners) > 2:
            polygons.append([index - 1 for index in corners])
    if max(map(max, polygons), default=-1) >= len(coordinates):
        raise InputError(f"{path} has a face with a vertex that does not exist; it has {len(coordinates)} vertices.")
    vertices = np.array(coordinates, dtype=np.float64).reshape(-1, 3)
    return vertices, triangulate(vertices, polygons)


def obj_statements(path: Path) -> list[bytes]:
    """The statements of an OBJ file, a line each, with the line ends; a line that ends in a backslash goes on."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)  # of bytes: at \n, \r\n and \r only
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}.") from error
    statements: list[bytes] = []
    goes_on = False
    for line in lines:
        if goes_on:
            statements[-1] += line
        else:
            statements.append(line)
        goes_on = line.rstrip(b"\r\n").endswith(b"\\")
    return statements


def obj_words(statement: bytes) -> list[bytes]:
    """The words of a statement; the first says what it is."""
    return statement.replace(b"\\", b" ").split()


def _shown(statement: bytes) -> str:
    return b" ".join(obj_words(statement)).decode("utf-8", "replace")[:60]


def _obj(mesh: Mesh) -> bytes:
    lines = [_vertex(*point) for point in mesh.vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    return ("\n".join(lines) + "\n").encode()


def _obj_like(like: Path, mesh: Mesh) -> bytes:
    statements = obj_statements(like)
    for place, point in zip(_places(like, statements, len(mesh.vertices)), mesh.vertices.tolist(), strict=True):
        statement = statements[place]
        rest = obj_words(statement)[4:]  # a weight or a colour
        ending = statement[len(statement.rstrip(b"\r\n")) :]
        statements[place] = b" ".join([_vertex(*point).encode(), *rest]) + ending
    return b"".join(statements)


def _places(like: Path, statements: list[bytes], count: int) -> list[int]:
    """Which statements are vertices; InputError unless they are that many."""
    places = [number for number, statement in enumerate(statements) if obj_words(statement)[:1] == [b"v"]]
    if len(places) != count:
        raise InputError(
            f"{like} has {len(places)} vertices but the fitted mesh has {count}; name the file it started from."
        )
    return places


def _vertex(x: float, y: float, z: float) -> str:
    return f"v {x:.9g} {y:.9g} {z:.9g}"

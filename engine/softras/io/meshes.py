"""Mesh files: each format by its reader; STL and GLB are written by trimesh."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np

from ..errors import InputError
from ..files import check_replaceable, is_file, read_bytes, write_bytes
from ..mesh import Mesh
from .gltf import read_gltf
from .obj import check_like, obj_like, obj_text, read_obj
from .off import off_text, read_off
from .ply import ply_bytes, ply_mesh, read_ply
from .polygons import triangles
from .stl import read_stl

SUFFIXES = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
_ROUNDED = (
    "holds float32, which rounds coordinates so far from the origin by more than a millionth of the mesh's size; "
    "use .ply or .obj, or move the mesh to the origin."
)


def load_mesh(path: Path | str, allow: Sequence[Path | str] = ()) -> Mesh:
    """The mesh in an OBJ, PLY, STL, OFF, GLB or glTF file; polygons become triangles, concave ones too.

    Vertices keep their order and number, loose ones too. Only STL, GLB and glTF are welded: they hold a vertex once
    for each face or texture seam that meets there, and a fit would tear the mesh apart. Text is in UTF-8, in UTF-16 or
    UTF-32 with a byte order mark, or in Latin-1.
    Of glTF in several files, those in the folder of the mesh are read, or in folders of allow.
    Raises InputError when the file is missing, damaged, or has no faces.
    """
    path = Path(path)
    if not is_file(path):
        raise InputError(f"the mesh file {path} does not exist.")
    suffix = _suffix(path)
    if suffix == ".obj":
        return _named(path, *read_obj(path))
    if suffix == ".off":
        return _named(path, *read_off(path))
    if suffix == ".ply":
        vertices, polygons = ply_mesh(path, read_ply(path, read_bytes(path)))
        return _named(path, vertices, triangles(path, vertices, polygons))
    if suffix == ".stl":
        vertices = read_stl(path).reshape(-1, 3)
        faces = np.arange(len(vertices)).reshape(-1, 3)
    else:
        found = read_gltf(path, allow)
        vertices, faces = found.vertices, found.faces
    return _named(path, *_welded(vertices, triangles(path, vertices, faces)))


def _welded(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mesh in which vertices that coincide are one vertex, without vertices in no face; the order stays.

    Coordinates are compared to the bit: a file that repeats a vertex repeats its numbers, at any scale.
    """
    used, corners = np.unique(faces, return_inverse=True)
    order = np.lexsort(vertices[used].T)  # Of equal ones, the first stays first.
    points = vertices[used][order]
    new = np.concatenate([[True], (points[1:] != points[:-1]).any(axis=1)])
    group = np.empty(len(used), dtype=np.int64)
    group[order] = np.cumsum(new) - 1
    kept = order[new]
    rank = np.argsort(np.argsort(kept))
    return vertices[used][np.sort(kept)], rank[group][corners.reshape(-1, 3)]


def save_mesh(path: Path | str, mesh: Mesh, like: Path | str | None = None) -> None:
    """Write mesh to path; the format follows the suffix.

    Args:
        like: the OBJ file the mesh was refined from. Where path is an OBJ too, every line of it is kept
            (texture coordinates, groups, polygons, materials) and only the coordinates are replaced.

    OBJ, OFF and PLY files keep each coordinate to the last bit. STL and GLB hold float32: far from the origin that is
    coarse, and a warning says so where it is coarser than a millionth of the mesh's size.
    Raises InputError when the file cannot be written.
    """
    path = Path(path)
    suffix = check_target(path)
    if suffix == ".obj":
        write_bytes(path, obj_like(Path(like), mesh) if _is_obj(like) else obj_text(mesh).encode())
    elif suffix == ".off":
        write_bytes(path, off_text(mesh).encode())
    elif suffix == ".ply":
        write_bytes(path, ply_bytes(mesh))
    else:
        import trimesh

        if not _fits_float32(mesh):
            warnings.warn(f"{path} {_ROUNDED}", stacklevel=2)
        data = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(file_type=suffix[1:])
        assert isinstance(data, bytes)
        write_bytes(path, data)


def check_target(path: Path | str, mesh: Mesh | None = None, like: Path | str | None = None) -> str:
    """The suffix of path in lower case; InputError where `save_mesh` of the refined mesh could not write it.

    Args:
        mesh: the start, if `like` and the precision of its coordinates are to be checked too.
    """
    path = Path(path)
    suffix = _suffix(path)
    if suffix == ".gltf":
        raise InputError(f"cannot write {path}: glTF in separate files is not written; use .glb.")
    check_replaceable(path)
    if mesh is not None and suffix == ".obj" and _is_obj(like):
        check_like(Path(like), len(mesh.vertices))
    if mesh is not None and suffix in (".stl", ".glb") and not _fits_float32(mesh):
        raise InputError(f"{path} {_ROUNDED}")
    return suffix


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"the mesh format of {path.name} is not known; use one of {', '.join(SUFFIXES)}.")
    return suffix


def _is_obj(like: Path | str | None) -> TypeGuard[Path | str]:
    return like is not None and _suffix(Path(like)) == ".obj"


def _fits_float32(mesh: Mesh) -> bool:
    """Whether coordinates in single precision are as good as a millionth of the mesh's size."""
    with np.errstate(over="ignore", invalid="ignore"):
        lost = np.abs(mesh.vertices - mesh.vertices.astype(np.float32)).max()
    return bool(lost <= 1e-6 * np.ptp(mesh.vertices, axis=0).max())


def _named(path: Path, vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    try:
        return Mesh(vertices, faces)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error

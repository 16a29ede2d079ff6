"""Meshes with their colours: texture coordinates and image, or colours of vertices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..files import inside, is_file, read_bytes, read_text
from ..mesh import Mesh
from .gltf import read_gltf
from .images import read_texture
from .meshes import load_mesh
from .obj import not_valid, obj_line, obj_statements, obj_words
from .ply import read_ply
from .polygons import triangulate

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(eq=False)
class TexturedMesh:
    """A mesh and what the file says of its colours; None for what it does not say.

    Attributes:
        mesh: as `load_mesh` has it.
        uv: (T, 2) float64 texture coordinates, (0, 0) at the image's bottom left corner, v up, (1, 1) top right.
        uv_faces: (F, 3) int32 which of them each corner of each face has; -1 where it has none.
        texture: (H, W, 3) float32 colours in 0..1 as they are stored, row 0 on top (v = 1).
        colors: (V, 3) float32 colours of the vertices in 0..1.
    """

    mesh: Mesh
    uv: np.ndarray | None = None
    uv_faces: np.ndarray | None = None
    texture: np.ndarray | None = None
    colors: np.ndarray | None = None


def load_texture(path: Path | str) -> Tensor:
    """(H, W, 3) float32 colours of an image file in 0..1 as they are stored, row 0 on top; alpha is left out.

    Raises InputError when the file is missing or is no image.
    """
    import torch  # which the readers of meshes do without

    return torch.from_numpy(read_texture(path))


def load_textured_mesh(path: Path | str, allow: Sequence[Path | str] = ()) -> TexturedMesh:
    """The mesh in a file with its colours, for any format that `load_mesh` reads.

    Of an OBJ file the image is the `map_Kd` of the materials that its faces use; without its material file it has
    none; of a PLY file the image is its `TextureFile`. Of OFF and STL files colours are not read. Images and material
    files are read from the folder of the mesh, from folders in it, or from those that are allowed.

    Args:
        path: of the file.
        allow: folders outside that of the mesh that it may name images and material files in.

    Raises InputError as `load_mesh`, and when an image is missing or the faces use several.
    """
    path = Path(path)
    mesh = load_mesh(path, allow)
    match path.suffix.lower():
        case ".obj":
            return _from_obj(path, mesh, allow)
        case ".ply":
            return _from_ply(path, mesh, allow)
        case ".glb" | ".gltf":
            return _from_gltf(path, mesh, allow)
    return TexturedMesh(mesh)


def _from_obj(path: Path, mesh: Mesh, allow: Sequence[Path | str]) -> TexturedMesh:
    """load_mesh has found the file to be valid but for its texture coordinates."""
    uv: list[list[float]] = []
    colors: list[list[float]] = []
    polygons: list[list[int]] = []  # of vertices
    corner_uv: list[int] = []
    libraries: list[str] = []
    used: dict[str, None] = {}  # materials of faces, in order
    material = ""
    vertices = 0
    for statement in obj_statements(read_text(path).text):
        kind, *rest = obj_words(statement) or [""]
        try:
            if kind == "v":
                vertices += 1
                colors.append([float(x) for x in rest[3:6]])
            elif kind == "vt":
                uv.append([float(rest[0]), float(rest[1])])
            elif kind == "f":
                corners = [word.split("/") for word in rest]
                polygons.append([_from_zero(int(corner[0]), vertices) for corner in corners])
                corner_uv += [_from_zero(int(c[1]), len(uv)) if len(c) > 1 and c[1] else -1 for c in corners]
                used[material] = None
            elif kind in ("mtllib", "usemtl"):
                name = obj_line(statement)[len(kind) :].strip()  # a name may hold spaces, and the sign of a comment
                if kind == "mtllib":
                    libraries.append(name)
                else:
                    material = name
        except (ValueError, IndexError) as error:
            raise not_valid(path, statement) from error
    found = TexturedMesh(mesh)
    if uv:
        if not -1 <= min(corner_uv) <= max(corner_uv) < len(uv):
            raise InputError(f"{path} has a face with a texture coordinate that does not exist; it has {len(uv)}.")
        ends = np.cumsum([len(polygon) for polygon in polygons])
        flat = np.concatenate(polygons)
        ranges = [range(end - len(polygon), end) for end, polygon in zip(ends.tolist(), polygons, strict=True)]
        found.uv = np.array(uv)
        if not np.isfinite(found.uv).all():
            raise InputError(f"{path} has texture coordinates that are NaN or infinite.")
        found.uv_faces = np.array(corner_uv, dtype=np.int32)[triangulate(mesh.vertices[flat], ranges)]
        images = _obj_images(path, libraries, list(used), allow)
        if len(images) > 1:
            raise InputError(f"the faces of {path} use {len(images)} texture images; bake them into one.")
        found.texture = read_texture(images[0]) if images else None
    if all(len(color) == 3 for color in colors):
        found.colors = _colours(path, np.array(colors, dtype=np.float64).reshape(-1, 3))
    return found


def _from_zero(index: int, count: int) -> int:
    """An OBJ index counted from 0; negative ones count from the newest of `count`, and 0 is -2: there is none."""
    return index - 1 if index > 0 else count + index if index < 0 else -2


def _obj_images(path: Path, libraries: list[str], used: list[str], allow: Sequence[Path | str]) -> list[Path]:
    """The image files of used materials, each once."""
    images: dict[str, str] = {}
    files: dict[Path, None] = {}  # each once, whatever it is called
    for library in dict.fromkeys(libraries):
        named = [inside(path.parent, _slashes(name), allow) for name in _without_comment(library)]
        if found := next((file for file in named if is_file(file)), None):  # many go around without theirs
            files[found.resolve()] = None
    for file in files:
        material = ""
        for statement in obj_statements(read_text(file).text):
            kind, _, rest = obj_line(statement).replace("\t", " ").partition(" ")
            if kind == "newmtl":
                material = rest.strip()
            elif kind == "map_Kd":
                images[material] = rest
    known = {_without_comment(name)[-1]: text for name, text in images.items()} | images
    texts = [text for name in used for text in [known.get(name, known.get(_without_comment(name)[-1]))] if text]
    choices = [
        [inside(path.parent, _file_name(name), allow) for name in _without_comment(text)]
        for text in dict.fromkeys(texts)
    ]
    return list(dict.fromkeys(next((file for file in names if is_file(file)), names[-1]) for names in choices))


def _without_comment(name: str) -> list[str]:
    """A name as it stands, and without what may be a comment behind it."""
    short = name.partition(" #")[0].strip()
    return [name] if short in (name, "") else [name, short]


def _slashes(name: str) -> str:
    return name.replace("\\", "/")


def _file_name(rest: str) -> str:
    """The file that a texture statement names after its options, such as -s 1 1 1 or -clamp on."""
    parts = rest.split()
    while len(parts) > 1 and parts[0].startswith("-"):
        parts = parts[1:]
        while len(parts) > 1 and (parts[0] in ("on", "off") or parts[0].lstrip("+-").replace(".", "", 1).isdigit()):
            parts = parts[1:]
    return _slashes(" ".join(parts))


def _colours(path: Path, colors: np.ndarray) -> np.ndarray:
    """float32 of colours; InputError unless they lie in 0..1."""
    if not (colors >= 0).all() or not (colors <= 1).all():  # NaN is neither
        raise InputError(f"{path} has colours of vertices outside 0..1; export it anew.")
    return colors.astype(np.float32)


def _from_ply(path: Path, mesh: Mesh, allow: Sequence[Path | str]) -> TexturedMesh:
    """Texture coordinates of vertices, by one of the names in use, or of the corners of faces."""
    file = read_ply(path, read_bytes(path))
    found = TexturedMesh(mesh)
    polygons = file.polygons(path)
    corners = [row for part in file.lists("face", "texcoord") or [] for row in part.tolist()]
    for names in (("texture_u", "texture_v"), ("u", "v"), ("s", "t")):
        if found.uv is None and (uv := file.numbers("vertex", names)) is not None:
            found.uv, found.uv_faces = uv.astype(np.float64), mesh.faces
    if corners and [len(row) for row in corners] == [2 * len(polygon) for polygon in polygons]:
        flat = np.concatenate([np.array(polygon, dtype=np.int64) for polygon in polygons])
        ends = np.cumsum([len(polygon) for polygon in polygons]).tolist()
        ranges = [range(end - len(polygon), end) for end, polygon in zip(ends, polygons, strict=True)]
        found.uv = np.array([x for row in corners for x in row], dtype=np.float64).reshape(-1, 2)
        found.uv_faces = triangulate(mesh.vertices[flat], ranges).astype(np.int32)
    if found.uv is not None and not np.isfinite(found.uv).all():
        raise InputError(f"{path} has texture coordinates that are NaN or infinite.")
    if found.uv is not None and file.image:
        found.texture = read_texture(inside(path.parent, _slashes(file.image), allow))
    colors = file.numbers("vertex", ("red", "green", "blue"))
    if colors is not None:
        kinds = file.kinds("vertex", ("red", "green", "blue"))
        full = [1 if kind[0] == "f" else 65535 if kind == "u2" else 255 for kind in kinds]
        found.colors = _colours(path, colors / np.array(full))
    return found


def _from_gltf(path: Path, mesh: Mesh, allow: Sequence[Path | str]) -> TexturedMesh:
    """GLB and glTF hold a vertex once for each texture seam at it: what is not welded tells corners apart."""
    read = read_gltf(path, allow, image=True)
    found, uv = TexturedMesh(mesh), read.uv
    if uv is not None:
        if np.isinf(uv).any():
            raise InputError(f"{path} has texture coordinates that are infinite.")
        none = np.isnan(uv).any(axis=1)
        found.uv, found.uv_faces = np.where(none[:, None], 0, uv), np.where(none[read.faces], -1, read.faces)
        found.uv_faces = found.uv_faces.astype(np.int32)
        if read.images > 1:
            raise InputError(f"the faces of {path} use {read.images} texture images; bake them into one.")
        found.texture = None if read.image is None else read_texture(path, read.image)
    if read.colors is not None:
        found.colors = np.zeros((len(mesh.vertices), 3), dtype=np.float32)
        found.colors[mesh.faces] = _colours(path, read.colors)[read.faces]
    return found

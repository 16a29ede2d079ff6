"""Meshes with their colours: texture coordinates and image, or colours of vertices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..mesh import Mesh
from .images import load_image, rgb
from .meshes import load_mesh, obj_statements, obj_words
from .polygons import triangulate


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


def load_textured_mesh(path: Path | str) -> TexturedMesh:
    """The mesh in a file with its colours, for any format that `load_mesh` reads.

    Of an OBJ file the image is the `map_Kd` of the materials that its faces use; without its material file it has
    none. PLY, GLB and glTF are read by trimesh; of OFF and STL files colours are not read.

    Raises InputError as `load_mesh`, and when an image is missing or the faces use several.
    """
    path = Path(path)
    mesh = load_mesh(path)
    return _from_obj(path, mesh) if path.suffix.lower() == ".obj" else _from_trimesh(path, mesh)


def _from_obj(path: Path, mesh: Mesh) -> TexturedMesh:
    """load_mesh has found the file to be valid but for its texture coordinates."""
    uv: list[list[float]] = []
    colors: list[list[float]] = []
    polygons: list[list[int]] = []  # of vertices
    corner_uv: list[int] = []
    libraries: list[str] = []
    used: dict[str, None] = {}  # materials of faces, in order
    material = ""
    vertices = 0
    for statement in obj_statements(path):
        kind, *rest = obj_words(statement) or [b""]
        try:
            if kind == b"v":
                vertices += 1
                colors.append([float(x) for x in rest[3:6]])
            elif kind == b"vt":
                uv.append([float(rest[0]), float(rest[1])])
            elif kind == b"f" and len(rest) > 2:
                corners = [word.split(b"/") for word in rest]
                polygons.append([_from_zero(int(corner[0]), vertices) for corner in corners])
                corner_uv += [_from_zero(int(c[1]), len(uv)) if len(c) > 1 and c[1] else -1 for c in corners]
                used[material] = None
            elif kind in (b"mtllib", b"usemtl"):
                name = b" ".join(rest).decode("utf-8", "replace")
                libraries, material = ([*libraries, name], material) if kind == b"mtllib" else (libraries, name)
        except (ValueError, IndexError) as error:
            shown = statement.decode("utf-8", "replace").strip()[:60]
            raise InputError(f"{path} has a line that is not valid OBJ: '{shown}'.") from error
    found = TexturedMesh(mesh)
    if uv:
        if not -1 <= min(corner_uv) <= max(corner_uv) < len(uv):
            raise InputError(f"{path} has a face with a texture coordinate that does not exist; it has {len(uv)}.")
        ends = np.cumsum([len(polygon) for polygon in polygons])
        flat = np.concatenate(polygons)
        ranges = [range(end - len(polygon), end) for end, polygon in zip(ends.tolist(), polygons, strict=True)]
        found.uv = np.array(uv)
        found.uv_faces = np.array(corner_uv, dtype=np.int32)[triangulate(mesh.vertices[flat], ranges)]
        images = _obj_images(path, libraries, list(used))
        if len(images) > 1:
            raise InputError(f"the faces of {path} use {len(images)} texture images; bake them into one.")
        found.texture = rgb(load_image(images[0])) if images else None
    if all(len(color) == 3 for color in colors):
        found.colors = np.array(colors, dtype=np.float32)
    return found


def _from_zero(index: int, count: int) -> int:
    """An OBJ index counted from 0; negative ones count from the newest of `count`, and 0 is -2: there is none."""
    return index - 1 if index > 0 else count + index if index < 0 else -2


def _obj_images(path: Path, libraries: list[str], used: list[str]) -> list[Path]:
    """The image files of used materials, each once."""
    images: dict[str, str] = {}
    for library in libraries:
        try:
            text = (path.parent / library).read_text("utf-8", errors="replace")
        except OSError:
            continue  # many files go around without their materials
        material = ""
        for line in text.splitlines():
            kind, _, rest = line.strip().partition(" ")
            if kind == "newmtl":
                material = rest.strip()
            elif kind == "map_Kd":
                images[material] = _file_name(rest)
    return [path.parent / name for name in dict.fromkeys(images[name] for name in used if name in images)]


def _file_name(rest: str) -> str:
    """The file that a texture statement names after its options, such as -s 1 1 1 or -clamp on."""
    parts = rest.split()
    while len(parts) > 1 and parts[0].startswith("-"):
        parts = parts[1:]
        while len(parts) > 1 and (parts[0] in ("on", "off") or parts[0].lstrip("+-").replace(".", "", 1).isdigit()):
            parts = parts[1:]
    return " ".join(parts).replace("\\", "/")


def _from_trimesh(path: Path, mesh: Mesh) -> TexturedMesh:
    """GLB and glTF hold a vertex once for each texture seam at it: what is not welded tells corners apart."""
    import trimesh

    loaded: Any = trimesh.load_mesh(path, process=False)
    found, visual, faces = TexturedMesh(mesh), loaded.visual, np.asarray(loaded.faces)
    if len(faces) != len(mesh.faces):
        raise InputError(f"{path} has faces that cannot be told apart; export it anew as OBJ.")
    if visual.kind == "texture" and visual.uv is not None:
        found.uv, found.uv_faces = np.array(visual.uv, dtype=np.float64), faces.astype(np.int32)
        image = getattr(visual.material, "baseColorTexture", None) or getattr(visual.material, "image", None)
        if image is not None:
            found.texture = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    colors = visual.vertex_attributes.get("color") if visual.kind == "texture" else None
    if visual.kind == "vertex":
        colors = visual.vertex_colors
    if colors is not None:
        found.colors = np.zeros((len(mesh.vertices), 3), dtype=np.float32)
        found.colors[mesh.faces] = np.asarray(colors)[faces][..., :3] / 255
    return found

"""GLB and glTF files of version 2: the triangles of a scene, with texture coordinates, colours and images."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from ..errors import InputError, shown
from ..files import inside, json_value, read_bytes
from ..rotations import rotation_matrix
from ..text import decode

_MAGIC, _JSON, _BINARY = 0x46546C67, 0x4E4F534A, 0x004E4942
_MOST_ZEROS = 3 * 10**6  # numbers of accessors that have no data of their own and take memory all the same
_MOST_COPIES = 3 * 10**6  # vertices and triangles, or numbers of accessors, beyond those that the bytes can hold
_NUMBERS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_HARMLESS = ("KHR_materials_", "KHR_texture_", "KHR_lights_", "EXT_texture_", "KHR_mesh_quantization")


@dataclass(eq=False)
class GltfMesh:
    """All triangles of a scene as one mesh, not welded: a vertex is there once for each seam that meets at it.

    Attributes:
        vertices: (V, 3) float64.
        faces: (F, 3) int64.
        uv: (V, 2) float64 texture coordinates, v up, NaN where a part has none; None where no part has any.
        colors: (V, 3) float64 in 0..1 as stored, None unless all parts have some.
        images: how many the base colours of the parts have, if they were asked for.
        image: the file of the only one, else None.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None
    colors: np.ndarray | None
    images: int
    image: bytes | None


def read_gltf(path: Path, allow: Sequence[Path | str], *, image: bool = False) -> GltfMesh:
    """The scene of the file as one mesh.

    Raises InputError when the file is damaged, needs an extension that changes shapes, or names files outside its
    folder and those of allow.
    """
    data = read_bytes(path)
    try:
        with np.errstate(all="ignore"):  # coordinates that become NaN or infinite are refused with the others
            return _Reader(path, allow, data).mesh(image)
    except InputError:
        raise
    except RecursionError as error:
        raise InputError(f"the mesh file {path} cannot be read (it is nested too deeply); export it anew.") from error
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, struct.error) as error:
        raise InputError(f"the mesh file {path} cannot be read ({shown(error)}); export it anew.") from error


class _Reader:
    """One file; what is damaged raises whatever Python and numpy raise."""

    def __init__(self, path: Path, allow: Sequence[Path | str], data: bytes) -> None:
        self._path, self._allow = path, allow
        self._document, self._binary = _parts(data, path)
        self._buffers: dict[int, bytes] = {}
        self._read: dict[tuple[int, bool], np.ndarray] = {}  # values of accessors
        self._zeros = self._taken = 0
        required = self._document.get("extensionsRequired", [])
        if unknown := next((name for name in required if not str(name).startswith(_HARMLESS)), None):
            raise InputError(f"{path} needs the extension {shown(unknown)}, which is not read; export it without.")

    def mesh(self, image: bool) -> GltfMesh:
        """All parts in the scene, one after the other."""
        parts, count = [], 0
        for part in self._placed():
            parts.append(part)
            count += len(part[0]) + len(part[1])
            if count > _MOST_COPIES + self._bytes() // 3:  # a vertex or a triangle of its own takes three bytes or more
                raise InputError(f"{self._path} repeats its meshes until they are too large; use them less often.")
        used = dict.fromkeys(part[5] for part in parts if part[5] is not None)
        images = self._images(used) if image else []
        points, faces, uvs, colours = [], [], [], []
        start = 0
        for vertices, corners, matrix, uv, colour, _ in parts:
            points.append(vertices @ matrix[:3, :3].T + matrix[:3, 3])
            if np.linalg.det(matrix[:3, :3]) < 0:  # a mirror turns triangles round
                corners = corners[:, ::-1]
            faces.append(corners + start)
            uvs.append(np.full((len(vertices), 2), np.nan) if uv is None else [0, 1] + uv * [1, -1])
            colours.append(colour)
            start += len(vertices)
        return GltfMesh(
            np.concatenate([np.empty((0, 3)), *points]),
            np.concatenate([np.empty((0, 3), dtype=np.int64), *faces]),
            np.concatenate(uvs) if any(part[3] is not None for part in parts) else None,
            np.concatenate(colours)[:, :3] if colours and all(colour is not None for colour in colours) else None,
            len(images),
            self._image(images[0]) if len(images) == 1 else None,
        )

    def _placed(self) -> Iterator[tuple]:
        """(vertices, faces, matrix to the world, uv, colours, material) of each part of each node of the scene."""
        nodes, scenes = self._document.get("nodes", []), self._document.get("scenes", [])
        if scenes:
            roots = self._item("scenes", self._document.get("scene", 0)).get("nodes", [])
        else:
            roots = sorted(set(range(len(nodes))) - {child for node in nodes for child in node.get("children", [])})
        parts: dict[int, list[tuple]] = {}
        visited: set[int] = set()
        left = [(root, np.eye(4)) for root in reversed(roots)]
        while left:
            number, parent = left.pop()
            if number in visited:
                raise InputError(
                    f"the mesh file {self._path} cannot be read: node {number} is in it twice; export it anew."
                )
            visited.add(number)
            node = self._item("nodes", number)
            matrix = parent @ _matrix(node)
            left += [(child, matrix) for child in reversed(node.get("children", []))]
            if (mesh := node.get("mesh")) is not None:
                if mesh not in parts:
                    primitives = self._item("meshes", mesh)["primitives"]
                    parts[mesh] = [part for each in primitives for part in self._part(each)]
                for vertices, faces, *more in parts[mesh]:
                    yield vertices, faces, matrix, *more

    def _part(self, primitive: dict[str, Any]) -> Iterator[tuple]:
        """(vertices, faces, uv, colours, material); points and lines are no part."""
        mode, attributes, material = (
            primitive.get("mode", _TRIANGLES),
            primitive["attributes"],
            primitive.get("material"),
        )
        if mode not in (_TRIANGLES, _STRIP, _FAN):
            return
        texture = self._texture(material)
        vertices = self._numbers(attributes["POSITION"], (3,))
        uv = attributes.get(f"TEXCOORD_{texture.get('texCoord', 0)}")
        colour = attributes.get("COLOR_0")
        if (indices := primitive.get("indices")) is None:
            corners = np.arange(len(vertices))
        else:
            corners = self._numbers(indices, (1,), whole=True)[:, 0]
        faces = _triangles(mode, corners)
        more = [
            None if each is None else self._numbers(each, widths) for each, widths in ((uv, (2,)), (colour, (3, 4)))
        ]
        if any(each is not None and len(each) != len(vertices) for each in more):
            raise ValueError("an attribute has not as many values as there are vertices")
        yield vertices, faces, *more, material

    def _numbers(self, number: int, widths: tuple[int, ...], *, whole: bool = False) -> np.ndarray:
        """(count, width) the values of an accessor: float64, or int64 where whole numbers are wanted."""
        if (number, whole) not in self._read:
            self._read[number, whole] = self._values(number, widths, whole)
        return self._read[number, whole]

    def _values(self, number: int, widths: tuple[int, ...], whole: bool) -> np.ndarray:
        item = self._item("accessors", number)
        kind, width, count = np.dtype(_NUMBERS[item["componentType"]]), _WIDTHS[item["type"]], item["count"]
        if width not in widths or (whole and kind.kind == "f"):
            raise ValueError(f"accessor {number} is of another kind than its use")
        if (view := item.get("bufferView")) is not None:
            found = self._array(view, item.get("byteOffset", 0), kind, count, width)
            self._taken += count * width
            if self._taken > _MOST_COPIES + self._bytes():  # a number of its own takes a byte or more
                raise ValueError("accessors repeat the same data too often")
        else:
            self._zeros += count * width
            if self._zeros > _MOST_ZEROS:
                raise ValueError("accessors without data are too large")
            found = np.zeros((count, width), kind)
        if (sparse := item.get("sparse")) is not None:
            where, values = sparse["indices"], sparse["values"]
            at = self._array(
                *(where["bufferView"], where.get("byteOffset", 0), np.dtype(_NUMBERS[where["componentType"]])),
                *(sparse["count"], 1),
            )
            found = found.copy()
            found[at[:, 0]] = self._array(
                values["bufferView"], values.get("byteOffset", 0), kind, sparse["count"], width
            )
        if whole:
            return found.astype(np.int64)
        numbers = found.astype(np.float64)
        return np.maximum(numbers / np.iinfo(kind).max, -1) if item.get("normalized") and kind.kind != "f" else numbers

    def _array(self, view: int, offset: int, kind: np.dtype, count: int, width: int) -> np.ndarray:
        """(count, width) what lies in a view of a buffer, where it lies: no copy."""
        item = self._item("bufferViews", view)
        data = memoryview(self._buffer(item["buffer"]))[item.get("byteOffset", 0) :][: item["byteLength"]]
        stride = item.get("byteStride", width * kind.itemsize)
        if len(data) != item["byteLength"] or min(item.get("byteOffset", 0), item["byteLength"], stride) < 0:
            raise ValueError(f"view {view} of a buffer reaches beyond it")
        return np.ndarray((count, width), kind, data, offset, (stride, kind.itemsize))

    def _item(self, kind: str, number: int) -> dict[str, Any]:
        items = self._document.get(kind, [])
        if not 0 <= number < len(items):
            raise InputError(f"the mesh file {self._path} lacks {kind} {shown(number)}; export it anew.")
        return items[number]

    def _bytes(self) -> int:
        """How many there are in the buffers that were read."""
        return sum(map(len, self._buffers.values()))

    def _buffer(self, number: int) -> bytes:
        if number not in self._buffers:
            uri = self._item("buffers", number).get("uri")
            self._buffers[number] = self._binary if uri is None else self._file(uri)
        return self._buffers[number]

    def _file(self, uri: str) -> bytes:
        """The data in an address, or in the file that it names."""
        head, found, encoded = uri.partition(";base64,")
        if found and head.startswith("data:"):
            return base64.b64decode(encoded)
        return read_bytes(inside(self._path.parent, unquote(uri), self._allow))

    def _texture(self, material: int | None) -> dict[str, Any]:
        """What a material says of the texture of its base colour; empty where it has none."""
        if material is None:
            return {}
        return self._item("materials", material).get("pbrMetallicRoughness", {}).get("baseColorTexture") or {}

    def _images(self, materials: Iterable[int]) -> list[dict[str, Any]]:
        """The images of the base colours of materials, each once."""
        used: dict[int, None] = {}
        for material in materials:
            texture = self._texture(material)
            source = self._item("textures", texture["index"]).get("source") if texture else None
            if source is not None:
                if "KHR_texture_transform" in texture.get("extensions", {}):
                    raise InputError(f"{self._path} has a texture that is moved; bake its coordinates.")
                used[source] = None
        return [self._item("images", number) for number in used]

    def _image(self, item: dict[str, Any]) -> bytes:
        """The file of an image."""
        if (uri := item.get("uri")) is not None:
            return self._file(uri)
        view = self._item("bufferViews", item["bufferView"])
        return self._buffer(view["buffer"])[view.get("byteOffset", 0) :][: view["byteLength"]]


def _parts(data: bytes, path: Path) -> tuple[dict[str, Any], bytes]:
    """The document, and the binary part of a GLB."""
    if path.suffix.lower() == ".gltf":
        text, binary = data, b""
    else:
        magic, version, _, size, kind = struct.unpack_from("<5I", data)
        if (magic, version, kind) != (_MAGIC, 2, _JSON) or size > len(data) - 20:
            raise InputError(f"{path} is no GLB file of version 2; export it anew.")
        text, binary, at = data[20 : 20 + size], b"", 20 + size
        while not binary and at + 8 <= len(data):
            length, kind = struct.unpack_from("<2I", data, at)
            if length > len(data) - at - 8:
                raise InputError(f"{path} is damaged: it ends too early; export it anew.")
            binary = data[at + 8 : at + 8 + length] if kind == _BINARY else b""
            at += 8 + length
    document = json_value(decode(text, path).text, path)
    version = document.get("asset", {}).get("version", "2.0")
    if not str(version).startswith("2"):
        raise InputError(f"{path} is of version {shown(version)} of glTF; only version 2 is read; export it anew.")
    return document, binary


def _triangles(mode: int, corners: np.ndarray) -> np.ndarray:
    """(F, 3) the triangles of a row of corners."""
    if mode == _TRIANGLES:
        return corners.reshape(-1, 3)
    if len(corners) < 3:
        return np.empty((0, 3), dtype=np.int64)
    if mode == _FAN:
        return np.stack([np.broadcast_to(corners[0], len(corners) - 2), corners[1:-1], corners[2:]], axis=1)
    faces = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
    faces[1::2] = faces[1::2, [1, 0, 2]]  # every second one is turned round
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return faces[whole]  # triangles of no area join strips to one


def _matrix(node: dict[str, Any]) -> np.ndarray:
    """(4, 4) from a node to its parent."""
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrix((w, x, y, z), "QUATERNION") * np.reshape(node.get("scale", (1, 1, 1)), (1, 3))
    matrix[:3, 3] = np.array(node.get("translation", (0, 0, 0)), dtype=np.float64)
    return matrix

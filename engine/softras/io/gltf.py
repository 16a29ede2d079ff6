"""GLB and glTF files: trimesh reads the geometry; what a file refers to, and images, are looked at here."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..errors import InputError, shown
from .files import inside, read_bytes
from .text import decode

_MAGIC, _JSON, _BINARY = 0x46546C67, 0x4E4F534A, 0x004E4942
_MOST_ZEROS = 3 * 10**6  # numbers of accessors that have no data of their own and take memory all the same
_NUMBERS = {"VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


def read_gltf(path: Path, allow: Sequence[Path | str]) -> tuple[Any, list[bytes]]:
    """What trimesh makes of the file's meshes, not welded, and the images that colour them, as files in memory.

    Raises InputError when the file is damaged, or names files outside its folder and those of allow.
    """
    import trimesh

    data = read_bytes(path)
    try:
        document, binary = _parts(data, path)
        folder = _Folder(path, allow)
        images = _images(document, binary, folder)
        _strip(document)
        text = json.dumps(document).encode()
        if path.suffix.lower() == ".glb":
            text += b" " * (-len(text) % 4)
            chunks = struct.pack("<2I", len(text), _JSON) + text
            if binary:
                chunks += struct.pack("<2I", len(binary), _BINARY) + binary
            text = struct.pack("<3I", _MAGIC, 2, 12 + len(chunks)) + chunks
        kind = path.suffix.lower()[1:]
        return trimesh.load_mesh(io.BytesIO(text), file_type=kind, process=False, resolver=folder), images
    except InputError:
        raise
    except Exception as error:  # trimesh raises whatever its parsers raise
        raise InputError(f"the mesh file {path} cannot be read ({shown(error)}); export it anew.") from error


class _Folder:
    """What trimesh asks for files: those in the folder of the file, and in what is allowed."""

    def __init__(self, path: Path, allow: Sequence[Path | str]) -> None:
        self._folder, self._allow = path.parent, allow

    def __getitem__(self, name: str) -> bytes:
        return read_bytes(inside(self._folder, unquote(name), self._allow))

    get = __getitem__


def _parts(data: bytes, path: Path) -> tuple[dict[str, Any], bytes]:
    """The document, and the binary part of a GLB."""
    if path.suffix.lower() == ".gltf":
        return json.loads(decode(data, path).text), b""
    magic, version, _, size, kind = struct.unpack_from("<5I", data)
    if (magic, version, kind) != (_MAGIC, 2, _JSON) or size > len(data) - 20:
        raise InputError(f"{path} is no GLB file of version 2; export it anew.")
    at, binary = 20 + size, b""
    while not binary and at + 8 <= len(data):
        length, kind = struct.unpack_from("<2I", data, at)
        if length > len(data) - at - 8:
            raise InputError(f"{path} is damaged: it ends too early; export it anew.")
        binary = data[at + 8 : at + 8 + length] if kind == _BINARY else b""
        at += 8 + length
    return json.loads(decode(data[20 : 20 + size], path).text), binary


def _strip(document: dict[str, Any]) -> None:
    """Leave out what trimesh would open by decoders of its own choice, and what takes memory without data."""
    document.pop("images", None)
    document.pop("textures", None)
    document["materials"] = [{}]
    for mesh in document.get("meshes", []):
        for primitive in mesh["primitives"]:
            primitive.pop("material", None)
            if "TEXCOORD_0" in primitive["attributes"]:
                primitive["material"] = 0  # without one trimesh leaves texture coordinates out
    empty = [item for item in document.get("accessors", []) if "bufferView" not in item]
    if sum(int(item["count"]) * _NUMBERS.get(item["type"], 1) for item in empty) > _MOST_ZEROS:
        raise ValueError("accessors without data are too large")


def _images(document: dict[str, Any], binary: bytes, folder: _Folder) -> list[bytes]:
    """The base colour images of the materials that meshes use, each once."""
    used: dict[int, None] = {}
    for mesh in document.get("meshes", []):
        for primitive in mesh["primitives"]:
            material = document["materials"][primitive["material"]] if "material" in primitive else {}
            texture = material.get("pbrMetallicRoughness", {}).get("baseColorTexture")
            source = document["textures"][texture["index"]].get("source") if texture else None
            if source is not None:
                used[source] = None
    return [_bytes_of(document["images"][number], document, binary, folder) for number in used]


def _bytes_of(item: dict[str, Any], document: dict[str, Any], binary: bytes, folder: _Folder) -> bytes:
    """The data of an image or a buffer."""
    if "bufferView" in item:
        view = document["bufferViews"][item["bufferView"]]
        data = _bytes_of(document["buffers"][view["buffer"]], document, binary, folder)
        return data[view.get("byteOffset", 0) :][: view["byteLength"]]
    uri = item.get("uri")
    if uri is None:
        return binary
    head, found, encoded = uri.partition(";base64,")
    return base64.b64decode(encoded) if found and head.startswith("data:") else folder[uri]

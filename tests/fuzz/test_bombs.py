"""Small files that ask for much memory or time: none takes a gigabyte, and none more than its size allows."""

from __future__ import annotations

import ctypes
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import guard
import numpy as np
import pytest
from guard import guarded
from PIL import Image

from softras import InputError, load_mesh, load_textured_mesh, load_views
from softras.files import read_array
from softras.io import polygons
from softras.io.images import load_colours, read_texture
from softras.io.masks import load_mask

MANY = int(os.environ.get("SOFTRAS_FUZZ_EXAMPLES", "0")) > 1000
MB = 1 << 20
SIZE = 4 * MB if MANY else MB // 4
BASE = 32 * MB  # what a reader may take whatever the file's size: modules that are loaded late, blocks that are kept
EACH = 160  # bytes of memory for a byte of a file: a face of one corner more
TRIANGLE = b"v 0 0 0\nv 1 0 0\nv 0 1 0\n"


def many(row: bytes) -> bytes:
    return row * (SIZE // len(row))


def ply(kind: str, faces: int, body: bytes, vertices: bytes = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)) -> bytes:
    header = f"ply\nformat {kind} 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    header += f"element face {faces}\nproperty list uchar int vertex_indices\nend_header\n"
    return header.encode() + vertices + body


CORNERS = b"\3" + struct.pack("<3i", 0, 1, 2)
FOUR = b"\4" + struct.pack("<4i", 0, 1, 2, 0)
REPEATED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "vertices": ("a.obj", lambda: many(b"v 0 0 0\n") + b"f 1 2 3\n"),
    "triangles": ("a.obj", lambda: TRIANGLE + many(b"f 1 2 3\n")),
    "a polygon": ("a.obj", lambda: TRIANGLE + b"f " + many(b"1 2 3 ")),
    "coordinates": ("a.obj", lambda: TRIANGLE + many(b"vt 0 0\n") + b"f 1/1 2/1 3/1\n"),
    "corners": ("a.obj", lambda: TRIANGLE + b"vt 0 0\n" + many(b"f 1/1 2/1 3/1\n")),
    "short lines": ("a.obj", lambda: TRIANGLE + b"f 1 2 3\n" + many(b"a\n")),
    "lines that go on": ("a.obj", lambda: TRIANGLE + b"f 1 2 3\n" + many(b"\\\n")),
    "one material file": ("a.obj", lambda: TRIANGLE + b"vt 0 0\nf 1/1 2/1 3/1\n" + many(b"mtllib a.mtl\n")),
    "materials": (
        "a.obj",
        lambda: TRIANGLE + b"".join(b"usemtl %x\nf 1 2 3\n" % i for i in range(SIZE // 22)),
    ),
    "points of OFF": ("a.off", lambda: b"OFF\n%d 1 0\n" % (SIZE // 6) + many(b"0 0 0\n") + b"3 0 1 2\n"),
    "faces of OFF": ("a.off", lambda: b"OFF\n3 %d 0\n0 0 0\n1 0 0\n0 1 0\n" % (SIZE // 8) + many(b"3 0 1 2\n")),
    "lines of OFF": ("a.off", lambda: b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n" + many(b"a\n")),
    "empty lists": ("a.ply", lambda: ply("binary_little_endian", SIZE, bytes(SIZE))),
    "lists": ("a.ply", lambda: ply("binary_little_endian", SIZE // 13, many(CORNERS))),
    "lists of two kinds": ("a.ply", lambda: ply("binary_little_endian", SIZE // 30 * 2, many(CORNERS + FOUR))),
    "lists in text": ("a.ply", lambda: ply("ascii", SIZE // 8, many(b"3 0 1 2\n"), b"0 0 0\n1 0 0\n0 1 0\n")),
    "elements": ("a.ply", lambda: b"ply\nformat ascii 1.0\n" + many(b"element a 0\n") + b"end_header\n"),
    "properties": (
        "a.ply",
        lambda: (
            b"ply\nformat binary_little_endian 1.0\nelement vertex 1\n"
            + b"".join(b"property float %x\n" % i for i in range(SIZE // 22))
            + b"end_header\n"
            + bytes(SIZE)
        ),
    ),
    "solids": ("a.stl", lambda: many(b"solid\nendsolid\n")),
    "triangles of STL": ("a.stl", lambda: bytes(80) + struct.pack("<I", SIZE // 50) + bytes(SIZE // 50 * 50)),
    "objects of JSON": ("cameras.json", lambda: b'{"views":[' + many(b'{"a":1},') + b"1]}"),
    "lists of JSON": ("cameras.json", lambda: b'{"views":[' + many(b"[],") + b"1]}"),
    "texts of JSON": ("cameras.json", lambda: b'{"views":[' + many('"Ā",'.encode()) + b"1]}"),
    "depth of JSON": ("cameras.json", lambda: b'{"views":' + many(b"[")),
    "wide letters": ("cameras.json", lambda: '{"views":["\U0001f600'.encode() + many(b"a") + b'"]}'),
    "depth of GLB": ("a.glb", lambda: glb(b'{"a":' + many(b"["))),
}


@pytest.mark.parametrize("kind", REPEATED)
def test_memory_and_time_follow_the_size_of_the_file(kind: str, tmp_path: Path) -> None:
    name, data = REPEATED[kind]
    (tmp_path / name).write_bytes(data())
    (tmp_path / "a.mtl").write_bytes(many(b"newmtl a\n"))
    size = (tmp_path / name).stat().st_size
    if guard.LINUX:
        ctypes.CDLL(None).malloc_trim(0)  # blocks that are kept would hide what is taken
    with guarded(tmp_path, kind):
        if name == "cameras.json":
            load_views(tmp_path)
        else:
            load_textured_mesh(tmp_path / name)
    assert guard.last < BASE + EACH * size, f"{guard.last / size:.0f} bytes for each byte"


def glb(document: dict[str, Any] | bytes, binary: bytes = b"") -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<2I", len(text), 0x4E4F534A) + text + struct.pack("<2I", len(binary), 0x004E4942) + binary
    return struct.pack("<3I", 0x46546C67, 2, 12 + len(chunks)) + chunks


def scene(triangles: int = 1) -> tuple[dict[str, Any], bytes]:
    """A mesh, and its data."""
    points = np.tile(np.eye(3, dtype="<f4"), (triangles, 1)).tobytes()
    corners = np.arange(3 * triangles, dtype="<u4").tobytes()
    place = {"buffer": 0, "byteOffset": len(points), "byteLength": len(corners)}
    document = {
        **{"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}]},
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3 * triangles, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5125, "count": 3 * triangles, "type": "SCALAR"},
        ],
        "bufferViews": [{"buffer": 0, "byteLength": len(points)}, place],
        "buffers": [{"byteLength": len(points) + len(corners)}],
    }
    return document, points + corners


def a_count() -> bytes:
    document, data = scene()
    document["accessors"][0]["count"] = 2**31
    return glb(document, data)


def nodes_of_two_parents() -> bytes:
    document, data = scene()
    document["nodes"] = [{"children": [i + 1, i + 1]} for i in range(30)] + [{"mesh": 0}]
    return glb(document, data)


def many_nodes_of_a_mesh() -> bytes:
    document, data = scene(10_000)
    document["nodes"] = [{"mesh": 0}] * 10_000
    document["scenes"] = [{"nodes": list(range(10_000))}]
    return glb(document, data)


def many_parts_of_the_same_data() -> bytes:
    document, data = scene(10_000)
    document["meshes"][0]["primitives"] *= 10_000
    return glb(document, data)


def many_accessors_of_the_same_data() -> bytes:
    document, data = scene(10_000)
    document["accessors"] += [document["accessors"][0]] * 2000
    parts = [{"attributes": {"POSITION": i + 2}, "indices": 1} for i in range(2000)]
    document["meshes"] = [{"primitives": parts}]
    return glb(document, data)


def many_views_of_the_same_data() -> bytes:
    document, data = scene(10_000)
    document["bufferViews"] += [{"buffer": 0, "byteLength": len(data)}] * 50_000
    return glb(document, data)


def many_sparse_accessors() -> bytes:
    document, data = scene()
    places = {"count": 1, "indices": {"bufferView": 1, "componentType": 5125}, "values": {"bufferView": 0}}
    zeros = {"componentType": 5126, "count": 10**6, "type": "VEC3", "sparse": places}
    document["accessors"] += [zeros] * 100
    parts = [{"attributes": {"POSITION": i + 2}, "indices": 1} for i in range(100)]
    document["meshes"] = [{"primitives": parts}]
    return glb(document, data)


def many_images_of_the_same_data() -> bytes:
    document, data = scene(10_000)
    document["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": i}}} for i in range(5000)]
    document["textures"] = [{"source": i} for i in range(5000)]
    document["images"] = [{"bufferView": 0}] * 5000
    document["accessors"].append({"bufferView": 0, "componentType": 5126, "count": 30_000, "type": "VEC2"})
    attributes = {"POSITION": 0, "TEXCOORD_0": 2}
    parts = [{"attributes": attributes, "indices": 1, "material": i} for i in range(5)]
    document["meshes"] = [{"primitives": parts}, {"primitives": [{**parts[0], "material": i} for i in range(5000)]}]
    return glb(document, data)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (a_count, "cannot be read"),
        (nodes_of_two_parents, "node 30 is in it twice"),
        (many_nodes_of_a_mesh, "repeats its meshes until they are too large"),
        (many_parts_of_the_same_data, "repeats its meshes until they are too large"),
        (many_accessors_of_the_same_data, "accessors repeat the same data too often"),
        (many_views_of_the_same_data, ""),
        (many_sparse_accessors, "accessors without data are too large"),
        (many_images_of_the_same_data, "use 5 texture images"),
    ],
)
def test_a_glb_that_repeats_itself(make: Callable[[], bytes], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "a.glb"
    path.write_bytes(make())
    with guarded(tmp_path, make.__name__):
        try:
            load_textured_mesh(path)
        except InputError as error:
            assert sentence and sentence in str(error)
            raise
        assert not sentence
    assert guard.last < 256 * MB


def png(width: int, height: int, kind: int, depth: int = 8) -> bytes:
    """Many black transparent pixels in few bytes; kind as PNG numbers it: 0 grey, 2 RGB, 6 RGBA."""
    row = bytes(1 + width * {0: 1, 2: 3, 6: 4}[kind] * depth // 8)
    packed = zlib.compressobj(6)
    data = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">2I5B", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


LARGEST = (8192, 14640)  # just under 120 megapixels
PICTURES = {
    "mask of colours": (lambda path: load_mask(path, threshold=0.5, invert=True), LARGEST, 6, 8),
    "mask of 16 bits": (load_mask, LARGEST, 0, 16),
    "label": (lambda path: load_mask(path, label=0), LARGEST, 0, 8),
    "colours": (load_colours, LARGEST, 2, 8),
    "colours of 16 bits": (load_colours, LARGEST, 0, 16),
    "texture": (read_texture, (8192, 8192), 6, 8),
    "texture of 16 bits": (read_texture, (8192, 8192), 0, 16),
}


@pytest.mark.parametrize("kind", PICTURES if MANY else ["texture"])
def test_the_largest_pictures_take_less_than_a_gigabyte(kind: str, tmp_path: Path) -> None:
    """In a process of its own: what a former test has left in the allocator's heap would be added."""
    _, size, colours, depth = PICTURES[kind]
    (tmp_path / "a.png").write_bytes(png(*size, colours, depth))
    assert (tmp_path / "a.png").stat().st_size < MB
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from guard import guarded\n"
        "from test_bombs import PICTURES\n"
        "folder, kind = Path(sys.argv[1]), sys.argv[2]\n"
        "with guarded(folder, kind):\n"
        "    height, width, *_ = PICTURES[kind][0](folder / 'a.png').shape\n"
        "assert (width, height) == PICTURES[kind][1]\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), kind]
    ran = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_larger_pictures_are_refused_from_their_header(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(8, 8, 2).replace(struct.pack(">2I", 8, 8), struct.pack(">2I", 12000, 12000)))
    buffer = io.BytesIO()
    Image.new("1", (65500, 65500 // 8)).save(buffer, "TIFF", compression="group4")
    (tmp_path / "a.tif").write_bytes(buffer.getvalue())
    for name in ("a.png", "a.tif"):
        for read in (load_mask, load_colours, read_texture):
            with guarded(tmp_path, name), pytest.raises(InputError, match="megapixels|damaged"):
                read(tmp_path / name)
            assert guard.last < 64 * MB


def test_a_header_of_an_array_that_lies(tmp_path: Path) -> None:
    """A sparse file takes no room on the disk, and its header calls itself as long as it."""
    for version, size in ((b"\1\0", struct.pack("<H", 65535)), (b"\2\0", struct.pack("<I", 1500 * MB))):
        with open(tmp_path / "a.npy", "wb") as file:
            file.write(b"\x93NUMPY" + version + size)
            file.truncate(1600 * MB)
        with guarded(tmp_path, "header"), pytest.raises(InputError, match="damaged or not a .npy file"):
            read_array(tmp_path, "a.npy", (None, 3), "f")
        assert guard.last < MB


def test_polygons_that_are_hard_to_cut_take_their_time_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a long hollow side, so that its ears are found late; each for itself is within the bound."""
    monkeypatch.setattr(polygons, "_MOST_WORK", 50_000_000)
    hollow = [(x / 400, (x / 400) ** 2) for x in range(400)]
    lines = [f"v {x} {y} {z}\n" for z in range(20) for x, y in [*hollow[200:], (2, -2), *hollow[:200]]]
    lines += [f"f {' '.join(str(401 * n + i + 1) for i in range(401))}\n" for n in range(20)]
    (tmp_path / "a.obj").write_text("".join(lines))
    with guarded(tmp_path, "hollow"), pytest.raises(InputError, match="concave polygons of too many corners"):
        load_mesh(tmp_path / "a.obj")
    (tmp_path / "a.obj").write_text("".join([*lines[:401], lines[20 * 401]]))
    with guarded(tmp_path, "one of them"):
        assert len(load_mesh(tmp_path / "a.obj").faces) == 399

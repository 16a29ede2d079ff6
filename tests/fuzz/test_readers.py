"""Each reader of files on damaged ones: what is read, or one InputError of one line; quickly, in little memory, alone.

SOFTRAS_FUZZ_EXAMPLES says how many damaged files a reader gets (`nox -s fuzz`: 20,000).
"""

import io
import json
import os
import random
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from guard import guarded
from PIL import Image

from softras import (
    Camera,
    Mesh,
    Rig,
    ShapeKey,
    Transform,
    View,
    load_mesh,
    load_textured_mesh,
    load_views,
    save_mesh,
)
from softras.files import read_array
from softras.fitting.fit import fit_events  # noqa: F401  torch makes a folder of its own when it is loaded
from softras.io.images import load_colours, load_image
from softras.io.masks import load_mask
from softras.io.rigs import load_rig, save_rig
from softras.job import Job
from softras.keeping import Keeper
from softras.tasks.fit_state import FitState, resumed

EXAMPLES = int(os.environ.get("SOFTRAS_FUZZ_EXAMPLES", "100"))
ODD_WORDS = [
    *b"0 -1 1 1.5 nan inf -inf 1e308 1e-320 255 256 65536 2147483647 2147483648 4294967295 9999999999999999999".split(),
    *(b"", b"x", b"null", b"[]", b"{}", b'"x"', b"true", b'"../../x.png"', b'"/etc/passwd"', b"\\", b"#", b"/"),
    *(b"\xe9", b"\xff\xfe", b"\xef\xbb\xbf", b"\0", b"1/1/1"),
]
ODD_NUMBERS = [0, 1, 2, 3, 127, 128, 255, 256, 32767, 65535, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 1]

OBJ = b"""mtllib paint.mtl
v 0 0 0 1 0 0
v 1 0 0 1 0 0
v 1 1 0 1 0 0
v 0 1 0 1 0 0 # here
v .2 .2 1 0 0 0
vt 0 0
vt 1 0
vt 1 1
usemtl wall
f 1/1 2/2 3/3 4/1
f -1/1 1/2 \\
 2/3
"""
PLY = b"""ply
format ascii 1.0
comment TextureFile wall.png
element vertex 4
property float x
property float y
property float z
property float s
property float t
property uchar red
property uchar green
property uchar blue
element face 2
property list uchar int vertex_indices
end_header
0 0 0 0 0 1 2 3
1 0 0 1 0 1 2 3
1 1 0 1 1 1 2 3
0 1 0 0 1 1 2 3
3 0 1 2
4 0 1 2 3
"""


def meshes(folder: Path) -> dict[str, list[bytes]]:
    """Small valid files by suffix; what they refer to is left in the folder."""
    Image.new("RGB", (4, 4), (255, 0, 0)).save(folder / "wall.png")
    (folder / "paint.mtl").write_bytes(b"newmtl wall\nKd 1 1 1\nmap_Kd -s 1 1 1 wall.png\n")
    box = trimesh.creation.box()
    painted = box.copy()
    painted.visual = trimesh.visual.TextureVisuals(
        np.random.default_rng(0).random((8, 2)), image=Image.new("RGB", (2, 2))
    )
    box.visual.vertex_colors = np.full((8, 4), 200, np.uint8)
    parts = trimesh.Scene([box, painted]).export(file_type="gltf")
    for name, data in parts.items():
        (folder / name).write_bytes(data)
    save_mesh(folder / "own.ply", Mesh(box.vertices, box.faces))
    ply = box.export(file_type="ply")
    return {
        "obj": [OBJ, b"\xff\xfe" + OBJ.decode().encode("utf-16-le"), b"\xef\xbb\xbf" + OBJ],
        "ply": [PLY, ply, (folder / "own.ply").read_bytes()],
        "off": [
            box.export(file_type="off").encode(),
            b"COFF\n3 1 0\n0 0 0 1 1 1\n1 0 0 1 1 1\n0 1 0 1 1 1\n3 0 1 2 9\n",
        ],
        "stl": [box.export(file_type="stl"), box.export(file_type="stl_ascii").encode()],
        "glb": [box.export(file_type="glb"), painted.export(file_type="glb")],
        "gltf": [parts["model.gltf"]],
    }


def pictures() -> dict[str, list[bytes]]:
    noise = np.random.default_rng(0).integers(0, 256, (12, 9, 4)).astype(np.uint8)
    rgba, rgb = Image.fromarray(noise), Image.fromarray(noise[..., :3])
    grey, wide = Image.fromarray(noise[..., 0]), Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    palette = rgb.quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 6

    def files(suffix: str, *images: Image.Image, **options) -> list[bytes]:
        found = []
        for image in images:
            buffer = io.BytesIO()
            image.save(buffer, suffix, **options)
            found.append(buffer.getvalue())
        return found

    return {
        "png": files("png", rgba, rgb, grey, wide, palette, grey.convert("1"), rgba.convert("LA"))
        + files("png", grey, palette, rgb.quantize(2), transparency=1)
        + files("png", rgb, transparency=(1, 2, 3), exif=exif)
        + files("png", rgb, save_all=True, append_images=[rgb]),
        "jpg": files("jpeg", rgb, grey, rgb.convert("CMYK"), exif=exif) + files("jpeg", rgb, progressive=True),
        "tif": files("tiff", rgba, wide, palette, grey.convert("F"), grey.convert("1"), rgb.convert("CMYK"))
        + [
            file
            for kind in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")
            for file in files("tiff", rgb, compression=kind)
        ]
        + files("tiff", rgb, exif=exif),
        "webp": files("webp", rgba, rgb) + files("webp", rgba, lossless=True, exif=exif),
        "bmp": files("bmp", rgb, grey, palette, grey.convert("1")),
        "tga": files("tga", rgba, rgb, grey) + files("tga", rgb, compression="tga_rle"),
        "gif": files("gif", palette, grey, transparency=1),
        "ppm": [*files("ppm", rgb, grey, grey.convert("1"), wide), b"P2\n3 2\n255\n1 2 3\n4 5 6\n"],
    }


def damaged(seed: int, files: list[bytes]) -> bytes:
    """One of the files with one to four things done to it."""
    pick = random.Random(seed)
    data = bytearray(pick.choice(files))
    for _ in range(pick.choice((1, 1, 1, 2, 4))):
        at, other = pick.randrange(len(data) + 1), pick.randrange(len(data) + 1)
        low, high = min(at, other), min(max(at, other), min(at, other) + 64)
        match pick.randrange(9):
            case 0 if data[at : at + 1]:
                data[at] ^= 1 << pick.randrange(8)
            case 1:
                data[at : at + 1] = bytes([pick.choice((0, 1, 9, 10, 13, 32, 127, 128, 255))])
            case 2:
                del data[low:high]
            case 3:
                data[at:at] = data[low:high] * pick.choice((1, 1, 2, 40))
            case 4:
                del data[at:]
            case 5:
                source = pick.choice(files)
                start = pick.randrange(len(source) + 1)
                data[low:high] = source[start : start + pick.randrange(64)]
            case 6:
                data[at : at + 4] = struct.pack(pick.choice("<>") + "I", pick.choice(ODD_NUMBERS))
            case _:
                words = list(re.finditer(rb'"[^"]*"|[-+.\w]+', bytes(data)))
                if words:
                    word = pick.choice(words)
                    data[word.start() : word.end()] = pick.choice(ODD_WORDS)
    return with_checksums(bytes(data)) if pick.random() < 0.7 else bytes(data)


def with_checksums(data: bytes) -> bytes:
    """A damaged PNG whose chunks have right checksums, so that a reader gets past them."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    found, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        body = data[at + 4 : at + 8 + size]
        found += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + size
    return bytes(found)


def fuzz(read: Callable[[bytes], object], files: list[bytes], folder: Path, kept: tuple[int, ...] = ()) -> None:
    """Every file as it is, which must be read; then damaged ones, of EXAMPLES seeds and of those that once failed."""
    for number, data in enumerate(files):
        with guarded(folder, f"file {number}"):
            read(data)
    for seed in (*kept, *range(EXAMPLES)):
        data = damaged(seed, files)
        with guarded(folder, f"seed {seed}"):
            read(data)


@pytest.mark.parametrize("suffix", ["obj", "ply", "off", "stl", "glb", "gltf"])
def test_meshes(suffix: str, tmp_path: Path) -> None:
    files = meshes(tmp_path)[suffix]
    path = tmp_path / f"mesh.{suffix}"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            load_mesh(path)
        finally:
            load_textured_mesh(path)

    fuzz(read, files, tmp_path)


def test_materials(tmp_path: Path) -> None:
    meshes(tmp_path)
    (tmp_path / "mesh.obj").write_bytes(OBJ)
    text = b"# paint\nnewmtl wall\nKd 1 1 1\nmap_Kd -s 1 1 1 -clamp on wall.png # here\nnewmtl more\nmap_Kd x.png\n"
    files = [text, b"\xff\xfe" + text.decode().encode("utf-16-le"), text.replace(b"\n", b"\r\n")]

    def read(data: bytes) -> None:
        (tmp_path / "paint.mtl").write_bytes(data)
        load_textured_mesh(tmp_path / "mesh.obj")

    fuzz(read, files, tmp_path)


def test_an_obj_whose_lines_are_kept(tmp_path: Path) -> None:
    files = meshes(tmp_path)["obj"]
    mesh = Mesh(np.arange(15.0).reshape(5, 3), np.array([[0, 1, 2]]))

    def write(data: bytes) -> None:
        (tmp_path / "like.obj").write_bytes(data)
        save_mesh(tmp_path / "mesh.obj", mesh, like=tmp_path / "like.obj")

    fuzz(write, files, tmp_path)


def arrays() -> list[bytes]:
    found = []
    for array in (
        *(np.arange(12.0).reshape(4, 3), np.arange(12.0, dtype=">f4").reshape(4, 3), np.ones((3, 4)).T),
        *(np.arange(12, dtype=np.int32).reshape(4, 3), np.zeros((4, 3), bool), np.arange(12, dtype=np.uint8)),
    ):
        for version in ((1, 0), (2, 0), (3, 0)):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, version)
            found.append(buffer.getvalue())
    return found


def test_arrays(tmp_path: Path) -> None:
    shapes = [((None, 3), "f"), ((4, 3), "fiu"), ((None,), "u"), ((4, 3), "b")]

    def read(data: bytes) -> None:
        (tmp_path / "a.npy").write_bytes(data)
        found = read_array(tmp_path, "a.npy", *shapes[zlib.crc32(data) % len(shapes)])
        assert found.flags.c_contiguous and found.flags.writeable and found.nbytes < 100 * len(data)

    fuzz(read, arrays(), tmp_path)


def test_files_of_a_job(tmp_path: Path) -> None:
    """Any one of them is damaged; the job is loaded and its kept state resumed."""
    mask = np.zeros((12, 16), np.float32)
    mask[3:9, 4:11] = 1
    matrix = np.eye(4)
    matrix[2, 3] = 4
    camera = Camera([[20.0, 0, 8], [0, 20, 6], [0, 0, 1]], matrix, 16, 12)
    mesh = Mesh(np.eye(4, 3), np.array([[0, 1, 2], [1, 2, 3]]))
    views = [View("a", camera, mask, ignore=mask > 0), View("b", camera, mask)]
    job = Job(views, mesh, np.ones(4, bool), {"optimize": ["vertices", "cameras"]})
    job.save(tmp_path)
    save_rig(tmp_path / "rig", Rig(mesh, Transform(), shape_keys=(ShapeKey("k", np.eye(4, 3)),)))
    keeper = Keeper(tmp_path)
    keeper.begin()
    keeper.keep(FitState(mesh.vertices, mesh.faces, {}, [camera, camera], [0.5, None], 3).kept(None))
    files = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*.*")) if path.is_file()}

    def read(data: bytes) -> None:
        path = list(files)[int.from_bytes(data[:4], "big") % len(files)]
        path.write_bytes(data[4:])
        try:
            resumed(Job.load(tmp_path), tmp_path)
            load_rig(tmp_path / "rig")
        finally:
            path.write_bytes(files[path])

    fuzz(read, [number.to_bytes(4, "big") + data for number, data in enumerate(files.values())], tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "tga", "gif", "ppm"])
def test_pictures(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture.{suffix}"
    readers: list[Callable[[Path], object]] = [
        load_mask,
        lambda path: load_mask(path, size=(9, 12)),
        lambda path: load_mask(path, label=3),
        load_image,
        load_colours,
    ]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        readers[zlib.crc32(data) % len(readers)](path)

    files = [file for file in pictures()[suffix] if file.count(b"fdAT") == 0]
    kept = {"tif": (508371,), "png": (5657,)}  # a decoder that warns, and one that asks for 2 GB of a small file
    fuzz(read, files, tmp_path, kept.get(suffix, ()))


def test_views(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    mask = np.zeros((12, 9), dtype=np.uint8)
    mask[3:9, 3:6] = 255
    Image.fromarray(mask).save(tmp_path / "masks" / "0.png")
    view = {
        **{"name": "a", "mask": "masks/0.png", "image": "masks/0.png", "width": 9, "height": 12, "near": 0.1},
        **{"K": [[20, 0, 4], [0, 20, 5.5], [0, 0, 1]], "R": np.eye(3).tolist(), "t": [0, 0, 3], "frame": 1},
        **{"landmarks": [{"vertex": 3, "pixel": [1, 2.5], "weight": 1}], "weight": 2, "ignore": "masks/i.png"},
        **{"mask_channel": "grey", "mask_threshold": 0.5, "mask_invert": False},
    }
    Image.fromarray(mask // 255 * 0).save(tmp_path / "masks" / "i.png")
    label = {**view, "mask_label": 255, "mask_threshold": None}
    camera = {"K": view["K"], "world_to_camera": np.eye(4).tolist(), "width": 9, "height": 12, "orthographic": True}
    today = {"name": "a", "mask": "masks/0.png", "photo": "masks/0.png", "camera": camera, "weight": 2, "frame": 1}
    today |= {"ignore": "masks/i.png", "landmarks": view["landmarks"], "mask_channel": "grey"}
    documents = [{"views": [view, view]}, {"views": [label], "mask_invert": False}, {"version": 2, "views": [today]}]
    files = [json.dumps(document, indent=i).encode() for i, document in enumerate(documents)]

    def read(data: bytes) -> None:
        (tmp_path / "cameras.json").write_bytes(data)
        load_views(tmp_path)

    fuzz(read, files, tmp_path)

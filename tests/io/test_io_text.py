"""Meshes, materials and JSON in text of any encoding, with any line ends and comments: read, or refused by name."""

import base64
import codecs
import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from softras import InputError, Mesh, load_mesh, load_textured_mesh, load_views, save_mesh
from softras.io.views import save_views

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=float)
FACES = [[0, 1, 2], [0, 2, 3]]
OBJ = "v 0 0 0 # é\nv 1 0 0\nv 1 1 0 # a comment\nv 0 1 0\nf 1 2 3 4 # é\n"
OFF = "OFF # é\n# a comment\n4 1 0 # counts\n0 0 0\n1 0 0 # here\n1 1 0\n0 1 0\n\n4 0 1 2 3 # é\n"
PLY = (
    "ply\nformat ascii 1.0\ncomment é\nelement vertex 4\nproperty double x\nproperty double y\nproperty double z\n"
    "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n"
)
STL = (
    "solid é\n"
    + "".join(
        "facet normal 0 0 1\nouter loop\n"
        + "".join(f"vertex {x} {y} {z}\n" for x, y, z in SQUARE[face])
        + "endloop\nendfacet\n"
        for face in FACES
    )
    + "endsolid\n"
)
TEXTS = {"obj": OBJ, "off": OFF, "ply": PLY, "stl": STL}
ENCODINGS = {
    "utf-8": b"",
    "latin-1": b"",
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
}


@pytest.mark.parametrize("suffix", TEXTS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_meshes_in_any_encoding(suffix: str, encoding: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / f"square.{suffix}"
    path.write_bytes(ENCODINGS[encoding] + TEXTS[suffix].replace("\n", end).encode(encoding))
    mesh = load_mesh(path)
    np.testing.assert_array_equal(mesh.vertices[mesh.faces], SQUARE[FACES])
    assert len(load_textured_mesh(path).mesh.vertices) == 4


@pytest.mark.parametrize("suffix", ["obj", "off", "ply", "stl"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_refused_by_name(suffix: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / f"square.{suffix}").write_bytes(TEXTS[suffix].encode(encoding))
    with pytest.raises(InputError, match="seems to be UTF-16 without a byte order mark|no PLY file"):
        load_mesh(tmp_path / f"square.{suffix}")


def test_text_that_is_not_what_its_mark_says_is_refused(tmp_path: Path) -> None:
    (tmp_path / "square.obj").write_bytes(codecs.BOM_UTF16_LE + OBJ.encode("utf-16-le")[:-1])
    with pytest.raises(InputError, match="begins as text in UTF-16-LE but is damaged"):
        load_mesh(tmp_path / "square.obj")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_refined_obj_keeps_its_encoding_and_comments(encoding: str, tmp_path: Path) -> None:
    before = ENCODINGS[encoding] + OBJ.encode(encoding)
    (tmp_path / "a.obj").write_bytes(before)
    mesh = load_mesh(tmp_path / "a.obj")
    save_mesh(tmp_path / "b.obj", Mesh(mesh.vertices + 1, mesh.faces), like=tmp_path / "a.obj")
    wanted = OBJ.replace("v 0 0 0", "v 1 1 1").replace("v 1 0 0", "v 2 1 1").replace("v 0 1 0", "v 1 2 1")
    wanted = wanted.replace("v 1 1 0", "v 2 2 1")
    assert (tmp_path / "b.obj").read_bytes() == ENCODINGS[encoding] + wanted.encode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_views_in_any_encoding(square_views, encoding: str, tmp_path: Path) -> None:
    save_views(tmp_path, square_views)
    (tmp_path / "masks" / "000.png").rename(tmp_path / "masks" / "größe.png")
    document = json.loads((tmp_path / "cameras.json").read_text())
    document["views"][0].update(name="Größe", mask="masks/größe.png")
    text = json.dumps(document, ensure_ascii=False)
    (tmp_path / "cameras.json").write_bytes(ENCODINGS[encoding] + text.encode(encoding))
    assert load_views(tmp_path)[0].name == "Größe"
    (tmp_path / "cameras.json").write_bytes(text.encode("utf-16-le"))
    with pytest.raises(InputError, match="seems to be UTF-16 without"):
        load_views(tmp_path)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_materials_in_any_encoding(encoding: str, end: str, tmp_path: Path) -> None:
    """Names hold spaces, umlauts and the sign of a comment, and real comments stand behind them."""
    (tmp_path / "maps").mkdir()
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path / "maps" / "grün #1.png")
    obj = "mtllib grün.mtl # here\n" + OBJ.replace("f 1 2 3 4", "usemtl Wand #1 # é\nvt 0 0\nf 1/1 2/1 3/1 4/1")
    mtl = "# é\nnewmtl Wand #1\nKd 1 1 1 # white\nmap_Kd -s 1 1 1 maps\\grün #1.png\n"
    for name, text in (("a.obj", obj), ("grün.mtl", mtl)):
        (tmp_path / name).write_bytes(ENCODINGS[encoding] + text.replace("\n", end).encode(encoding))
    found = load_textured_mesh(tmp_path / "a.obj")
    assert found.texture is not None and found.texture.shape == (2, 2, 3)


@pytest.mark.parametrize("place", ["mtllib ../paint.mtl\n", "mtllib paint.mtl\n"])
def test_materials_and_images_outside_the_folder_are_refused(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "wall.png")
    for file in (tmp_path / "paint.mtl", folder / "paint.mtl"):
        file.write_text("newmtl wall\nmap_Kd ../wall.png\n")
    (folder / "a.obj").write_text(place + "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nusemtl wall\nf 1/1 2/1 3/1\n")
    with pytest.raises(InputError, match="leads out of its folder"):
        load_textured_mesh(folder / "a.obj")


UTM = np.array([[500000.123456, 4649776.654321, 12.1], [500001.1, 4649776.2, 1e-7], [500000.3, 4649777.4, 1 / 3]])


@pytest.mark.parametrize("suffix", ["obj", "ply", "off"])
def test_coordinates_come_back_to_the_last_bit(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wild = rng.normal(size=(1000, 3)) * 10.0 ** rng.integers(-300, 14, (1000, 3))
    mesh = Mesh(np.concatenate([UTM, wild]), rng.integers(0, 1003, (500, 3)))
    save_mesh(tmp_path / f"a.{suffix}", mesh)
    loaded = load_mesh(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(loaded.vertices, mesh.vertices)
    np.testing.assert_array_equal(loaded.faces, mesh.faces)
    if suffix == "obj":
        save_mesh(tmp_path / "b.obj", Mesh(-mesh.vertices, mesh.faces), like=tmp_path / "a.obj")
        np.testing.assert_array_equal(load_mesh(tmp_path / "b.obj").vertices, -mesh.vertices)


@pytest.mark.parametrize("suffix", ["stl", "glb"])
def test_a_format_that_rounds_says_so(suffix: str, tmp_path: Path) -> None:
    from softras.io.meshes import check_target

    path = tmp_path / f"a.{suffix}"
    with pytest.raises(InputError, match="float32, which rounds .* use .ply"):
        check_target(path, Mesh(UTM, [[0, 1, 2]]))
    with pytest.warns(UserWarning, match="float32, which rounds"):
        save_mesh(path, Mesh(UTM, [[0, 1, 2]]))
    check_target(path, Mesh(UTM - UTM[0], [[0, 1, 2]]))


def test_a_hundred_thousand_vertices_are_written_quickly(tmp_path: Path) -> None:
    mesh = Mesh(np.random.default_rng(0).normal(size=(100_000, 3)), np.arange(99_999).reshape(-1, 3))
    for suffix in ("obj", "ply", "off"):
        started = time.process_time()
        save_mesh(tmp_path / f"a.{suffix}", mesh)
        assert time.process_time() - started < 5


HEADER = PLY[: PLY.index("end_header") + 11]


@pytest.mark.parametrize(
    ("suffix", "text", "sentence"),
    [
        ("off", OFF.replace("4 1 0", "5 1 0"), "damaged|names 5 vertices"),
        ("off", OFF.replace("4 1 0", "4 9 0"), "names 4 vertices and 9 faces and has 5 lines"),
        ("off", OFF.replace("4 1 0", "-4 1 0"), "names -4 vertices"),
        ("off", OFF.replace("4 1 0", "999999999999 1 0"), "names 999999999999 vertices"),
        ("off", OFF.replace("4 0 1 2 3", "4 0 1 2"), "damaged"),
        ("off", OFF.replace("4 0 1 2 3", "4 0 1 2 9"), "a vertex that does not exist"),
        ("off", OFF.replace("4 0 1 2 3", "2 0 1"), "fewer than three corners"),
        ("off", OFF.replace("4 0 1 2 3", "3 0 1 -2"), "a vertex that does not exist"),
        ("off", OFF.replace("1 1 0", "1 nan 0"), "1 vertices with NaN"),
        ("off", OFF.replace("OFF", "4OFF"), "no OFF file of points in space"),
        ("off", OFF.replace("4 1 0", "4 0 0"), "no faces"),
        ("ply", PLY.replace("vertex 4", "vertex 5"), "damaged"),
        ("ply", PLY.replace("vertex 4", "vertex 99999999999"), "damaged"),
        ("ply", PLY.replace("face 1", "face 2"), "damaged"),
        ("ply", PLY.replace("4 0 1 2 3", "9999999 0 1 2 3"), "damaged"),
        ("ply", PLY.replace("4 0 1 2 3", "-4 0 1 2 3"), "damaged"),
        ("ply", PLY.replace("4 0 1 2 3", "4 0 1 2 1.5"), "a corner that is no whole number"),
        ("ply", PLY.replace("4 0 1 2 3", "4 0 1 2 nan"), "a corner that is no whole number"),
        ("ply", PLY.replace("4 0 1 2 3", "4 0 1 2 inf"), "a vertex that does not exist"),
        ("ply", PLY.replace("4 0 1 2 3", "4 0 1 2 1e300"), "a vertex that does not exist"),
        ("ply", PLY.replace("4 0 1 2 3", "2 0 1"), "fewer than three corners"),
        ("ply", PLY.replace("4 0 1 2 3", "4 0 1 2 9"), "a vertex that does not exist"),
        ("ply", PLY.replace("1 1 0", "1 x 0"), "damaged"),
        ("ply", PLY.replace("1 1 0", "1 inf 0"), "1 vertices with NaN or infinite"),
        ("ply", PLY.replace("double x", "long x"), "not valid PLY: 'property long x'"),
        ("ply", PLY.replace("property double z\n", ""), "damaged|no vertices"),
        ("ply", PLY.replace("format ascii 1.0\n", ""), "does not say its format"),
        ("obj", OBJ.replace("f 1 2 3 4", "f 1 2"), "fewer than three corners"),
        ("obj", OBJ.replace("f 1 2 3 4", "f"), "fewer than three corners"),
        ("obj", OBJ.replace("f 1 2 3 4", "f 1 2 99999999999999999999"), "a vertex that does not exist"),
        ("obj", OBJ.replace("f 1 2 3 4", "f -1 -2 -9"), "a vertex that does not exist"),
        ("obj", OBJ.replace("v 1 1 0", "v 1 inf 0"), "1 vertices with NaN or infinite"),
        ("obj", OBJ.replace("v 1 1 0", "v 1,5 1 0"), "not valid OBJ"),
        ("stl", STL.replace("endsolid", ""), "damaged: it ends within a solid"),
        ("stl", STL.replace("vertex 1.0 1.0 0.0\n", "vertex 1,5 1 0\n", 1), "not valid STL: 'vertex 1,5 1 0'"),
        ("stl", STL.replace("vertex 1.0 1.0 0.0\n", "", 1), "not valid STL: 'endloop'"),
        ("stl", STL.replace("solid é\n", "", 1), "damaged or no STL file"),
        ("stl", STL.replace("endsolid", "solid"), "not valid STL: 'solid'"),
    ],
)
def test_files_that_lie_are_refused_by_name(suffix: str, text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / f"bad.{suffix}").write_text(text)
    with pytest.raises(InputError, match=sentence) as error:
        load_mesh(tmp_path / f"bad.{suffix}")
    assert f"bad.{suffix}" in str(error.value)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_binary_ply_of_triangles_and_larger_polygons(order: str, tmp_path: Path) -> None:
    """As Blender writes it: lists of different lengths, and numbers between them."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(3, 6, 300)
    polygons = [rng.permutation(40)[:size] for size in sizes]
    points = rng.normal(size=(40, 3)).astype(np.float32)
    header = HEADER.replace("ascii", "binary_little_endian" if order == "<" else "binary_big_endian")
    header = header.replace("double", "float").replace("vertex 4", "vertex 40").replace("face 1", "face 300")
    header = header.replace("vertex_indices", "vertex_indices\nproperty uchar red\nproperty list ushort short more")
    body = points.astype(f"{order}f4").tobytes()
    for polygon in polygons:
        body += bytes([len(polygon)]) + polygon.astype(f"{order}i4").tobytes() + b"\x07"
        body += np.array([2, 5, 6], dtype=f"{order}u2").tobytes()
    (tmp_path / "a.ply").write_bytes(header.encode() + body)
    mesh = load_mesh(tmp_path / "a.ply")
    np.testing.assert_array_equal(mesh.vertices, points)
    assert len(mesh.faces) == (sizes - 2).sum()
    ends = np.cumsum(sizes - 2)
    for end, polygon in zip(ends, polygons, strict=True):
        assert set(mesh.faces[end - len(polygon) + 2 : end].ravel()) == set(polygon)
    (tmp_path / "a.ply").write_bytes((header.encode() + body)[:-1])
    with pytest.raises(InputError, match="damaged"):
        load_mesh(tmp_path / "a.ply")


def test_texture_coordinates_of_corners_in_a_ply(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (0, 255, 0)).save(tmp_path / "wall.png")
    text = PLY.replace("comment é", "comment TextureFile wall.png")
    text = text.replace("vertex_indices", "vertex_indices\nproperty list uchar float texcoord")
    (tmp_path / "a.ply").write_text(text.replace("4 0 1 2 3", "4 0 1 2 3 8 0 0 1 0 1 1 0 1"))
    found = load_textured_mesh(tmp_path / "a.ply")
    np.testing.assert_array_equal(found.mesh.vertices, SQUARE)
    np.testing.assert_array_equal(found.uv[found.uv_faces], SQUARE[FACES][..., :2])
    assert found.texture is not None and found.texture[0, 0].tolist() == [0, 1, 0]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("suffix", ["stl", "glb"])
def test_a_mesh_is_welded_at_any_scale(cube: Mesh, suffix: str, scale: float, tmp_path: Path) -> None:
    corners = Mesh(cube.vertices[cube.faces].reshape(-1, 3) * scale, np.arange(3 * len(cube.faces)).reshape(-1, 3))
    save_mesh(tmp_path / f"a.{suffix}", corners)
    loaded = load_mesh(tmp_path / f"a.{suffix}")
    assert len(loaded.vertices) == 8
    np.testing.assert_allclose(loaded.vertices[loaded.faces], corners.vertices[corners.faces], rtol=1e-6)


def gltf(**changes: object) -> dict:
    """A triangle whose data lie in the document itself."""
    data = np.eye(3, dtype="<f4").tobytes() + np.arange(3, dtype="<u4").tobytes()
    points = {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}
    document = {
        **{"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}]},
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [points, {"bufferView": 1, "componentType": 5125, "count": 3, "type": "SCALAR"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}, {"buffer": 0, "byteOffset": 36, "byteLength": 12}],
        "buffers": [{"byteLength": 48, "uri": f"data:x/y;base64,{base64.b64encode(data).decode()}"}],
    }
    return {**document, **changes}


ZEROS = [{"componentType": 5126, "count": 9_000_000, "type": "VEC3"}, gltf()["accessors"][1]]
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 20\n%%EndComments\n%%EndProlog\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"accessors": ZEROS}, "accessors without data are too large"),
        ({"buffers": [{"byteLength": 48, "uri": "../other.bin"}]}, "leads out of its folder"),
        ({"buffers": [{"byteLength": 48, "uri": "%2e%2e/other.bin"}]}, "leads out of its folder"),
        ({"buffers": [{"byteLength": 48, "uri": "missing.bin"}]}, "missing.bin"),
        ({"nodes": [{"children": [1]}, {"children": [0], "mesh": 0}]}, "cannot be read"),
        ({"nodes": [{"mesh": 7}]}, "lacks meshes 7"),
        ({"nodes": [{"mesh": -1}]}, "lacks meshes -1"),
        ({"nodes": [{"mesh": 0, "children": [0]}]}, "node 0 is in it twice"),
        ({"scenes": [{"nodes": [0, 0]}]}, "node 0 is in it twice"),
        ({"asset": {"version": "1.0"}}, "of version '1.0' of glTF"),
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "needs the extension 'KHR_draco_mesh_compression'"),
        ({"extensionsRequired": ["EXT_meshopt_compression"]}, "needs the extension"),
        ({"bufferViews": [{"buffer": 0, "byteLength": 37, "byteOffset": 12}] * 2}, "reaches beyond it"),
        ({"bufferViews": [{"buffer": 0, "byteLength": 35}, {"buffer": 0, "byteLength": 12}]}, "cannot be read"),
        ({"meshes": []}, "lacks meshes 0"),
    ],
)
def test_a_gltf_that_lies_is_refused(changes: dict, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "good.gltf").write_text(json.dumps(gltf()))
    assert len(load_mesh(tmp_path / "good.gltf").faces) == 1
    (tmp_path / "bad.gltf").write_text(json.dumps(gltf(**changes)))
    with pytest.raises(InputError, match=sentence):
        load_mesh(tmp_path / "bad.gltf")


def test_images_of_a_gltf_are_read_by_our_own_reader(tmp_path: Path) -> None:
    """trimesh would leave the choice of the decoder to the image, and PostScript would start a program."""
    document = gltf(materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}], textures=[{"source": 0}])
    document["images"] = [{"uri": f"data:image/png;base64,{base64.b64encode(POSTSCRIPT).decode()}"}]
    document["accessors"].append({**document["accessors"][0], "type": "VEC2"})
    document["meshes"][0]["primitives"][0].update(material=0, attributes={"POSITION": 0, "TEXCOORD_0": 2})
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    assert len(load_mesh(tmp_path / "a.gltf").faces) == 1
    with pytest.raises(InputError, match="of another format than PNG"):
        load_textured_mesh(tmp_path / "a.gltf")


WITHOUT = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
from pathlib import Path
from softras import Mesh, load_textured_mesh, save_mesh
for path in sorted(Path(sys.argv[1]).glob("*/[ab].*")):
    found = load_textured_mesh(path)
    print(path.parent.name, path.name, len(found.mesh.faces), found.texture is not None)
for suffix in sys.argv[3:]:
    save_mesh(Path(sys.argv[1]) / f"written.{suffix}", Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]))
    print(len(load_textured_mesh(Path(sys.argv[1]) / f"written.{suffix}").mesh.faces))
"""


@pytest.mark.parametrize("without", ["charset_normalizer,chardet", "charset_normalizer,chardet,trimesh"])
def test_no_package_that_guesses_encodings_is_needed(without: str, tmp_path: Path) -> None:
    """Text is decoded by our own reader alone, so pyproject.toml need not name charset_normalizer, which trimesh asks
    for where it decodes; trimesh itself only writes STL and GLB."""
    texts = {
        **TEXTS,
        "obj": "mtllib grün.mtl\n" + OBJ.replace("f 1 2 3 4", "usemtl Wand\nvt 0 0\nf 1/1 2/1 3/1 4/1"),
        "gltf": json.dumps(gltf(extras="é"), ensure_ascii=False),
        "mtl": "# é\nnewmtl Wand\nmap_Kd grün.png\n",
    }
    for encoding, mark in ENCODINGS.items():
        (tmp_path / encoding).mkdir()
        Image.new("RGB", (2, 2)).save(tmp_path / encoding / "grün.png")
        for suffix, text in texts.items():
            name = "grün" if suffix == "mtl" else "a"
            (tmp_path / encoding / f"{name}.{suffix}").write_bytes(mark + text.encode(encoding))
        document = mark + texts["gltf"].encode(encoding)
        head = struct.pack("<5I", 0x46546C67, 2, 20 + len(document), len(document), 0x4E4F534A)
        (tmp_path / encoding / "a.glb").write_bytes(head + document)
        stl = b"\xe9 header".ljust(80) + struct.pack("<I", 1) + struct.pack("<12f", *range(12)) + bytes(2)
        (tmp_path / encoding / "b.stl").write_bytes(stl)
    writes = [] if "trimesh" in without else ["stl", "glb"]
    run = [sys.executable, "-c", WITHOUT, str(tmp_path), without, *writes]
    done = subprocess.run(run, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})
    assert done.returncode == 0, done.stderr
    each = ["a.glb 1 False", "a.gltf 1 False", "a.obj 2 True", "a.off 2 False", "a.ply 2 False", "a.stl 2 False"]
    wanted = [f"{encoding} {line}" for encoding in sorted(ENCODINGS) for line in [*each, "b.stl 1 False"]]
    assert done.stdout.splitlines() == [*wanted, *("1" for _ in writes)]

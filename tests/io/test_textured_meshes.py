"""Meshes with colours from files of every format: the convention of UV, images, seams, and what is missing."""

import base64
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from softras import InputError, load_mesh, load_textured_mesh

SQUARE = """mtllib paint.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0 0 1
vt 0 0
vt 1 0
vt 1 1
vt 0 1
vt 0.5 0.5
usemtl red wall
f 1/1 2/2 3/3 4/4
f 1/-1 2/-3 5
"""
PAINT = "newmtl other\nmap_Kd missing.png\n\nnewmtl red wall\nKd 1 1 1\nmap_Kd -s 1 1 1 -clamp on my wall.png\n"
TOP_LEFT, BOTTOM_LEFT = [1.0, 0, 0], [0, 0, 1.0]


@pytest.fixture
def square(tmp_path: Path) -> Path:
    """A square and a triangle, with an image that is red at the top left, blue at the bottom left, else black."""
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    pixels[0, 0], pixels[1, 0] = [255, 0, 0], [0, 0, 255]
    Image.fromarray(pixels).save(tmp_path / "my wall.png")
    (tmp_path / "paint.mtl").write_text(PAINT)
    (tmp_path / "square.obj").write_text(SQUARE)
    return tmp_path / "square.obj"


def at_corner(found, vertex: int) -> np.ndarray:
    """The texture's colour at the first corner that is this vertex: the image's corner that its uv names."""
    u, v = found.uv[found.uv_faces[found.mesh.faces == vertex][0]]
    height, width, _ = found.texture.shape
    return found.texture[int((1 - v) * (height - 1)), int(u * (width - 1))]


def test_an_obj_keeps_its_own_indices(square: Path) -> None:
    found = load_textured_mesh(square)
    np.testing.assert_array_equal(found.mesh.faces, load_mesh(square).faces)
    np.testing.assert_array_equal(found.mesh.faces, [[0, 1, 2], [0, 2, 3], [0, 1, 4]])
    np.testing.assert_array_equal(found.uv_faces, [[0, 1, 2], [0, 2, 3], [4, 2, -1]])
    np.testing.assert_array_equal(found.uv, [[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]])
    assert found.texture.shape == (2, 3, 3) and found.texture.dtype == np.float32 and found.colors is None
    np.testing.assert_array_equal(at_corner(found, 3), TOP_LEFT)
    np.testing.assert_array_equal(at_corner(found, 0), BOTTOM_LEFT)


def test_a_concave_polygon_keeps_corners_and_texture_together(tmp_path: Path) -> None:
    """An arrow head, its notch first: not a fan. Texture coordinates are the places themselves, in another order."""
    places = [(0.5, 0.5), (1, 0), (0.5, 1), (0, 0)]
    lines = [f"v {x} {y} 0" for x, y in places] + [f"vt {x} {y}" for x, y in reversed(places)]
    (tmp_path / "arrow.obj").write_text("\n".join([*lines, "f 4/1 1/4 2/3 3/2"]))
    found = load_textured_mesh(tmp_path / "arrow.obj")
    np.testing.assert_array_equal(found.uv[found.uv_faces], found.mesh.vertices[found.mesh.faces][..., :2])
    assert found.texture is None


def test_a_glb_is_welded_and_keeps_its_seams(square: Path) -> None:
    """Written by trimesh, which splits vertices at seams and has the same convention of v."""
    square.write_text(SQUARE.replace(" 2/-3 5", " 2/2 5/3"))
    loaded = trimesh.load_mesh(square, process=False)
    loaded.visual = trimesh.visual.TextureVisuals(loaded.visual.uv, image=Image.open(square.parent / "my wall.png"))
    loaded.export(square.with_suffix(".glb"))
    found = load_textured_mesh(square.with_suffix(".glb"))
    assert len(found.mesh.vertices) == 5 < len(loaded.vertices) == len(found.uv)
    np.testing.assert_allclose(found.mesh.vertices[found.mesh.faces], loaded.vertices[loaded.faces], atol=1e-6)
    np.testing.assert_allclose(found.uv[found.uv_faces], loaded.visual.uv[loaded.faces], atol=1e-6)
    np.testing.assert_array_equal(found.texture, load_textured_mesh(square).texture)
    np.testing.assert_array_equal(
        at_corner(found, int(np.flatnonzero((found.mesh.vertices == [0, 1, 0]).all(axis=1))[0])), TOP_LEFT
    )


def test_a_ply_with_texture(square: Path) -> None:
    header = "ply\nformat ascii 1.0\ncomment TextureFile my wall.png\nelement vertex 3\n"
    header += "".join(f"property float {name}\n" for name in "xyzst")
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    path = square.with_suffix(".ply")
    path.write_text(header + "0 0 0 0 0\n1 0 0 1 0\n0 1 0 0 1\n3 0 1 2\n")
    found = load_textured_mesh(path)
    np.testing.assert_array_equal(at_corner(found, 2), TOP_LEFT)
    np.testing.assert_array_equal(at_corner(found, 0), BOTTOM_LEFT)


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".glb"])
def test_colours_of_vertices(suffix: str, tmp_path: Path) -> None:
    mesh = trimesh.creation.box()
    colors = np.random.default_rng(0).integers(0, 256, (8, 3))
    mesh.visual.vertex_colors = np.column_stack([colors, np.full(8, 255)])
    mesh.export(tmp_path / f"box{suffix}")
    found = load_textured_mesh(tmp_path / f"box{suffix}")
    np.testing.assert_allclose(found.mesh.vertices, mesh.vertices, atol=1e-6)
    np.testing.assert_allclose(found.colors, colors / 255, atol=1e-6)
    assert found.uv is None and found.uv_faces is None and found.texture is None


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".off", ".glb", ".stl"])
def test_plain_meshes_have_no_colours(suffix: str, tmp_path: Path) -> None:
    trimesh.creation.box().export(tmp_path / f"box{suffix}")
    found = load_textured_mesh(tmp_path / f"box{suffix}")
    assert len(found.mesh.vertices) == 8
    assert found.uv is None and found.texture is None and found.colors is None


def test_an_artists_cow() -> None:
    path = Path(__file__).resolve().parents[2] / "examples" / "data" / "spot" / "spot.obj"
    found = load_textured_mesh(path)
    np.testing.assert_array_equal(found.mesh.faces, load_mesh(path).faces)


def test_what_is_missing_or_too_much_is_said(square: Path) -> None:
    def broken(text: str, words: str) -> None:
        square.write_text(text)
        with pytest.raises(InputError, match=words):
            load_textured_mesh(square)

    broken(SQUARE.replace("1/1", "1/9"), "texture coordinate that does not exist; it has 5")
    broken(SQUARE.replace("1/1", "1/0"), "texture coordinate that does not exist")
    broken(SQUARE.replace("vt 0 0", "vt 0"), "not valid OBJ: 'vt 0'")
    broken(SQUARE + "usemtl other\nf 1 2 3\n", "use 2 texture images")
    broken(SQUARE.replace("red wall", "other"), "missing.png does not exist")


@pytest.mark.parametrize("red", ["255", "-1", "nan", "1e308"])
def test_colours_outside_their_range_are_refused(red: str, square: Path) -> None:
    square.write_text("\n".join(f"v {place} {red} 0 0" for place in ("0 0 0", "1 0 0", "0 1 0")) + "\nf 1 2 3\n")
    with pytest.raises(InputError, match="colours of vertices outside 0..1"):
        load_textured_mesh(square)


def test_an_obj_without_its_material_file_keeps_its_coordinates(square: Path) -> None:
    (square.parent / "paint.mtl").unlink()
    found = load_textured_mesh(square)
    assert found.texture is None and len(found.uv) == 5


def test_the_parts_of_a_gltf_are_placed_as_its_nodes_say(tmp_path: Path) -> None:
    """Nested nodes, a mirror, a strip, a fan, whole numbers for coordinates and colours, a value that is put in."""
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    blocks = [
        points.astype("<i2").tobytes(),  # 24 bytes: coordinates as quantized meshes have them
        np.uint8([0, 1, 2, 2, 1, 3]).tobytes(),
        np.array([[0, 0], [65535, 0], [0, 65535], [65535, 65535]], "<u2").tobytes(),
        np.float32([[1, 0, 0], [0, 0.5, 0], [0, 0, 1], [1, 1, 1]]).tobytes(),
        np.uint16([3]).tobytes() + np.array([[5, 5, 0]], "<i2").tobytes(),
    ]
    ends = np.cumsum([0, *map(len, blocks)]).tolist()
    views = [{"buffer": 0, "byteOffset": a, "byteLength": b - a} for a, b in itertools.pairwise(ends)]
    places = {"count": 1, "indices": {"bufferView": 4, "componentType": 5123}}
    accessors = [
        {"bufferView": 0, "componentType": 5122, "count": 4, "type": "VEC3"},
        {"bufferView": 1, "componentType": 5121, "count": 6, "type": "SCALAR"},
        {"bufferView": 2, "componentType": 5123, "count": 4, "type": "VEC2", "normalized": True},
        {"bufferView": 3, "componentType": 5126, "count": 4, "type": "VEC3"},
    ]
    accessors.append({**accessors[0], "sparse": {**places, "values": {"bufferView": 4, "byteOffset": 2}}})
    attributes = {"POSITION": 0, "TEXCOORD_0": 2, "COLOR_0": 3}
    primitives = [
        {"attributes": attributes, "indices": 1},
        {"attributes": attributes, "mode": 5},
        {"attributes": {**attributes, "POSITION": 4}, "mode": 6},
        {"attributes": attributes, "mode": 1},  # lines are no part
    ]
    turn = math.sqrt(0.5)  # a quarter about z
    document = {
        **{"asset": {"version": "2.0"}, "extensionsRequired": ["KHR_mesh_quantization"]},
        "nodes": [
            {"children": [1, 2], "translation": [0, 0, 7], "rotation": [0, 0, turn, turn]},
            {"mesh": 0},
            {"mesh": 1, "scale": [-1, 1, 1]},
        ],
        "meshes": [{"primitives": primitives}, {"primitives": primitives[:1]}],
        **{"accessors": accessors, "bufferViews": views},
        "buffers": [{"uri": "data:;base64," + base64.b64encode(b"".join(blocks)).decode(), "byteLength": ends[-1]}],
    }
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    found = load_textured_mesh(tmp_path / "a.gltf")
    turned = np.stack([-points[:, 1], points[:, 0], points[:, 2] + 7], axis=1)
    put = [-5, 5, 7]
    mirrored = np.stack([-points[:, 1], -points[:, 0], points[:, 2] + 7], axis=1)
    triangles = found.mesh.vertices[found.mesh.faces]
    np.testing.assert_allclose(triangles[:4], turned[[[0, 1, 2], [2, 1, 3]] * 2], atol=1e-12)
    fan = np.array([*turned[:3], put])
    np.testing.assert_allclose(triangles[4:6], fan[[[0, 1, 2], [0, 2, 3]]], atol=1e-12)
    np.testing.assert_allclose(triangles[6:], mirrored[[[2, 1, 0], [3, 1, 2]]], atol=1e-12)
    np.testing.assert_array_equal(found.uv[found.uv_faces[0]], [[0, 1], [1, 1], [0, 0]])
    np.testing.assert_array_equal(found.colors[found.mesh.faces[0]], [[1, 0, 0], [0, 0.5, 0], [0, 0, 1]])

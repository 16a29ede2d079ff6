"""Mesh files: the artist's vertices keep their order, and a refined OBJ keeps all that is not a coordinate."""

import os
from pathlib import Path

import numpy as np
import pytest

from softras import InputError, Mesh, load_mesh, save_mesh

OBJ = """# a comment
mtllib house.mtl
o house
v 0 0 0 0.5 0.5 0.5
v 1 0 0\t0.5 0.5 0.5
v 1 1 0
v 9 9 9
v 0 1 0
vt 0 0
vt 1 0
vn 0 0 1
g walls
usemtl brick
f 1/1/1 2/2/1 3//1 5

v .5 .5 1e0
f -1 -6 -5
f 1 2 3 5 \\
 6
l 1 2
"""


@pytest.fixture
def obj(tmp_path: Path) -> Path:
    path = tmp_path / "house.obj"
    path.write_text(OBJ)
    return path


def test_obj_polygons_negative_indices_and_loose_vertices(obj: Path) -> None:
    mesh = load_mesh(obj)
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [9, 9, 9], [0, 1, 0], [0.5, 0.5, 1]])
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 4], [5, 0, 1], [0, 1, 2], [0, 2, 4], [0, 4, 5]])


def test_a_refined_obj_keeps_every_other_line(obj: Path, tmp_path: Path) -> None:
    mesh = load_mesh(obj)
    moved = Mesh(mesh.vertices * np.pi + 1e-3, mesh.faces)
    save_mesh(tmp_path / "out.obj", moved, like=obj)
    before, after = OBJ.splitlines(), (tmp_path / "out.obj").read_text().splitlines()
    assert len(before) == len(after)
    assert [a for a in after if not a.startswith("v ")] == [b for b in before if not b.startswith("v ")]
    assert after[3].split()[4:] == ["0.5", "0.5", "0.5"]
    np.testing.assert_allclose(load_mesh(tmp_path / "out.obj").vertices, moved.vertices, rtol=1e-8)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_stay_of_any_kind(end: bytes, tmp_path: Path) -> None:
    before = OBJ.encode().replace(b"\n", end)
    (tmp_path / "a.obj").write_bytes(before)
    mesh = load_mesh(tmp_path / "a.obj")
    assert mesh.vertices.shape == (6, 3) and mesh.faces.shape == (6, 3)
    save_mesh(tmp_path / "b.obj", mesh, like=tmp_path / "a.obj")
    after = (tmp_path / "b.obj").read_bytes()
    assert [x.split()[:1] for x in after.split(end)] == [x.split()[:1] for x in before.split(end)]
    np.testing.assert_array_equal(load_mesh(tmp_path / "b.obj").vertices, mesh.vertices)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_vertex_that_goes_on_in_the_next_line_is_replaced_whole(end: str, tmp_path: Path) -> None:
    text = "# start\nv 0 0 \\\n 0\nv 1 0 0\nv 0 \\\n1 \\\n0 0.5\nf 1 2 \\\n3\n"
    (tmp_path / "a.obj").write_bytes(text.replace("\n", end).encode())
    mesh = load_mesh(tmp_path / "a.obj")
    save_mesh(tmp_path / "b.obj", Mesh(mesh.vertices + 2, mesh.faces), like=tmp_path / "a.obj")
    wanted = "# start\nv 2 2 2\nv 3 2 2\nv 2 3 2 0.5\nf 1 2 \\\n3\n"
    assert (tmp_path / "b.obj").read_bytes() == wanted.replace("\n", end).encode()


def test_a_file_can_be_refined_in_place(obj: Path) -> None:
    mesh = load_mesh(obj)
    save_mesh(obj, Mesh(mesh.vertices + 1, mesh.faces), like=obj)
    np.testing.assert_array_equal(load_mesh(obj).vertices, mesh.vertices + 1)


def test_like_another_mesh_is_refused(obj: Path, cube: Mesh, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="6 vertices but the fitted mesh has 8"):
        save_mesh(tmp_path / "out.obj", cube, like=obj)


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".stl", ".off", ".glb", ".OBJ"])
def test_every_format_comes_back(cube: Mesh, suffix: str, tmp_path: Path) -> None:
    save_mesh(tmp_path / f"cube{suffix}", cube)
    loaded = load_mesh(tmp_path / f"cube{suffix}")
    assert loaded.vertices.shape == (8, 3)
    if suffix not in (".stl", ".glb"):  # welded, so in another order
        np.testing.assert_allclose(loaded.vertices, cube.vertices)
        np.testing.assert_array_equal(loaded.faces, cube.faces)
    corners = loaded.vertices[loaded.faces]
    np.testing.assert_allclose(np.linalg.det(corners).sum() / 6, 1, rtol=1e-6)


def test_a_glb_is_welded_where_its_textures_meet(data: Path) -> None:
    """The fox has 1728 vertices, one for each corner of a face; its surface holds together only when welded."""
    fox = load_mesh(data / "fox_walk" / "Fox.glb")
    assert len(fox.faces) == 576
    assert len(fox.vertices) < 400


def test_the_example_keeps_its_vertices(spot: Path) -> None:
    mesh, start = load_mesh(spot / "spot.obj"), load_mesh(spot / "start.obj")
    assert mesh.vertices.shape == (2930, 3) and mesh.faces.shape == (5856, 3)
    np.testing.assert_array_equal(mesh.faces, start.faces)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no faces"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\n", "has no faces"),
        ("v 0 0 0\nf 1 2 3\n", "a vertex that does not exist; it has 1 vertices"),
        ("v 0 0 0\nf 1 -2 1\n", "does not exist"),
        ("v 0 0 0\nf 0 1 1\n", "does not exist"),
        ("v 0 0\nf 1 1 1\n", "not valid OBJ: 'v 0 0'"),
        ("v 0 0 zero\n", "not valid OBJ: 'v 0 0 zero'"),
        ("v 0 0 0\nf a b c\n", "not valid OBJ: 'f a b c'"),
        ("v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "1 vertices with NaN"),
    ],
)
def test_bad_obj_files_are_refused_in_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "bad.obj").write_text(text)
    with pytest.raises(InputError) as error:
        load_mesh(tmp_path / "bad.obj")
    assert sentence in str(error.value) and "bad.obj" in str(error.value) and str(error.value).endswith(".")


@pytest.mark.parametrize("suffix", [".ply", ".stl", ".off", ".glb"])
@pytest.mark.parametrize("content", [b"", b"garbage", bytes(range(256)) * 4])
def test_damaged_files_of_other_formats_are_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / f"bad{suffix}").write_bytes(content)
    with pytest.raises(InputError, match="bad"):
        load_mesh(tmp_path / f"bad{suffix}")


def star(corners: int) -> np.ndarray:
    """A star of points at radius 1 and 0.3 in turn, counter-clockwise in the plane z = 0."""
    angles = np.arange(corners) * 2 * np.pi / corners
    radius = np.where(np.arange(corners) % 2, 0.3, 1.0)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles), 0 * angles], axis=1)


OUTLINES = {
    "arrow": [[0, 0, 0], [2, -1, 0], [0.5, 0, 0], [2, 1, 0]],
    "L": [[0, 0, 0], [2, 0, 0], [2, 1, 0], [1, 1, 0], [1, 2, 0], [0, 2, 0]],
    "star": star(14),
    "a corner on a side": [[0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 2, 0], [1, 0.5, 0], [0, 2, 0]],
    "a frame with a bridge": [
        *([0, 0, 0], [3, 0, 0], [3, 3, 0], [0, 3, 0], [0, 0, 0]),
        *([1, 1, 0], [1, 2, 0], [2, 2, 0], [2, 1, 0], [1, 1, 0]),
    ],
}


@pytest.mark.parametrize("name", OUTLINES)
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("flip", [False, True])
def test_concave_polygons_stay_inside_their_outline(name: str, axis: int, flip: bool, tmp_path: Path) -> None:
    """Whichever corner comes first: no triangle is turned over, and their areas add up to the polygon's."""
    outline = np.roll(np.array(OUTLINES[name], dtype=float), axis, axis=1)[:: -1 if flip else 1]
    normal = np.cross(outline, np.roll(outline, -1, axis=0)).sum(axis=0) / 2
    for first in range(len(outline)):
        points = np.roll(outline, first, axis=0)
        lines = [f"v {x} {y} {z}" for x, y, z in points] + ["f " + " ".join(map(str, range(1, len(points) + 1)))]
        (tmp_path / "n.obj").write_text("\n".join(lines))
        mesh = load_mesh(tmp_path / "n.obj")
        assert len(mesh.faces) == len(points) - 2
        a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
        areas = np.cross(b - a, c - a) @ normal / np.linalg.norm(normal) / 2
        assert areas.min() > -1e-9
        assert areas.sum() == pytest.approx(np.linalg.norm(normal))


def test_a_polygon_that_crosses_itself_is_no_endless_loop(tmp_path: Path) -> None:
    (tmp_path / "n.obj").write_text("v 0 0 0\nv 1 1 0\nv 1 0 0\nv 0 1 0\nv 0 0 0\nf 1 2 3 4\nf 1 5 1 5 1\n")
    assert len(load_mesh(tmp_path / "n.obj").faces) == 5


def test_a_polygon_of_thousands_of_random_corners_takes_seconds(tmp_path: Path) -> None:
    import time

    points = np.random.default_rng(0).normal(size=(3000, 3))
    lines = [f"v {x} {y} {z}" for x, y, z in points] + ["f " + " ".join(map(str, range(1, 3001)))]
    (tmp_path / "n.obj").write_text("\n".join(lines))
    started = time.process_time()
    assert len(load_mesh(tmp_path / "n.obj").faces) == 2998
    assert time.process_time() - started < 60


def test_unknown_formats_and_missing_files_are_named(tmp_path: Path, cube: Mesh) -> None:
    with pytest.raises(InputError, match="nothing.obj does not exist"):
        load_mesh(tmp_path / "nothing.obj")
    with pytest.raises(InputError, match=r"format of x\.fbx is not known; use one of \.obj"):
        save_mesh(tmp_path / "x.fbx", cube)
    with pytest.raises(InputError, match="cannot write .*: the folder does not exist"):
        save_mesh(tmp_path / "no" / "x.obj", cube)
    with pytest.raises(InputError, match=r"use \.glb"):
        save_mesh(tmp_path / "x.gltf", cube)
    (tmp_path / "folder.obj").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        save_mesh(tmp_path / "folder.obj", cube)


def test_a_failed_write_leaves_the_old_file(obj: Path) -> None:
    """The file size limit stands for a full disk; nothing half-written may remain."""
    import resource

    big = Mesh(np.random.default_rng(0).normal(size=(3000, 3)), [[0, 1, 2]])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(InputError, match="cannot write .*house.obj"):
            save_mesh(obj, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert obj.read_text() == OBJ
    assert os.listdir(obj.parent) == ["house.obj"]


def test_two_hundred_thousand_faces_load_quickly(tmp_path: Path) -> None:
    import time

    n = 317
    grid = np.stack(np.meshgrid(np.arange(n), np.arange(n), [0.0]), axis=-1).reshape(-1, 3)
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    quads = np.stack([corner, corner + 1, corner + n + 1, corner + n], axis=1)
    save_mesh(tmp_path / "big.obj", Mesh(grid, np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]])))
    started = time.process_time()
    assert len(load_mesh(tmp_path / "big.obj").faces) == 199712
    assert time.process_time() - started < 5

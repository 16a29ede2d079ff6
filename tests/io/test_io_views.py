"""View folders and mask images: the conventions, the channels, and what is said about bad ones."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from old_documents import make_old_views
from PIL import Image

from softras import Camera, InputError, Landmark, View, hard_silhouettes, load_mesh, load_views, look_at
from softras.io.masks import load_mask
from softras.io.views import save_views


@pytest.fixture
def folder(square_views, tmp_path: Path) -> Path:
    save_views(tmp_path, square_views)
    return tmp_path


@pytest.fixture
def old_folder(folder: Path) -> Path:
    """The same with a cameras.json of version 1."""
    make_old_views(folder)
    return folder


def edit(folder: Path, change) -> None:
    document = json.loads((folder / "cameras.json").read_text())
    change(document)
    (folder / "cameras.json").write_text(json.dumps(document))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_the_example_views_fit_their_mesh_to_the_pixel(spot: Path) -> None:
    """The masks were rendered by Blender: cameras that are off by half a pixel would show."""
    views, mesh = load_views(spot), load_mesh(spot / "spot.obj")
    vertices, faces = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces)
    for view in views:
        covered = hard_silhouettes(vertices, faces, [view.camera])[0].numpy()
        assert iou(covered, view.mask > 0.5) > 0.999
        assert iou(np.roll(covered, 1, axis=0), view.mask > 0.5) < 0.995
        assert view.photo is not None and view.photo.is_file()


def rich_views(square_views: list[View]) -> list[View]:
    """Views that use every field, one of them with a camera whose numbers no rounding leaves alone."""
    square_views[0].weight = 0.5
    square_views[1].frame, square_views[1].landmarks = -3, (Landmark(7, (1.25, -4.0), 2.0),)
    square_views[1].ignore = np.eye(40, 48, dtype=bool)
    square_views[2].mask[12, :] = np.linspace(0, 1, 48).round(2)
    matrix = look_at(np.array([1.0, 2, 3])).numpy().astype(np.float32).astype(np.float64)
    square_views[2].camera = Camera([[np.pi, 0.1, np.e], [0, np.pi, 1 / 3], [0, 0, 1]], matrix, 48, 40, near=1 / 7)
    return square_views


def test_views_are_saved_and_loaded_without_loss(square_views, tmp_path: Path) -> None:
    rich_views(square_views)
    save_views(tmp_path / "new" / "folder", square_views)
    for got, want in zip(load_views(tmp_path / "new" / "folder"), square_views, strict=True):
        assert (got.name, got.weight, got.camera) == (want.name, want.weight, want.camera)  # cameras to the last bit
        assert (got.frame, got.landmarks) == (want.frame, want.landmarks)
        np.testing.assert_allclose(got.mask, want.mask, atol=0.5 / 255)
        assert (got.ignore is None) == (want.ignore is None)
    np.testing.assert_array_equal(load_views(tmp_path / "new" / "folder")[1].ignore, np.eye(40, 48, dtype=bool))


def test_every_field_of_a_view_is_in_the_document(square_views, tmp_path: Path) -> None:
    """A field that is added to View is saved without a change elsewhere, or this says that it is not."""
    rich_views(square_views)
    photo = tmp_path / "photo.png"
    Image.new("L", (48, 40)).save(photo)
    view = square_views[1]
    view.photo, view.weight = photo, 0.25
    fields = {field.name: field for field in dataclasses.fields(View)}
    assert all(getattr(view, name) is not field.default for name, field in fields.items())
    save_views(tmp_path, [view])
    (entry,) = json.loads((tmp_path / "cameras.json").read_text())["views"]
    assert set(entry) == set(fields)
    (got,) = load_views(tmp_path)
    for name in set(fields) - {"mask", "ignore"}:
        assert getattr(got, name) == getattr(view, name)


def test_a_view_that_says_little_is_enough(square_views, tmp_path: Path) -> None:
    """What has a default may be left out, as one does by hand."""
    save_views(tmp_path, square_views[:1])
    camera = {"K": [[30, 0, 24], [0, 30, 20], [0, 0, 1]], "world_to_camera": np.eye(4).tolist()}
    entry = {"mask": "masks/000.png", "camera": {**camera, "width": 48, "height": 40}}
    (tmp_path / "cameras.json").write_text(json.dumps({"version": 2, "views": [entry]}))
    (view,) = load_views(tmp_path)
    assert view.camera == Camera(camera["K"], np.eye(4), 48, 40)
    assert (view.name, view.weight, view.frame, view.landmarks, view.photo) == ("0", 1, 0, (), None)


def test_views_of_an_older_document_are_the_same(square_views, tmp_path: Path) -> None:
    """Version 1 has pixel centres on integers, for cameras and for landmarks."""
    rich_views(square_views)
    Image.new("L", (48, 40)).save(tmp_path / "photo.png")
    square_views[0].photo = tmp_path / "photo.png"
    save_views(tmp_path, square_views)
    now = load_views(tmp_path)
    make_old_views(tmp_path)
    old = json.loads((tmp_path / "cameras.json").read_text())["views"]
    assert old[1]["landmarks"][0]["pixel"] == [0.75, -4.5] and old[0]["image"] == "photo.png" and "K" in old[0]
    for got, want in zip(load_views(tmp_path), now, strict=True):
        assert (got.name, got.weight, got.frame, got.landmarks) == (want.name, want.weight, want.frame, want.landmarks)
        assert (got.photo, got.camera.orthographic) == (want.photo, want.camera.orthographic)
        np.testing.assert_allclose(got.camera.K, want.camera.K, atol=1e-12)
        np.testing.assert_allclose(got.camera.world_to_camera, want.camera.world_to_camera, atol=1e-6)
        assert (got.camera.width, got.camera.height, got.camera.near) == (48, 40, want.camera.near)
        np.testing.assert_array_equal(got.mask, want.mask)
        np.testing.assert_array_equal(got.ignore, want.ignore)


@pytest.mark.parametrize(
    ("version", "sentence"),
    [(3, "is of version 3, and this Softras reads none above 2; update it"), ("2", "version of .* whole number")],
)
def test_a_document_of_a_later_version_is_refused(folder: Path, version: object, sentence: str) -> None:
    edit(folder, lambda d: d.update(version=version))
    with pytest.raises(InputError, match=sentence):
        load_views(folder)


def test_a_views_folder_that_is_to_travel_has_its_photographs_inside(square_views, tmp_path: Path) -> None:
    for number in range(2):
        Image.new("RGB", (48, 40), (number, 2, 3)).save(tmp_path / f"{number}.png")
    square_views[0].photo = square_views[2].photo = tmp_path / "0.png"
    square_views[1].photo = tmp_path / "1.png"
    save_views(tmp_path / "folder", square_views, self_contained=True)
    (tmp_path / "folder").rename(tmp_path / "moved")
    for number in range(2):
        (tmp_path / f"{number}.png").unlink()
    photos = [view.photo for view in load_views(tmp_path / "moved")]
    assert photos[0] == photos[2] == tmp_path / "moved" / "photos" / "000.png"
    assert [Image.open(photo).getpixel((0, 0)) for photo in photos] == [(0, 2, 3), (1, 2, 3), (0, 2, 3)]


def test_the_path_of_the_json_itself_is_fine_too(folder: Path) -> None:
    assert [view.name for view in load_views(folder / "cameras.json")] == ["along y", "along x", "along z"]


@pytest.mark.parametrize("version", [1, 2])
def test_a_rounded_rotation_is_read_as_an_exact_one_and_a_reflection_is_refused(folder: Path, version: int) -> None:
    """Rotations in text files have a few digits; axes of other programs that were flipped by hand are a mistake."""
    if version == 1:
        make_old_views(folder)
    named = "its camera's R" if version == 1 else "camera world_to_camera"

    def write(R: np.ndarray) -> None:
        if version == 1:
            edit(folder, lambda d: d["views"][1].update(R=R.tolist()))
        else:
            matrix = np.vstack([np.hstack([R, [[0], [0], [4]]]), [0, 0, 0, 1]])
            edit(folder, lambda d: d["views"][1]["camera"].update(world_to_camera=matrix.tolist()))

    turn = look_at(np.array([1.0, 2, 3])).numpy()[:3, :3]
    write(turn.round(4))
    read = load_views(folder)[1].camera.world_to_camera[:3, :3]
    np.testing.assert_allclose(read @ read.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(read, turn, atol=1e-4)
    for axis in range(3):
        flip = np.ones((3, 1))
        flip[axis] = -1
        write(flip * turn)
        with pytest.raises(InputError, match=f"view 'along x': .*{named} .* is a reflection .* y and z"):
            load_views(folder)
    write(turn.round(2))
    with pytest.raises(InputError, match="must be a rotation: its rows must be perpendicular"):
        load_views(folder)


def test_pixel_centres_in_old_files_lie_on_integers(old_folder: Path) -> None:
    entry = json.loads((old_folder / "cameras.json").read_text())["views"][0]
    camera = load_views(old_folder)[0].camera
    assert camera.K[0, 2] == pytest.approx(entry["K"][0][2] + 0.5)
    assert camera.K[1, 2] == pytest.approx(entry["K"][1][2] + 0.5)


WRONG_IN_BOTH_VERSIONS = [
    (lambda d: d.update(views=[]), "lists no views"),
    (lambda d: d.update(views=None), "lists no views"),
    (lambda d: d["views"].append("x"), "view 3 in"),
    (lambda d: d["views"][1].pop("mask"), "view 'along x' in"),
    (lambda d: d["views"][1].update(mask="nowhere.png"), "view 'along x': the image"),
    (lambda d: d["views"][1].update(weight=-2), "weight of view 'along x'"),
    (lambda d: d["views"][1].update(landmarks=[{"vertex": 1}]), "view 'along x': one of its landmarks lacks"),
    (lambda d: d["views"][1].update(frame=1.5), "frame of view 'along x' must be a whole number"),
    (lambda d: d["views"][1].update(ignore="nowhere.png"), "view 'along x': the image"),
]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        *WRONG_IN_BOTH_VERSIONS,
        (lambda d: d["views"][1].pop("camera"), "view 'along x': a camera must be an object with K"),
        (lambda d: d["views"][1]["camera"].pop("K"), "view 'along x': a camera lacks 'K'"),
        (
            lambda d: d["views"][1]["camera"].update(world_to_camera=[[1, 0], [0, 1]]),
            "view 'along x': its camera's world_to_camera must have shape (4, 4)",
        ),
        (
            lambda d: d["views"][1]["camera"].update(world_to_camera=np.diag([2.0, 1, 1, 1]).tolist()),
            "its camera's world_to_camera must be a rotation: its rows",
        ),
        (
            lambda d: d["views"][1]["camera"].update(width=64),
            "001.png is 48 x 40 pixels but its camera has 64 x 40",
        ),
        (lambda d: d["views"][1]["camera"].update(near=-1, orthographic=False), "near distance"),
        (lambda d: d["views"][1].update(landmarks={"vertex": 1}), "view 'along x': its landmarks must be a list"),
    ],
)
def test_a_wrong_folder_is_refused_in_one_sentence_that_names_the_view(folder: Path, change, sentence: str) -> None:
    edit(folder, change)
    with pytest.raises(InputError) as error:
        load_views(folder)
    assert sentence in str(error.value) and str(error.value).endswith(".") and "\n" not in str(error.value)
    assert str(error.value).count("along x") <= 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        *WRONG_IN_BOTH_VERSIONS,
        (lambda d: d["views"][1].update(mask="cameras.json"), "cannot be read"),
        (lambda d: d["views"][1].pop("K"), "view 'along x': its camera lacks K"),
        (lambda d: [d["views"][1].pop(k) for k in ("R", "t")], "view 'along x': its camera lacks R, t"),
        (lambda d: d["views"][1].update(R=[[1, 0], [0, 1]]), "its camera's R must have shape (3, 3)"),
        (lambda d: d["views"][1].update(R=[[2, 0, 0], [0, 1, 0], [0, 0, 1]]), "R must be a rotation: its rows"),
        (lambda d: d["views"][1].update(t=["a", 0, 0]), "view 'along x': its camera's t must hold numbers"),
        (
            lambda d: d["views"][1].update(width=64),
            "001.png is 48 x 40 pixels but its camera has 64 x 40",
        ),
        (lambda d: d["views"][1].update(near=-1, orthographic=False), "near distance"),
    ],
)
def test_a_wrong_old_folder_is_refused_in_one_sentence(old_folder: Path, change, sentence: str) -> None:
    edit(old_folder, change)
    with pytest.raises(InputError) as error:
        load_views(old_folder)
    assert sentence in str(error.value) and str(error.value).endswith(".") and "\n" not in str(error.value)
    assert str(error.value).count("along x") <= 1


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_views(tmp_path / "nowhere")
    with pytest.raises(InputError, match="needs a cameras.json"):
        load_views(tmp_path)
    (tmp_path / "cameras.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        load_views(tmp_path)


@pytest.mark.parametrize(("grey", "sentence"), [(0, "is empty"), (255, "covers the whole image")])
def test_empty_and_full_masks_are_read_for_a_fit_to_leave_out(folder: Path, grey: int, sentence: str) -> None:
    Image.new("L", (48, 40), grey).save(folder / "masks" / "001.png")
    (blank,) = filter(None, (view.blank() for view in load_views(folder)))
    assert f"the mask of view 'along x' {sentence}" in blank


def test_a_truncated_image_is_refused(folder: Path) -> None:
    path = folder / "masks" / "001.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="view 'along x': the image .* cannot be read"):
        load_views(folder)


HALF = np.repeat([[0, 255]], 2, axis=0).astype(np.uint8)  # right half white


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (Image.fromarray(HALF), {}),
        (Image.fromarray(HALF).convert("1"), {}),
        (Image.fromarray(HALF).convert("P"), {}),
        (Image.fromarray(HALF).convert("RGB"), {}),
        (Image.fromarray(HALF.astype(np.uint16) * 257), {}),
        (Image.fromarray(HALF.astype(np.float32) / 255), {}),
        (Image.merge("RGBA", [Image.new("L", (2, 2), 9)] * 3 + [Image.fromarray(HALF)]), {}),
        (Image.merge("LA", [Image.new("L", (2, 2), 9), Image.fromarray(HALF)]), {}),
        (Image.merge("RGBA", [Image.fromarray(HALF)] * 3 + [Image.new("L", (2, 2), 255)]), {}),
        (Image.merge("RGBA", [Image.fromarray(HALF)] * 3 + [Image.fromarray(255 - HALF)]), {"channel": "grey"}),
        (
            Image.merge("RGB", [Image.new("L", (2, 2)), Image.fromarray(HALF), Image.new("L", (2, 2))]),
            {"channel": "green"},
        ),
        (Image.fromarray(255 - HALF), {"invert": True}),
        (Image.fromarray((HALF // 255 * 20 + 30).astype(np.uint8)), {"threshold": 0.15}),
    ],
    ids=["L", "1", "P", "RGB", "16 bit", "float", "RGBA", "LA", "opaque RGBA", "grey", "green", "invert", "threshold"],
)
def test_masks_come_from_every_kind_of_image(image: Image.Image, options: dict, tmp_path: Path) -> None:
    path = tmp_path / ("mask.tif" if image.mode == "F" else "mask.png")
    image.save(path)
    mask = load_mask(path, **options)
    assert mask.dtype == np.float32
    np.testing.assert_allclose(mask, [[0, 1], [0, 1]], atol=1e-6)


def test_a_channel_that_is_not_there_is_refused(tmp_path: Path) -> None:
    Image.fromarray(HALF).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="has no alpha channel"):
        load_mask(tmp_path / "mask.png", channel="alpha")
    with pytest.raises(InputError, match="choose from auto, alpha"):
        load_mask(tmp_path / "mask.png", channel="luma")

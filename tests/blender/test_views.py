"""Masks from images, views from cameras and folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import bpy
import numpy as np
import pytest

from .conftest import ROOT, part, read_mask, read_views, snapshot

SPOT = ROOT / "examples" / "data" / "spot"


def image_of(pixels: np.ndarray, float_buffer: bool = False) -> bpy.types.Image:
    """A generated image of (H, W, 4) pixels, row 0 on top."""
    image = bpy.data.images.new("Test", pixels.shape[1], pixels.shape[0], alpha=True, float_buffer=float_buffer)
    image.pixels.foreach_set(np.ascontiguousarray(pixels[::-1], np.float32).ravel())
    image.update()
    return image


def gradient() -> np.ndarray:
    """(4, 5, 4) pixels whose channels all differ, brighter to the right in red, down in green."""
    pixels = np.zeros((4, 5, 4))
    pixels[..., 0] = np.arange(5) / 5
    pixels[..., 1] = np.arange(4)[:, None] / 4
    pixels[..., 2] = 0.25
    pixels[..., 3] = np.arange(20).reshape(4, 5) / 20
    return pixels


@pytest.mark.parametrize("channel", ["red", "green", "blue", "alpha", "grey"])
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("float_buffer", [False, True])
def test_every_channel_the_right_way_up(scene, channel: str, invert: bool, float_buffer: bool) -> None:
    pixels = gradient()
    index = ["red", "green", "blue", "alpha"].index(channel) if channel != "grey" else None
    values = pixels[..., index] if index is not None else pixels[..., :3] @ (0.299, 0.587, 0.114)
    mask = read_mask(image_of(pixels, float_buffer), channel, 0.33, invert)
    np.testing.assert_array_equal(mask, (values > 0.33) != invert)
    assert mask.dtype == np.float32
    soft = read_mask(image_of(pixels, float_buffer), channel, invert=invert)
    np.testing.assert_allclose(soft, 1 - values if invert else values, atol=1e-6 if float_buffer else 0.51 / 255)


def test_numbers_of_a_float_image_beyond_black_and_white_are_black_and_white(scene: bpy.types.Scene) -> None:
    pixels = np.ones((1, 4, 4))
    pixels[0, :, 0] = (-3, 0.25, 700, np.nan)
    np.testing.assert_array_equal(read_mask(image_of(pixels, float_buffer=True), "red"), [[0, 0.25, 1, 0]])


def test_an_image_whose_alpha_is_ignored_is_read_by_its_grey(scene: bpy.types.Scene) -> None:
    for float_buffer in (False, True):
        image = image_of(gradient(), float_buffer)
        assert read_mask(image).max() == pytest.approx(19 / 20, abs=0.01)  # its alpha
        image.alpha_mode = "NONE"
        assert read_mask(image).max() == pytest.approx(0.8 * 0.299 + 0.75 * 0.587 + 0.25 * 0.114, abs=0.01)
        with pytest.raises(ValueError, match="ignores its alpha; choose another mask channel or alpha mode"):
            read_mask(image, "alpha")


@pytest.mark.parametrize("depth", ["8", "16"])
@pytest.mark.parametrize("packed", [False, True])
def test_colour_space_plays_no_part_and_stays(scene: bpy.types.Scene, tmp_path: Path, depth: str, packed: bool) -> None:
    """0.4 stays under a threshold of 0.5 and 0.6 over it, as the file has them, also where Blender would convert."""
    settings = scene.render.image_settings
    settings.file_format, settings.color_depth, settings.color_mode = "PNG", depth, "RGBA"
    scene.view_settings.view_transform = "Raw"
    pixels = np.ones((2, 2, 4))
    pixels[..., :3] = np.array([[0.4, 0.6], [0.6, 0.4]])[..., None]
    source = image_of(pixels, float_buffer=True)
    source.save_render(str(tmp_path / "grey.png"), scene=scene)
    image = bpy.data.images.load(str(tmp_path / "grey.png"))
    image.colorspace_settings.name = "sRGB"
    if packed:
        image.pack()
        (tmp_path / "grey.png").unlink()
    assert image.is_float == (depth == "16")
    count = len(bpy.data.images)
    mask = read_mask(image, "grey", 0.5)
    np.testing.assert_array_equal(mask, [[0, 1], [1, 0]])
    np.testing.assert_allclose(read_mask(image), [[0.4, 0.6], [0.6, 0.4]], atol=0.51 / 255)
    assert image.colorspace_settings.name == "sRGB"
    assert len(bpy.data.images) == count


def test_grey_images_have_no_alpha(scene: bpy.types.Scene) -> None:
    image = bpy.data.images.load(str(SPOT / "masks" / "00.png"))
    mask = read_mask(image, threshold=0.5)
    assert mask.shape == (image.size[1], image.size[0])
    assert 0.05 < mask.mean() < 0.95
    with pytest.raises(ValueError, match="image '00.png' has no alpha channel; choose another mask channel"):
        read_mask(image, "alpha")


def test_a_folder_becomes_cameras_and_views(scene: bpy.types.Scene) -> None:
    """The imported cameras are read back as the folder has them, pixel centres and all."""
    assert bpy.ops.softras.views_import(directory=str(SPOT)) == {"FINISHED"}
    views = read_views(scene)
    listed = part("engine.softras.io.views").list_views(SPOT)
    assert len(views) == len(listed) == 12
    bpy.context.view_layer.update()
    for view, source in zip(views, listed, strict=True):
        np.testing.assert_allclose(view.camera.K, source.camera.K, rtol=1e-5, atol=1e-2)
        np.testing.assert_allclose(view.camera.world_to_camera, source.camera.world_to_camera, atol=1e-5)
        assert view.photo is not None and view.photo.samefile(source.photo)
        assert 0.02 < view.mask.mean() < 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry["camera"].update(width=entry["camera"]["width"] + 1), "use an image of the camera's size"),
        (lambda entry: entry.update(mask="missing.png"), "missing.png cannot be read"),
        (lambda entry: entry.update(mask="cameras.json"), "cannot be read as an image"),
        (lambda entry: entry["camera"]["K"][0].__setitem__(0, 9999), "resize its image so that fx = fy"),
        (lambda entry: entry["camera"].pop("K"), "a camera lacks 'K'"),
        (lambda entry: entry.update(frame=2), "The folder shows several frames"),
        (lambda entry: entry.update(mask_label=1), "its mask is a map of labels"),
    ],
)
def test_a_folder_with_one_bad_view_adds_nothing(scene, tmp_path, change, message) -> None:
    shutil.copytree(SPOT, tmp_path / "views")
    document = json.loads((tmp_path / "views" / "cameras.json").read_text())
    change(document["views"][3])
    (tmp_path / "views" / "cameras.json").write_text(json.dumps(document))
    before = snapshot(scene)
    with pytest.raises(RuntimeError, match=message):
        bpy.ops.softras.views_import(directory=str(tmp_path / "views"))
    after = snapshot(scene)
    assert {**after, "images": None} == {**before, "images": None}
    assert not scene.softras.views and not bpy.data.cameras


def test_a_folder_says_how_its_masks_are_read(scene: bpy.types.Scene, tmp_path: Path) -> None:
    shutil.copytree(SPOT, tmp_path / "views")
    document = json.loads((tmp_path / "views" / "cameras.json").read_text())
    document.update(mask_channel="red", mask_threshold=0.25)
    document["views"][1].update(mask_channel="grey", mask_invert=True)
    (tmp_path / "views" / "cameras.json").write_text(json.dumps(document))
    bpy.ops.softras.views_import(directory=str(tmp_path / "views"))
    items = [(item.channel, item.use_threshold, item.threshold, item.invert) for item in scene.softras.views]
    assert items[:3] == [("RED", True, 0.25, False), ("GREY", True, 0.25, True), ("RED", True, 0.25, False)]
    bpy.ops.softras.views_import(directory=str(SPOT))
    assert (scene.softras.views[12].channel, scene.softras.views[12].use_threshold) == ("AUTO", False)


def test_no_folder(scene: bpy.types.Scene, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="does not exist"):
        bpy.ops.softras.views_import(directory=str(tmp_path / "nothing"))


def test_views_from_scene_cameras(scene: bpy.types.Scene) -> None:
    """Cameras with a background image become views once; others do not."""
    bpy.ops.softras.views_import(directory=str(SPOT))
    scene.softras.views.clear()
    scene.collection.objects.link(bpy.data.objects.new("Bare", bpy.data.cameras.new("Bare")))
    assert bpy.ops.softras.views_from_cameras() == {"FINISHED"}
    assert len(scene.softras.views) == 12
    assert bpy.ops.softras.views_from_cameras() == {"CANCELLED"}
    assert len(scene.softras.views) == 12


def test_add_and_remove(scene: bpy.types.Scene) -> None:
    bpy.ops.object.camera_add()
    camera = bpy.context.active_object
    bpy.ops.softras.view_add()
    bpy.ops.softras.view_add()
    assert [item.camera for item in scene.softras.views] == [camera, camera]
    bpy.ops.softras.view_remove()
    bpy.ops.softras.view_remove()
    with pytest.raises(RuntimeError, match="The Views list is empty"):
        bpy.ops.softras.view_remove()
    assert camera.name in scene.objects


def with_background(name: str, image: bpy.types.Image) -> bpy.types.Object:
    """A camera in the scene with the image behind it, as an artist adds one."""
    camera = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    bpy.context.scene.collection.objects.link(camera)
    camera.data.show_background_images = True
    camera.data.background_images.new().image = image
    return camera


def test_masks_are_told_from_photographs(scene: bpy.types.Scene, capfd: pytest.CaptureFixture) -> None:
    """Alpha if it says anything, else brightness; a picture of many greys is a photograph, and said to be one."""
    with_background("Cut out", image_of(gradient()))
    with_background("Mask", bpy.data.images.load(str(SPOT / "masks" / "00.png")))
    bpy.ops.softras.views_from_cameras()
    cut_out, mask = (read_mask(item.mask, item.channel.lower()) for item in scene.softras.views)
    np.testing.assert_allclose(cut_out, gradient()[..., 3], atol=0.51 / 255)
    assert 0.05 < mask.mean() < 0.95
    assert "looks like a photograph" not in capfd.readouterr().out
    opaque = gradient()
    opaque[..., 3] = 1
    bpy.context.view_layer.objects.active = with_background("Photo", image_of(opaque))
    bpy.ops.softras.view_add()
    grey = opaque[..., :3] @ (0.299, 0.587, 0.114)
    item = scene.softras.views[2]
    np.testing.assert_allclose(read_mask(item.mask, item.channel.lower()), grey, atol=0.51 / 255)
    assert "looks like a photograph, not a mask" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("change", "elsewhere"),
    [
        (lambda background, render: None, False),
        (lambda background, render: setattr(render, "resolution_percentage", 50), False),
        (lambda background, render: setattr(background, "frame_method", "CROP"), False),
        (lambda background, render: setattr(background, "scale", 1.1), True),
        (lambda background, render: setattr(background, "offset", (0, 0.02)), True),
        (lambda background, render: setattr(background, "rotation", 0.1), True),
        (lambda background, render: setattr(background, "use_flip_x", True), True),
        (lambda background, render: setattr(render, "resolution_x", 2 * render.resolution_x), True),
        (lambda background, render: setattr(render, "pixel_aspect_x", 2), False),
    ],
)
def test_a_background_that_is_shown_elsewhere_is_noticed(scene: bpy.types.Scene, change, elsewhere: bool) -> None:
    image = bpy.data.images.load(str(SPOT / "photos" / "00.jpg"))
    scene.render.resolution_x, scene.render.resolution_y = 2 * image.size[0], 2 * image.size[1]
    camera = with_background("Camera", image)
    change(camera.data.background_images[0], scene.render)
    assert part("scene.background").shown_elsewhere(camera, tuple(image.size), scene.render) is elsewhere
    camera.data.show_background_images = False
    assert not part("scene.background").shown_elsewhere(camera, tuple(image.size), scene.render)


def test_backgrounds_of_imported_views_are_shown_where_the_fit_has_them(scene: bpy.types.Scene) -> None:
    scene.render.resolution_x, scene.render.resolution_y = 900, 1100
    bpy.ops.softras.views_import(directory=str(SPOT))
    for item in scene.softras.views:
        size = tuple(item.mask.size)
        assert not part("scene.background").shown_elsewhere(item.camera, size, scene.render)
    scene.render.resolution_x = 1700
    assert part("scene.background").shown_elsewhere(item.camera, size, scene.render)


def test_files_of_an_older_softras_are_brought_up_to_date(scene: bpy.types.Scene, tmp_path: Path) -> None:
    """They have the mask of a view under the name image, and a threshold always; one that was chosen stays."""
    image = bpy.data.images.load(str(SPOT / "masks" / "00.png"))
    for threshold in (None, 0.25):
        item = scene.softras.views.add()
        item.image = image
        if threshold is not None:
            item.threshold = threshold
    new = scene.softras.views.add()
    new.mask, new.threshold = image, 0.75  # a value that is not used
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "old.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "old.blend"))
    views = bpy.context.scene.softras.views
    assert [item.mask.name for item in views] == ["00.png"] * 3 and all(item.image is None for item in views)
    assert [(item.use_threshold, item.threshold) for item in views] == [(False, 0.5), (True, 0.25), (False, 0.75)]

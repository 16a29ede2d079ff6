"""What cannot be fitted says so in one sentence, and leaves everything as it was."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from .conftest import disc_image, optimize, part, snapshot


def refused(*words: str) -> None:
    """A fit is refused with a message that holds the words; the scene stays."""
    scene = bpy.context.scene
    bpy.context.view_layer.update()
    before = snapshot(scene)
    with pytest.raises(RuntimeError) as caught:
        bpy.ops.softras.fit()
    message = str(caught.value)
    for word in words:
        assert word in message, message
    assert "Traceback" not in message
    assert snapshot(scene) == before
    assert part("session").current is None


def test_no_mesh(ball: bpy.types.Object) -> None:
    bpy.data.objects.remove(ball)
    refused("There is no mesh to fit")


def test_no_views(ball: bpy.types.Object) -> None:
    bpy.context.scene.softras.views.clear()
    refused("There are no views")


def test_all_views_disabled(ball: bpy.types.Object) -> None:
    for item in bpy.context.scene.softras.views:
        item.enabled = False
    refused("There are no views")


def test_view_without_image(ball: bpy.types.Object) -> None:
    bpy.context.scene.softras.views[1].mask = None
    refused("View 'Camera 1' has no mask")


def test_view_without_camera(ball: bpy.types.Object) -> None:
    bpy.context.scene.softras.views[1].camera = None
    refused("A view has no camera")


def test_camera_of_another_scene(ball: bpy.types.Object) -> None:
    scene = bpy.context.scene
    scene.collection.objects.unlink(scene.objects["Camera 1"])
    refused("Camera 'Camera 1' is not in this scene")


def disable(ob: bpy.types.Object, way: str) -> None:
    """Disable the object in one of the ways Blender offers; none of them keeps its matrix up to date."""
    scene = bpy.context.scene
    if way == "object":
        ob.hide_viewport = True
        return
    if way == "object and eye":
        ob.hide_viewport = True
        ob.hide_set(True)
        return
    outer, inner = bpy.data.collections.new("Outer"), bpy.data.collections.new("Inner")
    scene.collection.children.link(outer)
    outer.children.link(inner)
    scene.collection.objects.unlink(ob)
    inner.objects.link(ob)
    bpy.context.view_layer.update()
    if way == "collection":
        outer.hide_viewport = True
    else:
        bpy.context.view_layer.layer_collection.children["Outer"].exclude = True


@pytest.mark.parametrize("way", ["object", "object and eye", "collection", "excluded"])
def test_disabled_objects(ball: bpy.types.Object, way: str) -> None:
    """Blender does not say where they are: identity after a file was opened."""
    camera = bpy.data.objects["Camera 1"]
    disable(camera, way)
    refused("Camera 'Camera 1' is disabled in this view layer")
    bpy.context.scene.softras.views[1].enabled = False
    bpy.data.objects["Camera 2"].hide_set(True)  # an eye hides and does not disable
    bpy.ops.mesh.primitive_ico_sphere_add(radius=0.5)
    target = bpy.context.scene.softras.target = bpy.context.active_object
    for name in ("Outer", "Inner"):
        if collection := bpy.data.collections.get(name):
            bpy.data.collections.remove(collection)
    bpy.context.view_layer.update()
    disable(target, way)
    refused(f"'{target.name}' is disabled in this view layer")


def test_target_of_another_scene(ball: bpy.types.Object) -> None:
    bpy.context.scene.collection.objects.unlink(ball)
    bpy.data.scenes.new("Other").collection.objects.link(ball)
    refused("is disabled in this view layer or not in it")


def test_panoramic_camera(ball: bpy.types.Object) -> None:
    bpy.data.objects["Camera 1"].data.type = "PANO"
    refused("Camera 'Camera 1' is panoramic")


def test_empty_masks(ball: bpy.types.Object) -> None:
    for view in bpy.context.scene.softras.views:
        view.mask = disc_image("Nothing", radius=0)
    refused("mask of view 'Camera 0' is empty")


@pytest.mark.parametrize(("blank", "words"), [("empty", "is empty"), ("full", "covers the whole image")])
def test_one_mask_that_tells_nothing_is_left_out_with_a_note(ball: bpy.types.Object, blank: str, words: str) -> None:
    scene = bpy.context.scene
    if blank == "empty":
        scene.softras.views[0].mask = disc_image("Nothing", radius=0)
    else:
        scene.softras.views[0].channel = "RED"
    bpy.context.view_layer.update()
    session = part("session").FitSession(bpy.context)
    session.wait()
    assert any("left out: the mask of view 'Camera 0' " + words in note for note in session.notes)
    assert scene.softras.views[0].iou < 0 < scene.softras.views[1].iou


def test_missing_image_file(ball: bpy.types.Object, tmp_path: Path) -> None:
    image = disc_image("Gone")
    image.filepath_raw, image.file_format = str(tmp_path / "gone.png"), "PNG"
    image.save()
    bpy.context.scene.softras.views[0].mask = loaded = bpy.data.images.load(str(tmp_path / "gone.png"))
    (tmp_path / "gone.png").unlink()
    loaded.reload()
    refused(f"cannot be read from {tmp_path / 'gone.png'}")


def test_unreadable_image_file(ball: bpy.types.Object, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    bpy.context.scene.softras.views[0].mask = bpy.data.images.load(str(tmp_path / "text.png"))
    refused("Image 'text.png' cannot be read")


def test_an_image_that_shows_nothing_in_this_frame(ball: bpy.types.Object) -> None:
    image = bpy.context.scene.softras.views[0].mask
    image.source = "MOVIE"
    refused("has no picture 1 to show in frame 1; go to another frame, or set the Start Frame of view 'Camera 0'")
    image.source = "TILED"
    refused("is a tiled image")


def test_camera_inside_the_object(ball: bpy.types.Object) -> None:
    camera = bpy.data.objects["Camera 0"]
    camera.data.type = "PERSP"
    camera.location = (0, 0, 0.1)
    refused("Camera 0", "inside")


def test_mesh_without_faces(ball: bpy.types.Object) -> None:
    data = bpy.data.meshes.new("Line")
    data.from_pydata([(0, 0, 0), (1, 0, 0)], [(0, 1)], [])
    line = bpy.data.objects.new("Line", data)
    bpy.context.scene.collection.objects.link(line)
    bpy.context.scene.softras.target = line
    refused("'Line' has no faces")


def test_nan_coordinates(ball: bpy.types.Object) -> None:
    ball.data.vertices[3].co.x = float("nan")
    scene = bpy.context.scene
    with pytest.raises(RuntimeError, match="has vertices with NaN or infinite coordinates"):
        bpy.ops.softras.fit()
    assert ball.data.shape_keys is None
    assert scene.softras.views[0].iou == -1


def test_object_scaled_to_nothing(ball: bpy.types.Object) -> None:
    ball.scale.z = 0
    refused("is scaled to nothing")


def test_edit_mode(ball: bpy.types.Object) -> None:
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        refused("is in Edit Mode; go back to Object Mode first")
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")


def test_edit_mode_of_another_object_with_the_same_mesh(ball: bpy.types.Object) -> None:
    twin = bpy.data.objects.new("Twin", ball.data)
    bpy.context.scene.collection.objects.link(twin)
    bpy.context.scene.softras.target = twin
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        refused("The mesh of 'Twin' is in Edit Mode through another object")
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")


def test_linked_mesh(ball: bpy.types.Object, tmp_path: Path) -> None:
    bpy.data.libraries.write(str(tmp_path / "library.blend"), {ball.data})
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (source, wanted):
        wanted.meshes = source.meshes
    ball.data = wanted.meshes[0]
    refused("The mesh of 'Icosphere' is linked from another file; make it local", ", or untick Vertices")


def test_missing_vertex_group(ball: bpy.types.Object) -> None:
    bpy.context.scene.softras.lock = "Nobody"
    refused("has no vertex group 'Nobody'")


def test_symmetry_of_a_mesh_that_has_none(ball: bpy.types.Object) -> None:
    for vertex, offset in zip(
        ball.data.vertices, np.random.default_rng(0).normal(0, 0.05, len(ball.data.vertices)), strict=True
    ):
        vertex.co.x += offset
    bpy.context.scene.softras.symmetry = "x"
    refused("mirror image across the symmetry plane")


def test_wrong_interpreter_path(ball: bpy.types.Object, preferences: bpy.types.AddonPreferences) -> None:
    preferences.python = "/nowhere/python"
    refused("The engine's Python '/nowhere/python' does not exist; choose another in Preferences")


@pytest.mark.parametrize("path", ["//python", "//venv/bin/python", "python", "bin/python"])
def test_an_interpreter_beside_the_blend_file_is_not_started(
    ball: bpy.types.Object,
    preferences: bpy.types.AddonPreferences,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    """A .blend file from elsewhere could bring a program of that name."""
    program = tmp_path / path.removeprefix("//")
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    preferences.python = path
    refused("is a path relative to a folder; choose its whole path in Preferences")
    assert not (tmp_path / "started").exists()


def test_no_interpreter_chosen(ball: bpy.types.Object, preferences: bpy.types.AddonPreferences) -> None:
    preferences.python = ""
    refused("Softras needs a Python 3.11 or newer with torch")


def test_interpreter_that_is_none(
    ball: bpy.types.Object, preferences: bpy.types.AddonPreferences, tmp_path: Path
) -> None:
    """A file that is not a program, and a program that is not a Python."""
    text = tmp_path / "python"
    text.write_text("hello")
    preferences.python = str(text)
    refused("cannot be started", "choose another in Preferences")
    preferences.python = "/bin/true"
    refused("The engine did not start")


def test_missing_torch(ball: bpy.types.Object, preferences: bpy.types.AddonPreferences) -> None:
    preferences.python = sys.executable  # a Python with bpy and numpy, and no torch
    refused("orch", "log is")


def test_read_only_output(ball: bpy.types.Object, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """A report that cannot be written costs no fit; it is named."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert bpy.ops.softras.fit(report_folder=str(blocked / "report")) == {"FINISHED"}
    assert "There is no report: cannot write" in capfd.readouterr().out
    assert ball.data.shape_keys is not None


def test_full_disk(ball: bpy.types.Object) -> None:
    """The job cannot be written: the system lets no file grow beyond 1000 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    bpy.ops.softras.test_engine()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        refused("Cannot write", "choose another folder")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_absolute_shape_keys(ball: bpy.types.Object) -> None:
    ball.shape_key_add(name="Basis")
    ball.data.shape_keys.use_relative = False
    refused("has absolute shape keys; tick Relative")


def test_an_object_held_by_constraints(ball: bpy.types.Object) -> None:
    ball.constraints.new("LIMIT_LOCATION")
    optimize("object")
    refused("is held by constraints")


def test_a_driven_object(ball: bpy.types.Object) -> None:
    """It would not stay where the fit puts it."""
    ball.driver_add("location", 0).driver.expression = "0.2"
    optimize("object")
    refused("The transform of 'Icosphere' is driven")


def test_driven_shape_key(ball: bpy.types.Object) -> None:
    ball.shape_key_add(name="Basis")
    ball.shape_key_add(name="Softras").driver_add("value").driver.expression = "0.25"
    refused("shape key 'Softras' is driven or animated")


def test_second_fit_while_one_runs(ball: bpy.types.Object) -> None:
    running = part("session").FitSession(bpy.context)
    try:
        with pytest.raises(RuntimeError, match="A fit is running"):
            bpy.ops.softras.fit()
    finally:
        running.revert()
    assert ball.data.shape_keys is None

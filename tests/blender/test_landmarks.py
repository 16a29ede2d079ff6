"""Landmarks: an Empty before the place where a view's image shows a vertex."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from .conftest import armature_of, give_images, give_sequences, optimize, part, positions, read_job


@pytest.fixture
def still(arm: bpy.types.Object) -> bpy.types.Object:
    """The arm, its pose to be fitted, with an image of 64 x 48 pixels for each view."""
    give_images(bpy.context.scene)
    optimize("pose")
    armature_of(arm).pose.bones["Bone 1"].rotation_quaternion = (1, 0.4, 0, 0)
    return arm


def select(target: bpy.types.Object, *vertices: int) -> None:
    chosen = np.zeros(len(target.data.vertices), dtype=bool)
    chosen[list(vertices)] = True
    for elements in (target.data.edges, target.data.polygons):
        elements.foreach_set("select", np.zeros(len(elements), dtype=bool))
    target.data.vertices.foreach_set("select", chosen)


def add_landmark(target: bpy.types.Object, vertex: int):
    select(target, vertex)
    assert bpy.ops.softras.landmark_add() == {"FINISHED"}
    settings = bpy.context.scene.softras
    return settings.views[settings.active_view].landmarks[-1]


def test_a_landmark_starts_where_its_vertex_is_shown(still: bpy.types.Object) -> None:
    scene = bpy.context.scene
    scene.softras.active_view = 1
    landmark = add_landmark(still, 33)
    bpy.context.view_layer.update()
    np.testing.assert_allclose(landmark.empty.matrix_world.translation, positions(still)[33], atol=1e-5)
    landmark.weight = 2.5
    job = read_job(scene)
    (read,) = job.job.views[1].landmarks
    assert read.vertex == 33 and read.weight == 2.5
    np.testing.assert_allclose(read.pixel, job.job.views[1].camera.project(job.job.rig.vertices()[33]), atol=1e-2)
    assert not job.job.views[0].landmarks and not job.job.views[2].landmarks
    # Blender itself says where in the frame of 64 x 48 the Empty is.
    from bpy_extras.object_utils import world_to_camera_view

    scene.render.resolution_x, scene.render.resolution_y = 64, 48
    landmark.empty.location.x += 0.7
    bpy.context.view_layer.update()
    x, y, _ = world_to_camera_view(scene, scene.softras.views[1].camera, landmark.empty.matrix_world.translation)
    (read,) = read_job(scene).job.views[1].landmarks
    np.testing.assert_allclose(read.pixel, (64 * x, 48 * (1 - y)), atol=1e-2)


def test_one_vertex_must_be_selected(still: bpy.types.Object) -> None:
    select(still, 3, 4)
    with pytest.raises(RuntimeError, match="Select one vertex of 'Arm' in Edit Mode; 2 are selected"):
        bpy.ops.softras.landmark_add()
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_mode(type="VERT")
    bpy.ops.mesh.select_all(action="DESELECT")
    bpy.ops.object.mode_set(mode="OBJECT")
    select(still, 7)
    bpy.ops.object.mode_set(mode="EDIT")
    assert bpy.ops.softras.landmark_add() == {"FINISHED"}
    bpy.ops.object.mode_set(mode="OBJECT")
    assert bpy.context.scene.softras.views[0].landmarks[0].vertex == 7


def test_removing(still: bpy.types.Object) -> None:
    first, second = add_landmark(still, 1).empty.name, add_landmark(still, 2).empty.name
    item = bpy.context.scene.softras.views[0]
    item.active_landmark = 0
    assert bpy.ops.softras.landmark_remove() == {"FINISHED"}
    assert [mark.vertex for mark in item.landmarks] == [2]
    assert first not in bpy.data.objects and second in bpy.data.objects
    bpy.ops.softras.landmark_remove()
    assert not bpy.ops.softras.landmark_remove.poll()


def test_animated_in_a_sequence(arm: bpy.types.Object, tmp_path: Path) -> None:
    scene = bpy.context.scene
    y, x = np.mgrid[:48, :64]
    give_sequences(scene, tmp_path, {frame: [np.hypot(x - 32, y - 24) < 9] * 3 for frame in (1, 2, 3)})
    optimize("pose")
    empty = add_landmark(arm, 5).empty
    for frame in (1, 3):
        empty.location = (0.1 * frame, 0, 1)
        empty.keyframe_insert("location", frame=frame)
    scene.frame_set(2)
    empty.location.y = 4  # not keyed
    job = read_job(scene)
    assert empty.location.y == 4
    pixels = {view.frame: view.landmarks[0].pixel for view in job.job.views if view.name == "Camera 0"}
    for frame, pixel in pixels.items():
        scene.frame_set(frame)
        camera = part("scene.camera").camera_from_blender(scene.softras.views[0].camera, 64, 48, scene.render)
        np.testing.assert_allclose(pixel, camera.project(np.array(empty.matrix_world.translation)), atol=1e-3)
    assert len(pixels) == 3 and pixels[1] != pixels[2] != pixels[3]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda mark, scene: bpy.data.objects.remove(mark.empty), "has lost its Empty; remove the landmark, or add it"),
        (lambda mark, scene: mark.empty.users_collection[0].objects.unlink(mark.empty), "has lost its Empty"),
        (lambda mark, scene: setattr(mark.empty, "hide_viewport", True), "is disabled in this view layer"),
        (lambda mark, scene: setattr(mark.empty, "location", (4, -14, 4)), "is behind camera 'Camera 0'"),
        (lambda mark, scene: setattr(mark, "vertex", 10**6), "is beyond the .* vertices of 'Arm'; remove it"),
    ],
)
def test_landmarks_that_cannot_be_used(still: bpy.types.Object, change, sentence: str) -> None:
    change(add_landmark(still, 3), bpy.context.scene)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_job(bpy.context.scene)
    assert "vertex" in str(caught.value) or "'Arm 3 Camera 0'" in str(caught.value)


def test_cameras_alone_need_to_find_the_vertex(still: bpy.types.Object) -> None:
    """They are fitted to what is seen, modifiers and all; that has the artist's vertices, or no landmarks."""
    optimize("cameras")
    job = read_job(bpy.context.scene)
    np.testing.assert_allclose(job.job.mesh.vertices, positions(still), atol=1e-5)
    add_landmark(still, 3)
    read_job(bpy.context.scene)
    still.modifiers.new("Rounder", "SUBSURF")
    with pytest.raises(ValueError, match="the modifiers of 'Arm' change its vertices"):
        read_job(bpy.context.scene)
    bpy.ops.softras.landmark_remove()
    assert len(read_job(bpy.context.scene).job.mesh.vertices) > len(still.data.vertices)

"""Poses, shape keys, objects and cameras come back from masks that the engine rendered, through the extension."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Euler

from .conftest import (
    ROOT,
    armature_of,
    give_sequences,
    local_positions,
    optimize,
    part,
    positions,
    snapshot,
    write_png,
)

SIZE = (128, 128)  # width and height of the masks
FRAMES = (1, 2, 3)
# Run by the engine's Python: what the cameras of a job see of the vertices of each frame.
RENDER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
from softras.files import read_json
from softras.camera import camera_from_json
from softras.render.silhouette import hard_silhouettes
folder = Path(sys.argv[2])
vertices, faces = np.load(folder / "vertices.npy"), np.load(folder / "faces.npy")
cameras = [camera_from_json(camera) for camera in read_json(folder / "cameras.json")["cameras"]]
np.save(folder / "masks.npy", np.array([hard_silhouettes(v, faces, cameras).numpy() for v in vertices]))
"""

Pose = Callable[[int], None]


def render(engine_python: str, folder: Path, target: bpy.types.Object, pose: Pose, frames=FRAMES, size=SIZE):
    """Masks (H, W) by frame and view of the target in the poses that `pose` gives it, and its vertices (V, 3) then."""
    scene = bpy.context.scene
    truth = {}
    for frame in frames:
        pose(frame)
        truth[frame] = positions(target)
    target.data.calc_loop_triangles()
    folder.mkdir()
    np.save(folder / "vertices.npy", np.array(list(truth.values())))
    np.save(folder / "faces.npy", np.array([triangle.vertices for triangle in target.data.loop_triangles]))
    module = part("engine.softras.io.poses")
    cameras = [part("scene.camera").camera_from_blender(v.camera, *size, scene.render) for v in scene.softras.views]
    module.save_poses(folder / "cameras.json", {}, cameras)
    subprocess.run([engine_python, "-c", RENDER, str(ROOT / "engine"), str(folder)], check=True)
    return dict(zip(frames, np.load(folder / "masks.npy"), strict=True)), truth


def bend(target: bpy.types.Object) -> Pose:
    """Poses that bend the arm's upper bones, each frame further."""
    bones = armature_of(target).pose.bones

    def pose(frame: int) -> None:
        for number, (bone, angles) in enumerate(zip(bones, [(0, 0, 0), (0.4, 0, 0.15), (0.2, 0, -0.5)], strict=True)):
            bone.rotation_mode = "QUATERNION" if number else "XYZ"
            turn = Euler(np.array(angles) * (0.4 + 0.3 * frame))
            bone.rotation_quaternion, bone.rotation_euler = turn.to_quaternion(), turn

    return pose


def rest(target: bpy.types.Object) -> None:
    for bone in armature_of(target).pose.bones:
        bone.location, bone.rotation_quaternion, bone.rotation_euler = (0, 0, 0), (1, 0, 0, 0), (0, 0, 0)


def give_masks(scene: bpy.types.Scene, folder: Path, masks: np.ndarray) -> None:
    """Every view sees a still image: masks (N, H, W)."""
    for number, (item, mask) in enumerate(zip(scene.softras.views, masks, strict=True)):
        write_png(folder / f"mask{number}.png", mask)
        item.mask = bpy.data.images.load(str(folder / f"mask{number}.png"))
        item.channel = "GREY"


def error(target: bpy.types.Object, truth: np.ndarray) -> float:
    """Greatest distance of a vertex from where it should be; the arm is 3 high."""
    return float(np.linalg.norm(positions(target) - truth, axis=1).max())


@pytest.fixture
def bent(arm: bpy.types.Object, engine_python: str, tmp_path: Path):
    """The arm at rest with masks of it bent, and its vertices when it was; its pose is to be fitted, in any time."""
    pose = bend(arm)
    masks, truth = render(engine_python, tmp_path / "render", arm, pose, (2,))
    rest(arm)
    give_masks(bpy.context.scene, tmp_path, masks[2])
    optimize("pose")
    bpy.context.scene.softras.seconds = 0
    return arm, truth[2]


@pytest.fixture
def bending(arm: bpy.types.Object, engine_python: str, tmp_path: Path):
    """The arm at rest with sequences of it bending, and its vertices by frame."""
    pose = bend(arm)
    masks, truth = render(engine_python, tmp_path / "render", arm, pose)
    rest(arm)
    give_sequences(bpy.context.scene, tmp_path, {frame: list(of_views) for frame, of_views in masks.items()})
    optimize("pose")
    bpy.context.scene.softras.seconds = 0
    return arm, truth


def test_a_pose(bent) -> None:
    target, truth = bent
    mesh = local_positions(target)
    assert error(target, truth) > 0.5
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert error(target, truth) < 0.06
    np.testing.assert_array_equal(local_positions(target), mesh)
    assert all(item.iou > 0.97 for item in bpy.context.scene.softras.views)
    assert not bpy.data.actions


def test_one_undo_takes_the_pose_back(bent) -> None:
    target, truth = bent
    name = target.name
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.softras.fit()
    bpy.ops.ed.undo_push(message="fit")
    bpy.ops.ed.undo()
    target = bpy.data.objects[name]
    assert error(target, truth) > 0.5
    assert tuple(armature_of(target).pose.bones["Bone 1"].rotation_quaternion) == (1, 0, 0, 0)
    bpy.ops.ed.redo()
    assert error(bpy.data.objects[name], truth) < 0.06


def test_locked_bones_stay(bent) -> None:
    target, _ = bent
    bone = armature_of(target).pose.bones["Bone 2"]
    bone.lock_rotation = True, True, True
    bpy.ops.softras.fit()
    assert tuple(bone.rotation_quaternion) == (1, 0, 0, 0)
    assert tuple(armature_of(target).pose.bones["Bone 1"].rotation_quaternion) != (1, 0, 0, 0)


def test_object_and_shape_keys(arm: bpy.types.Object, engine_python: str, tmp_path: Path) -> None:
    armature, keys = armature_of(arm), arm.data.shape_keys.key_blocks

    def pose(frame: int) -> None:
        armature.location, armature.rotation_euler = (0.3, -0.2, 0.15), (0.1, 0.15, 0.2)
        keys["Wide"].value, keys["Deep"].value = 0.7, 0.3

    masks, truth = render(engine_python, tmp_path / "render", arm, pose, (1,))
    armature.location, armature.rotation_euler = (0, 0, 0), (0, 0, 0)
    keys["Wide"].value = keys["Deep"].value = 0
    armature.lock_scale = True, True, True
    give_masks(bpy.context.scene, tmp_path, masks[1])
    optimize("object", "shape_keys")
    bpy.context.scene.softras.seconds = 0
    bpy.ops.softras.fit()
    assert error(arm, truth[1]) < 0.05
    assert keys["Wide"].value == pytest.approx(0.7, abs=0.05)
    assert keys["Deep"].value == pytest.approx(0.3, abs=0.05)
    assert tuple(armature.scale) == (1, 1, 1)


@pytest.mark.parametrize("together", [False, True])
def test_cameras_move_back(bent, together: bool) -> None:
    target, _ = bent
    bend(target)(2)  # the pose of the masks
    scene = bpy.context.scene
    cameras = [item.camera for item in scene.softras.views]

    def pixels() -> np.ndarray:
        """Where the cameras see the vertices."""
        shape = positions(target)
        see = part("scene.camera").camera_from_blender
        return np.array([see(camera, *SIZE, scene.render).project(shape) for camera in cameras])

    wanted = pixels()
    for number, camera in enumerate(cameras):
        camera.location.z += 0.2
        if not together:
            camera.rotation_euler.y += 0.03 * (number - 1)
    assert np.linalg.norm(pixels() - wanted, axis=2).mean() > 2
    optimize("cameras")
    scene.softras.cameras.together = together
    before = local_positions(target)
    bpy.ops.softras.fit()
    np.testing.assert_array_equal(local_positions(target), before)
    assert np.linalg.norm(pixels() - wanted, axis=2).max() < 1
    assert {camera.data.lens for camera in cameras} == {50}
    assert all(item.iou > 0.96 for item in scene.softras.views)


def test_vertices_on_top_of_a_pose(bent) -> None:
    """The mesh has a bump that the masks do not show; bending alone cannot take it away."""
    target, truth = bent
    basis = target.data.shape_keys.key_blocks["Basis"]
    points = local_positions(target)
    points[:, 0] *= 1 + 0.4 * np.exp(-(((points[:, 2] - 2.4) / 0.3) ** 2))
    for key in target.data.shape_keys.key_blocks:
        key.points.foreach_set("co", points.ravel())
    target.data.vertices.foreach_set("co", points.ravel())
    target.data.update()
    optimize("vertices", "pose")
    before = local_positions(target)
    bpy.ops.softras.fit()
    keys = target.data.shape_keys.key_blocks
    assert keys["Softras"].value == 1
    moved = np.array([point.co for point in keys["Softras"].points]) - np.array([point.co for point in basis.points])
    assert np.abs(moved).max() > 0.02
    np.testing.assert_array_equal(local_positions(target), before)
    assert np.mean([item.iou for item in bpy.context.scene.softras.views]) > 0.97
    assert np.linalg.norm(positions(target) - truth, axis=1).mean() < 0.08


def test_a_sequence(bending, capfd: pytest.CaptureFixture) -> None:
    target, truth = bending
    scene = bpy.context.scene
    scene.frame_set(2)
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert scene.frame_current == 2
    assert error(target, truth[2]) < 0.08
    for frame in FRAMES:
        scene.frame_set(frame)
        assert error(target, truth[frame]) < 0.08
    (action,) = bpy.data.actions
    assert action == armature_of(target).animation_data.action
    said = capfd.readouterr().out
    assert len(re.findall(r"^IoU 0\.9\d+  Camera \d$", said, re.MULTILINE)) == 3
    assert re.findall(r"^IoU 0\.9\d+  frame (\d)$", said, re.MULTILINE) == ["1", "2", "3"]
    assert "Fitted 'Arm' to 3 views in frames 1–3, mean IoU 0.9" in said
    settings = scene.softras
    assert settings.worst_frame in FRAMES and 0.9 < settings.worst_frame_iou <= min(1, settings.views[0].iou + 0.05)


def test_the_command_does_the_same(bending, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    _, truth = bending
    start, fitted = tmp_path / "start.blend", tmp_path / "fitted.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(start))
    assert part("ops.command").main([str(start), "--output", str(fitted), "--report", str(tmp_path / "report")]) == 0
    said = capsys.readouterr().out
    assert re.findall(r"^IoU 0\.9\d+  frame (\d)$", said, re.MULTILINE) == ["1", "2", "3"]
    assert (tmp_path / "report" / "report.html").is_file()
    bpy.ops.wm.open_mainfile(filepath=str(fitted))
    bpy.context.scene.frame_set(3)
    assert error(bpy.data.objects["Arm"], truth[3]) < 0.08


def test_one_undo_takes_a_sequence_back(bending) -> None:
    target, truth = bending
    name = target.name
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.softras.fit()
    bpy.ops.ed.undo_push(message="fit")
    assert bpy.data.actions
    bpy.ops.ed.undo()
    assert not bpy.data.actions
    assert armature_of(bpy.data.objects[name]).animation_data is None
    assert error(bpy.data.objects[name], truth[3]) > 0.5


def test_a_known_pose_stays(bending) -> None:
    target, truth = bending
    scene = bpy.context.scene
    scene.frame_set(1)
    bend(target)(1)
    bones = armature_of(target).pose.bones
    known = [tuple(bone.rotation_quaternion) for bone in bones]
    scene.softras.known_pose = True
    bpy.ops.softras.fit()
    scene.frame_set(1)
    np.testing.assert_allclose([tuple(bone.rotation_quaternion) for bone in bones], known, atol=1e-6)
    scene.frame_set(3)
    assert error(target, truth[3]) < 0.08


def test_frames_without_masks_get_no_keyframes(bending, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    target, truth = bending
    for file in tmp_path.glob("view*_0002.png"):
        file.unlink()
    bpy.ops.softras.fit()
    action = armature_of(target).animation_data.action
    curve = action.layers[0].strips[0].channelbags[0].fcurves[0]
    assert [key.co.x for key in curve.keyframe_points] == [1, 3]
    assert "No view has a mask in frame 2; no keyframes are made there." in capfd.readouterr().out
    bpy.context.scene.frame_set(3)
    assert error(target, truth[3]) < 0.08


def session_until(condition: Callable[[object], bool]):
    """A fit that has come so far that the condition holds."""
    running = part("session").FitSession(bpy.context)
    while not condition(running):
        assert not running.finished
        running.step()
    return running


def test_the_pose_is_shown_while_it_is_fitted_and_reverted(bent) -> None:
    target, _ = bent
    bone = armature_of(target).pose.bones["Bone 1"]
    before = snapshot(bpy.context.scene)
    running = session_until(lambda _: tuple(bone.rotation_quaternion) != (1, 0, 0, 0))
    assert running.text.startswith("Step")
    running.revert()
    assert tuple(bone.rotation_quaternion) == (1, 0, 0, 0)
    assert snapshot(bpy.context.scene) == before


def test_a_sequence_shows_the_current_frame_without_keyframes(bending) -> None:
    target, _ = bending
    scene = bpy.context.scene
    scene.frame_set(3)
    bone = armature_of(target).pose.bones["Bone 1"]
    running = session_until(lambda _: tuple(bone.rotation_quaternion) != (1, 0, 0, 0))
    assert not bpy.data.actions and scene.frame_current == 3
    running.revert()
    assert tuple(bone.rotation_quaternion) == (1, 0, 0, 0) and not bpy.data.actions


def test_the_best_so_far_is_kept(bent) -> None:
    target, truth = bent
    running = session_until(lambda session: bool(session.iou) and min(session.iou) > 0.6)
    running.ask_to_stop()
    while not running.finished:
        running.step()
    assert error(target, truth) < 1.5
    assert bpy.context.scene.softras.views[0].iou > 0.5


@pytest.mark.parametrize("what", ["armature", "camera"])
def test_what_is_deleted_meanwhile_is_named(bent, what: str) -> None:
    target, _ = bent
    optimize("pose", "cameras")
    armature, camera = armature_of(target), bpy.context.scene.softras.views[0].camera
    bone = armature.pose.bones["Bone 1"]
    running = session_until(lambda _: tuple(bone.rotation_quaternion) != (1, 0, 0, 0))
    place = tuple(bpy.data.objects["Camera 1"].location)
    bpy.data.objects.remove({"armature": armature, "camera": camera}[what])
    with pytest.raises(ValueError, match={"armature": "'Rig'", "camera": "'Camera 0'"}[what] + " was deleted while"):
        while not running.finished:
            running.step()
    assert part("session").current is None
    assert tuple(bpy.data.objects["Camera 1"].location) == pytest.approx(place, abs=0.5)
    if what == "camera":
        assert tuple(armature.pose.bones["Bone 1"].rotation_quaternion) == (1, 0, 0, 0)


def test_landmarks_settle_what_masks_cannot(arm: bpy.types.Object, engine_python: str, tmp_path: Path) -> None:
    """A round post looks the same however it is turned about itself; vertices pinned in two views say how it is."""
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_cylinder_add(vertices=32, radius=0.6, depth=3, location=(0, 0, 1.5))
    post = scene.softras.target = bpy.context.active_object
    post.lock_location, post.lock_scale, post.lock_rotation = (True,) * 3, (True,) * 3, (True, True, False)

    def pose(frame: int) -> None:
        post.rotation_euler.z = 0.5

    masks, truth = render(engine_python, tmp_path / "render", post, pose, (1,))
    post.rotation_euler.z = 0
    give_masks(scene, tmp_path, masks[1])
    optimize("object")
    scene.softras.seconds = 0
    numbers = np.arange(len(post.data.vertices))
    for view, vertex in ((0, 8), (0, 20), (1, 8), (1, 20)):
        scene.softras.active_view = view
        for elements in (post.data.edges, post.data.polygons):
            elements.foreach_set("select", np.zeros(len(elements), dtype=bool))
        post.data.vertices.foreach_set("select", numbers == vertex)
        assert bpy.ops.softras.landmark_add() == {"FINISHED"}
        scene.softras.views[view].landmarks[-1].empty.location = truth[1][vertex]
    bpy.ops.softras.fit()
    assert post.rotation_euler.z == pytest.approx(0.5, abs=0.03)

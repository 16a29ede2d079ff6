"""What the engine finds goes into the scene as the artist's own channels and keyframes, and can be taken back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from .conftest import armature_of, give_images, give_sequences, local_positions, optimize, part, positions, read_job

FRAMES = (1, 2, 3, 4)
ALL = ("object", "pose", "shape_keys", "cameras")


@pytest.fixture
def still(arm: bpy.types.Object) -> bpy.types.Object:
    """The arm with an image for each view."""
    give_images(bpy.context.scene)
    return arm


@pytest.fixture
def moving(arm: bpy.types.Object, tmp_path: Path) -> bpy.types.Object:
    """The arm with an image sequence for each view."""
    y, x = np.mgrid[:24, :32]
    masks = {frame: [np.hypot(x - 16, y - 12) < 4 + frame for _ in range(3)] for frame in FRAMES}
    give_sequences(bpy.context.scene, tmp_path, masks)
    return arm


def turned(transform, amount: float):
    """The transform with other numbers wherever it is free."""
    rotation = transform.rotation.copy()
    if all(transform.free_rotation):
        rotation[-3:] += amount * np.array([0.3, -0.4, 0.2])
    location = transform.location + amount * np.array(transform.free_location)
    scale = transform.scale * (1 + 0.1 * amount) if transform.free_scale else transform.scale
    return replace(transform, rotation=rotation, location=location, scale=scale)


def changed(rig, amount: float):
    """Another pose of the rig."""
    armature = rig.armature
    if armature is not None:
        bones = tuple(replace(bone, pose=turned(bone.pose, amount)) for bone in armature.bones)
        armature = replace(armature, bones=bones)
    keys = tuple(replace(key, value=min(0.2 * amount, key.high)) if key.free else key for key in rig.shape_keys)
    return replace(rig, transform=turned(rig.transform, amount), armature=armature, shape_keys=keys)


def moved(camera, amount: float):
    """Another camera of the same image size."""
    turn = np.array(Matrix.Rotation(0.1 * amount, 4, (1, 2, 3)))
    turn[:3, 3] = 0.2 * amount
    K = camera.K.copy()
    K[[0, 1], [0, 1]] *= 1 + 0.05 * amount
    K[:2, 2] += amount
    return replace(camera, K=K, world_to_camera=turn @ camera.world_to_camera)


def result_of(job):
    return part("scene.result").Result(bpy.context.scene, job)


def state() -> dict[str, object]:
    """All that a fit may change, as plain values."""
    scene = bpy.context.scene
    found: dict[str, object] = {"frame": scene.frame_current, "scenes": len(bpy.data.scenes)}
    for ob in bpy.data.objects:
        found[ob.name] = [
            *ob.location,
            *ob.rotation_euler,
            *ob.rotation_quaternion,
            *ob.scale,
            ob.data and ob.data.name,
        ]
        for bone in ob.pose.bones if ob.pose else ():
            found[f"{ob.name} {bone.name}"] = [*bone.location, *bone.rotation_quaternion, *bone.rotation_euler]
    for camera in bpy.data.cameras:
        found[f"data of {camera.name}"] = [camera.lens, camera.shift_x, camera.shift_y, camera.ortho_scale]
    for keys in bpy.data.shape_keys:
        for key in keys.key_blocks:
            found[f"{keys.name} {key.name}"] = [key.value, [tuple(point.co) for point in key.points]]
    for owner in (*bpy.data.objects, *bpy.data.cameras, *bpy.data.shape_keys):
        animation = owner.animation_data
        if animation is not None and animation.action is not None:
            found[f"action of {owner.name}"] = animation.action.name
    for action in bpy.data.actions:
        found[f"action {action.name}"] = [
            (curve.data_path, curve.array_index, [tuple(key.co) for key in curve.keyframe_points])
            for curve in curves_of(action)
        ]
    return found


def curves_of(action: bpy.types.Action) -> Iterator[bpy.types.FCurve]:
    for layer in action.layers:
        for strip in layer.strips:
            for bag in strip.channelbags:
                yield from bag.fcurves


def assert_shows(target: bpy.types.Object, rig) -> None:
    np.testing.assert_allclose(positions(target), rig.vertices(), atol=2e-5)


def sees(item, scene: bpy.types.Scene):
    """The engine's camera of a view of 32 x 24 pixels as it is now."""
    bpy.context.view_layer.update()
    return part("scene.camera").camera_from_blender(item.camera, 32, 24, scene.render)


def assert_sees(item, scene: bpy.types.Scene, camera) -> None:
    now = sees(item, scene)
    np.testing.assert_allclose(now.world_to_camera, camera.world_to_camera, atol=2e-5)
    np.testing.assert_allclose(now.K, camera.K, atol=1e-3)


@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE", "ZXY"])
def test_one_frame_is_shown_and_taken_back(still: bpy.types.Object, mode: str) -> None:
    scene = bpy.context.scene
    optimize(*ALL)
    scene.softras.cameras.focal = scene.softras.cameras.shift = True
    for owner in (armature_of(still), *armature_of(still).pose.bones, *(item.camera for item in scene.softras.views)):
        bpy.context.view_layer.update()
        world = owner.matrix_world.copy() if isinstance(owner, bpy.types.Object) else None
        owner.rotation_mode = mode
        if world is not None:
            owner.matrix_world = world
    job = read_job(scene)
    before = state()
    result = result_of(job)
    assert state() == before
    rig = changed(job.job.rig, 1.0)
    cameras = [moved(shot.engine_camera, 1 + shot.item) for shot in job.shots]
    result.show({scene.frame_current: rig}, cameras, None)
    assert_shows(still, rig)
    for shot, camera in zip(job.shots, cameras, strict=True):
        now = part("scene.camera").camera_from_blender(shot.camera, 64, 48, scene.render)
        np.testing.assert_allclose(now.world_to_camera, camera.world_to_camera, atol=2e-5)
        np.testing.assert_allclose(now.K, camera.K, atol=1e-3)
    assert result.write({scene.frame_current: rig}, cameras) == []
    assert not bpy.data.actions
    result.revert()
    assert state() == before


def test_only_what_may_change_of_a_camera_does(still: bpy.types.Object) -> None:
    scene = bpy.context.scene
    optimize("cameras")
    scene.softras.cameras.rotation = False
    camera = scene.softras.views[0].camera
    before = tuple(camera.rotation_euler), camera.data.lens, camera.data.shift_x
    job = read_job(scene)
    result_of(job).show({}, [moved(shot.engine_camera, 1) for shot in job.shots], None)
    assert before == (tuple(camera.rotation_euler), camera.data.lens, camera.data.shift_x)
    assert camera.location.x != pytest.approx(9 * np.sin(0.3), abs=0.01)


@pytest.mark.parametrize("parent_type", ["OBJECT", "BONE"])
def test_a_camera_below_a_parent(still: bpy.types.Object, parent_type: str) -> None:
    """And with scales of its own and of its parent's."""
    scene = bpy.context.scene
    item = scene.softras.views[1]
    parent = bpy.data.objects.new("Mount", None)
    scene.collection.objects.link(parent)
    if parent_type == "BONE":
        parent = armature_of(still)
    parent.scale, parent.rotation_euler, parent.location = (2, 2, 2), (0.3, 1, 2), (1, 2, 3)
    item.camera.parent, item.camera.parent_type = parent, parent_type
    item.camera.parent_bone = "Bone 1" if parent_type == "BONE" else ""
    item.camera.scale = (0.5, 1, 2)
    optimize("cameras")
    job = read_job(scene)
    scale = tuple(item.camera.scale)
    result_of(job).show({}, [moved(shot.engine_camera, 1) for shot in job.shots], None)
    bpy.context.view_layer.update()
    now = part("scene.camera").camera_from_blender(item.camera, 64, 48, scene.render)
    wanted = moved(job.shots[1].engine_camera, 1)
    np.testing.assert_allclose(now.world_to_camera, wanted.world_to_camera, atol=5e-5)
    assert tuple(item.camera.scale) == scale


def test_an_orthographic_camera(still: bpy.types.Object) -> None:
    scene = bpy.context.scene
    for item in scene.softras.views:
        item.camera.data.type = "ORTHO"
    scene.softras.cameras.focal = True
    optimize("cameras")
    job = read_job(scene)
    wanted = [moved(shot.engine_camera, 1) for shot in job.shots]
    result_of(job).show({}, wanted, None)
    now = part("scene.camera").camera_from_blender(scene.softras.views[0].camera, 64, 48, scene.render)
    assert now.K[0, 0] == pytest.approx(wanted[0].K[0, 0], rel=1e-4)


@pytest.mark.parametrize("kind", ["SHAPE_KEY", "MESH"])
def test_vertices_on_top_of_a_rig(still: bpy.types.Object, kind: str) -> None:
    scene = bpy.context.scene
    optimize("vertices", "pose", "shape_keys")
    scene.softras.result = kind
    still.data.shape_keys.key_blocks["Wide"].value = 0.3
    job = read_job(scene)
    before = state()
    result = result_of(job)
    rig = changed(job.job.rig, 0.6)
    bumps = rig.mesh.vertices + np.random.default_rng(0).normal(0, 0.02, rig.mesh.vertices.shape)
    rig = replace(rig, mesh=replace(rig.mesh, vertices=bumps))
    result.show({scene.frame_current: rig}, [], bumps, unposed=True)
    assert_shows(still, rig)
    result.revert()
    assert state() == before
    # A preview has the world's points.
    result = result_of(job)
    given = replace(rig, mesh=job.job.rig.mesh)
    result.show({scene.frame_current: given}, [], rig.vertices())
    assert_shows(still, rig)
    # A second fit starts from there.
    again = read_job(scene).job.rig
    np.testing.assert_allclose(again.vertices(), rig.vertices(), atol=2e-5)


def test_a_sequence_becomes_keyframes(moving: bpy.types.Object) -> None:
    scene = bpy.context.scene
    scene.frame_set(2)
    optimize("object", "pose", "shape_keys")
    armature = armature_of(moving)
    armature.pose.bones["Bone 1"].rotation_mode = "XYZ"
    armature.lock_scale = True, True, True
    job = read_job(scene)
    assert job.frames == list(FRAMES)
    rigs = {frame: changed(job.job.rig, 0.5 * frame) for frame in FRAMES}
    result = result_of(job)
    result.show({3: rigs[3]}, [], None)
    assert_shows(moving, job.job.rig)  # that frame is not the current one
    result.show({2: rigs[2]}, [], None)
    assert_shows(moving, rigs[2])
    assert not bpy.data.actions
    assert result.write(rigs, []) == []
    assert scene.frame_current == 2
    for frame in FRAMES:
        scene.frame_set(frame)
        assert_shows(moving, rigs[frame])
    assert {action.name for action in bpy.data.actions} == {"Softras Rig", "Softras Key"}
    curves = list(curves_of(armature.animation_data.action))
    assert {len(curve.keyframe_points) for curve in curves} == {len(FRAMES)}
    paths = {curve.data_path for curve in curves}
    assert "location" in paths and "scale" not in paths
    assert 'pose.bones["Bone 0"].location' in paths and 'pose.bones["Bone 1"].location' not in paths
    assert 'pose.bones["Bone 1"].rotation_euler' in paths
    assert {curve.group.name for curve in curves} == {"Object Transforms", "Bone 0", "Bone 1", "Bone 2"}


def animate(moving: bpy.types.Object) -> bpy.types.Action:
    """Give the armature keyframes of a fitted and of another channel, within the sequence and beyond it."""
    armature = armature_of(moving)
    bone = armature.pose.bones["Bone 1"]
    for frame in (-5, 2, 2.5, 3, 20):
        bone.rotation_quaternion = (1, 0.1 * frame, 0, 0)
        bone.keyframe_insert("rotation_quaternion", frame=frame)
        armature.show_in_front = frame > 2
        armature.keyframe_insert("show_in_front", frame=frame)
    bpy.context.scene.frame_set(2)
    return armature.animation_data.action


@pytest.mark.parametrize("replace_keys", [False, True])
def test_existing_keyframes(moving: bpy.types.Object, replace_keys: bool) -> None:
    scene = bpy.context.scene
    action = animate(moving)
    armature = armature_of(moving)
    before = state()
    optimize("pose")
    scene.softras.replace_keys = replace_keys
    job = read_job(scene)
    assert state() == before
    rigs = {frame: changed(job.job.rig, 0.5 * frame) for frame in FRAMES}
    result = result_of(job)
    result.show({2: rigs[2]}, [], None)
    result.revert()
    assert state() == before
    result.write(rigs, [])
    now = armature.animation_data.action
    if replace_keys:
        assert now == action and len(bpy.data.actions) == 1
    else:
        assert now != action and now.name.startswith("Softras ") and action.use_fake_user
        assert state()[f"action {action.name}"] == before[f"action {action.name}"]
    for frame in FRAMES:
        scene.frame_set(frame)
        assert_shows(moving, rigs[frame])
        assert armature.show_in_front == (frame > 2)  # what is not fitted goes on
    path = 'pose.bones["Bone 1"].rotation_quaternion'
    curve = next(curve for curve in curves_of(now) if (curve.data_path, curve.array_index) == (path, 1))
    assert [key.co.x for key in curve.keyframe_points] == [-5, *FRAMES, 20]
    assert curve.keyframe_points[-1].co.y == pytest.approx(2)


def test_ids_that_share_an_action_go_on_sharing_one(moving: bpy.types.Object) -> None:
    scene = bpy.context.scene
    action = animate(moving)
    keys = moving.data.shape_keys
    animation = keys.animation_data_create()
    animation.action = action
    animation.action_slot = action.slots.new("KEY", "Key")
    keys.key_blocks["Wide"].keyframe_insert("value", frame=2)
    optimize("pose", "shape_keys")
    job = read_job(scene)
    rigs = {frame: changed(job.job.rig, 0.5 * frame) for frame in FRAMES}
    result_of(job).write(rigs, [])
    assert keys.animation_data.action == armature_of(moving).animation_data.action != action
    for frame in FRAMES:
        scene.frame_set(frame)
        assert_shows(moving, rigs[frame])


def test_one_frame_of_what_has_keyframes(still: bpy.types.Object) -> None:
    """They would show again at the next frame: a note says so, unless keyframes may be replaced."""
    scene = bpy.context.scene
    action = animate(still)
    before = state()
    optimize("pose")
    job = read_job(scene)
    rigs = {2: changed(job.job.rig, 0.7)}
    result = result_of(job)
    result.show(rigs, [], None)
    (note,) = result.write(rigs, [])
    assert note.startswith("'Rig' has keyframes")
    assert_shows(still, rigs[2])
    assert state()[f"action {action.name}"] == before[f"action {action.name}"]
    scene.softras.replace_keys = True
    assert result.write(rigs, []) == []
    scene.frame_set(3)
    scene.frame_set(2)
    bone = armature_of(still).pose.bones["Bone 1"]
    np.testing.assert_allclose(bone.rotation_quaternion, rigs[2].armature.bones[1].pose.rotation, atol=1e-6)


def test_rotations_go_from_frame_to_frame_the_short_way(moving: bpy.types.Object) -> None:
    scene = bpy.context.scene
    armature = armature_of(moving)
    armature.pose.bones["Bone 0"].rotation_mode = "YXZ"
    armature.pose.bones["Bone 2"].rotation_mode = "AXIS_ANGLE"
    optimize("pose")
    job = read_job(scene)
    rigs = {}
    for frame in FRAMES:
        rig = changed(job.job.rig, 0.2 * frame)
        sign, turns = (-1) ** frame, 2 * np.pi * (frame % 3)
        numbers = [rig.armature.bones[0].pose.rotation + turns, sign * rig.armature.bones[1].pose.rotation]
        numbers += [sign * np.array([0.3 * frame, 0.6, 0, 0.8])]
        bones = tuple(
            replace(bone, pose=replace(bone.pose, rotation=rotation))
            for bone, rotation in zip(rig.armature.bones, numbers, strict=True)
        )
        rigs[frame] = replace(rig, armature=replace(rig.armature, bones=bones))
    result_of(job).write(rigs, [])
    for frame in FRAMES:
        scene.frame_set(frame)
        assert_shows(moving, rigs[frame])
    for curve in curves_of(armature.animation_data.action):
        values = np.array([key.co.y for key in curve.keyframe_points])
        assert np.abs(np.diff(values)).max() < 0.6, curve.data_path


def test_cameras_that_stand_still_and_cameras_that_move(moving: bpy.types.Object) -> None:
    scene = bpy.context.scene
    mount = bpy.data.objects.new("Mount", None)
    scene.collection.objects.link(mount)
    first, second, third = (item.camera for item in scene.softras.views)
    second.parent = mount
    for frame in FRAMES:
        mount.location.x = 0.3 * frame
        mount.keyframe_insert("location", frame=frame)
        third.keyframe_insert("rotation_euler", frame=frame)  # keyframes, of a camera that stands still
    scene.softras.cameras.focal = True
    optimize("pose", "cameras")
    scene.frame_set(3)
    job = read_job(scene)
    before = state()
    result = result_of(job)
    amount = {first.name: dict.fromkeys(FRAMES, 1), third.name: dict.fromkeys(FRAMES, 2)}
    amount[second.name] = {frame: 0.3 * frame for frame in FRAMES}
    cameras = [moved(shot.engine_camera, amount[shot.camera.name][shot.frame]) for shot in job.shots]
    result.show({}, cameras, None)
    for shot, camera in zip(job.shots, cameras, strict=True):
        if shot.frame == 3:
            assert_sees(scene.softras.views[shot.item], scene, replace(camera, K=sees_K(camera)))
    result.revert()
    assert state() == before
    result.show({}, cameras, None)
    result.write(dict.fromkeys(FRAMES, job.job.rig), cameras)
    assert first.animation_data is None and first.data.animation_data is None
    assert second.animation_data.action.name == "Softras Camera 1"
    assert third.animation_data.action.name.startswith("Softras ")
    for shot, camera in zip(job.shots, cameras, strict=True):
        scene.frame_set(shot.frame)
        assert_sees(scene.softras.views[shot.item], scene, replace(camera, K=sees_K(camera)))


def sees_K(camera) -> np.ndarray:
    """The intrinsics without the shift, which was not to change."""
    K = camera.K.copy()
    K[:2, 2] = camera.width / 2, camera.height / 2
    return K


@pytest.mark.parametrize("what", ["armature", "camera", "target", "bone", "key"])
def test_what_goes_away_meanwhile_is_named_and_the_rest_is_put_back(still: bpy.types.Object, what: str) -> None:
    scene = bpy.context.scene
    optimize(*ALL)
    armature, camera, other = armature_of(still), scene.softras.views[0].camera, scene.softras.views[1].camera
    job = read_job(scene)
    place = tuple(other.location)
    result = result_of(job)
    rig = changed(job.job.rig, 0.5)
    result.show({scene.frame_current: rig}, [moved(shot.engine_camera, 1) for shot in job.shots], None)
    assert tuple(other.location) != place
    if what == "bone":
        bpy.context.view_layer.objects.active = armature
        bpy.ops.object.mode_set(mode="EDIT")
        armature.data.edit_bones.remove(armature.data.edit_bones["Bone 2"])
        bpy.ops.object.mode_set(mode="OBJECT")
    elif what == "key":
        still.shape_key_remove(still.data.shape_keys.key_blocks["Deep"])
    else:
        bpy.data.objects.remove({"armature": armature, "camera": camera, "target": still}[what])
    words = {
        "armature": "'Rig' was deleted",
        "camera": "'Camera 0' was deleted",
        "target": "'Arm' was deleted",
        "bone": "'Rig' was edited",
        "key": "'Key' was edited",
    }
    assert words[what] in result.problem()
    result.revert()
    assert tuple(other.location) == place


def test_a_shared_mesh_keeps_its_shape_keys(still: bpy.types.Object) -> None:
    twin = bpy.data.objects.new("Twin", still.data)
    bpy.context.scene.collection.objects.link(twin)
    optimize("shape_keys")
    job = read_job(bpy.context.scene)
    assert "shared its mesh" in job.notes[-1]
    before = state()
    result = result_of(job)
    result.show({1: changed(job.job.rig, 1)}, [], None)
    assert still.data.shape_keys.key_blocks["Wide"].value == pytest.approx(0.2)
    assert twin.data.shape_keys.key_blocks["Wide"].value == 0 and twin.data != still.data
    result.revert()
    assert still.data == twin.data
    assert {name: state()[name] for name in before} == before


def test_speed(moving: bpy.types.Object) -> None:
    """Keyframes of 500 frames are no matter of seconds."""
    import time

    optimize("pose", "object")
    scene = bpy.context.scene
    job = read_job(scene)
    rigs = {frame: changed(job.job.rig, 0.01 * frame) for frame in range(1, 501)}
    result = result_of(job)
    started = time.process_time()
    result.write(rigs, [])
    assert time.process_time() - started < 2
    assert local_positions(moving).shape == job.job.rig.mesh.vertices.shape

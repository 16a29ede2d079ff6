"""Rigs read from Blender are what Blender shows, and go back into it."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from .conftest import ALL_PARTS, ROOT, add_armature, armature_of, find_target, part, positions, read_rig

MODES = ("QUATERNION", "AXIS_ANGLE", "XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")
INHERIT_SCALE = ("FULL", "FIX_SHEAR", "ALIGNED", "AVERAGE", "NONE", "NONE_LEGACY")
TOLERANCE = 1e-4  # of the object's size
# Run by the engine's Python on folders of rigs: the vertices as they are, and a rig moved at random with its vertices.
MOVE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np, torch
from softras.deform import PosedRig
from softras.io.rigs import load_rig, save_rig
for number, folder in enumerate(map(Path, sys.argv[4:])):
    posed = PosedRig(load_rig(folder), sys.argv[2].split(","), dtype=torch.float64)
    np.save(folder / "still.npy", posed.vertices(torch.zeros(posed.count).double()))
    change = np.random.default_rng(number).uniform(-1, 1, posed.count) * posed.units * float(sys.argv[3])
    change = torch.tensor(np.clip(change, *posed.bounds.T))
    save_rig(folder / "moved", posed.rig(change))
    np.save(folder / "moved.npy", posed.vertices(change))
"""


@pytest.fixture
def data() -> Path:
    folder = Path(os.environ.get("SOFTRAS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; set SOFTRAS_DATA")
    return folder


def write(target: bpy.types.Object, rig) -> None:
    part("scene.channels").write_channels(part("scene.rig").channels_of(find_target(target), rig))


def assert_same(vertices: np.ndarray, target: bpy.types.Object) -> None:
    """The vertices (V, 3) are those that Blender shows, to a part of their size."""
    shown = positions(target)
    size = np.ptp(shown, axis=0).max()
    assert np.isfinite(vertices).all()
    error = np.linalg.norm(vertices - shown, axis=1).max() / size
    assert error < TOLERANCE, f"{error:.2e} of the size"


def assert_goes_there_and_back(
    target: bpy.types.Object, folder: Path, engine_python: str, optimize=ALL_PARTS, reach: float = 0.4
) -> None:
    """What the engine makes of a rig, moved at random, is what Blender shows once it is written back."""
    rigs = part("engine.softras.io.rigs")
    rig = read_rig(target, optimize)
    assert_same(rig.vertices(), target)
    rigs.save_rig(folder, rig)
    command = [engine_python, "-c", MOVE, str(ROOT / "engine"), ",".join(optimize), str(reach), str(folder)]
    subprocess.run(command, check=True)
    assert_same(np.load(folder / "still.npy"), target)
    before = positions(target)
    moved = rigs.load_rig(folder / "moved")
    write(target, moved)
    assert_same(np.load(folder / "moved.npy"), target)
    assert np.abs(positions(target) - before).max() > 0.01 * np.ptp(before, axis=0).max()
    assert_same(read_rig(target, optimize).vertices(), target)


def randomize(
    armature: bpy.types.Object, random: np.random.Generator, *, scale: float = 0.0, turn: float = 0.6
) -> None:
    """Give every bone a pose in a rotation mode, each its own."""
    for number, bone in enumerate(armature.pose.bones):
        bone.rotation_mode = MODES[number % len(MODES)]
        bone.rotation_quaternion = np.array([1, 0, 0, 0]) + random.normal(size=4) * turn / 2
        bone.rotation_axis_angle = (random.uniform(-turn, turn), *random.normal(size=3))
        bone.rotation_euler = random.uniform(-turn, turn, 3)
        bone.location = random.normal(size=3) * 0.1
        bone.scale = 1 + random.uniform(-scale, scale, 3)


def place(ob: bpy.types.Object, random: np.random.Generator, mode: str) -> None:
    """Put an object, and a parent above it, anywhere."""
    parent = bpy.data.objects.new("Parent", None)
    bpy.context.scene.collection.objects.link(parent)
    parent.matrix_world = Matrix(np.eye(4) + np.pad(random.normal(size=(3, 4)) * 0.2, ((0, 1), (0, 0))))
    ob.parent = parent
    ob.matrix_parent_inverse = Matrix.Translation(random.normal(size=3))
    ob.rotation_mode = mode
    ob.rotation_axis_angle = (0.7, *random.normal(size=3))
    ob.rotation_quaternion, ob.rotation_euler = random.normal(size=4), random.normal(size=3)
    ob.location, ob.scale = random.normal(size=3), random.uniform(0.5, 1.5, 3)


@pytest.mark.parametrize("seed", range(4))
def test_automatic_weights(snake, tmp_path, engine_python, seed):
    random = np.random.default_rng(seed)
    armature = armature_of(snake)
    randomize(armature, random, scale=0.3)
    place(armature, random, MODES[seed * 2])
    keys = snake.data.shape_keys.key_blocks
    keys["Bumps"].relative_key = keys["Wide"]
    keys["Wide"].vertex_group = "Bone 2"
    keys["Bumps"].value, keys["Bumps"].slider_min = -0.5 * (seed % 2), -1
    assert_goes_there_and_back(snake, tmp_path, engine_python)


@pytest.mark.parametrize("inherit_scale", INHERIT_SCALE)
@pytest.mark.parametrize("inherit_rotation", [True, False])
def test_bones_inherit_as_in_blender(snake, tmp_path, engine_python, inherit_scale, inherit_rotation):
    armature = armature_of(snake)
    for number, bone in enumerate(armature.data.bones):
        bone.inherit_scale, bone.use_inherit_rotation = inherit_scale, inherit_rotation
        bone.use_local_location = number % 2 == 0
    randomize(armature, np.random.default_rng(1), scale=0.4)
    assert_goes_there_and_back(snake, tmp_path, engine_python)


def test_mixed_inheritance_and_shear(snake):
    random = np.random.default_rng(5)
    armature = armature_of(snake)
    for _ in range(20):
        for bone in armature.data.bones:
            bone.inherit_scale, bone.use_inherit_rotation = str(random.choice(INHERIT_SCALE)), random.random() < 0.7
            bone.use_local_location = random.random() < 0.5
        randomize(armature, random, scale=0.5, turn=1.5)
        assert_same(read_rig(snake, ALL_PARTS).vertices(), snake)


def test_vertices_and_bones_without_weight(snake, tmp_path, engine_python):
    group = snake.vertex_groups["Bone 2"]
    for group in snake.vertex_groups:
        group.remove(range(20))
        group.add([30], 5e-5 / len(snake.vertex_groups), "REPLACE")  # too little to count
    snake.vertex_groups.remove(snake.vertex_groups["Side"])
    armature = armature_of(snake)
    armature.data.bones["Bone 3"].use_deform = False
    randomize(armature, np.random.default_rng(2))
    armature.pose.bones["Side"].constraints.new("COPY_ROTATION")  # holds nothing that is seen
    armature.pose.bones["Side"].scale = (0, 0, 0)
    rig = read_rig(snake, ALL_PARTS)
    free = {bone.name: any(bone.pose.free_rotation) for bone in rig.armature.bones}
    assert free == {"Bone 0": True, "Bone 1": True, "Bone 2": True, "Bone 3": False, "Side": False}
    assert_goes_there_and_back(snake, tmp_path, engine_python)


def test_connected_bones(snake, tmp_path, engine_python):
    armature = armature_of(snake)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    for bone in armature.data.edit_bones:
        bone.use_connect = bone.name.startswith("Bone") and bone.parent is not None
    bpy.ops.object.mode_set(mode="OBJECT")
    randomize(armature, np.random.default_rng(2))
    assert_goes_there_and_back(snake, tmp_path, engine_python)


def test_locks_and_limits(snake, tmp_path, engine_python):
    armature = armature_of(snake)
    randomize(armature, np.random.default_rng(3), turn=0.3)
    bones = armature.pose.bones
    for number, bone in enumerate(bones):  # in Euler angles, an axis-angle and a quaternion
        bone.rotation_mode = ("YZX", "QUATERNION", "ZXY", "AXIS_ANGLE", "XYZ")[number]
        limit = bone.constraints.new("LIMIT_ROTATION")
        limit.owner_space = "LOCAL"
        for axis in "xyz"[: 1 + number % 3]:
            setattr(limit, f"use_limit_{axis}", True)
            setattr(limit, f"min_{axis}", -0.2)
            setattr(limit, f"max_{axis}", 0.1)
    bones["Bone 0"].lock_location = True, False, True
    bones["Bone 1"].lock_rotation = False, True, False
    armature.lock_scale = True, True, True
    rig = read_rig(snake, ALL_PARTS)
    assert rig.armature.bones[0].pose.free_location == (False, True, False)
    assert rig.armature.bones[1].pose.free_rotation == (True, False, True)
    assert not any(rig.armature.bones[2].pose.free_location) and not rig.transform.free_scale
    locked = bones["Bone 0"].location[0], tuple(armature.scale)
    assert_goes_there_and_back(snake, tmp_path, engine_python, reach=2.5)
    assert locked == (bones["Bone 0"].location[0], tuple(armature.scale))
    bones["Bone 1"].lock_rotations_4d = bones["Bone 1"].lock_rotation_w = True
    assert not any(read_rig(snake, ALL_PARTS).armature.bones[1].pose.free_rotation)


@pytest.mark.parametrize("limited", ["x", "y", "z", "xy", "xz"])
@pytest.mark.parametrize("mode", ["XYZ", "YZX", "QUATERNION"])
def test_a_limit_rotation_constraint_changes_nothing_within_the_limits_that_are_read(snake, mode, limited):
    bone = armature_of(snake).pose.bones["Bone 1"]
    bone.rotation_mode = mode
    constraint = bone.constraints.new("LIMIT_ROTATION")
    constraint.owner_space = "LOCAL"
    for axis in limited:
        setattr(constraint, f"use_limit_{axis}", True)
        setattr(constraint, f"min_{axis}", -0.2)
        setattr(constraint, f"max_{axis}", 2.5 if len(limited) > 1 else 0.3)
    rig = read_rig(snake, ("pose",))
    moved = next(bone for bone in rig.armature.bones if bone.name == "Bone 1")
    module = part("engine.softras.rotations")
    for corner in itertools.product(*(moved.pose.limits * 0.999)):
        matrix = module.rotation_matrix(corner, "XYZ" if mode == "QUATERNION" else mode)
        rotation = module.rotation_numbers(matrix, mode, moved.pose.rotation) if mode == "QUATERNION" else corner
        pose = dataclasses.replace(moved.pose, rotation=rotation)
        bones = [dataclasses.replace(bone, pose=pose) if bone is moved else bone for bone in rig.armature.bones]
        turned = dataclasses.replace(rig, armature=dataclasses.replace(rig.armature, bones=tuple(bones)))
        write(snake, turned)
        assert_same(turned.vertices(), snake)


def test_a_pose_that_is_held_is_read_as_it_is_shown(snake, tmp_path, engine_python):
    armature = armature_of(snake)
    randomize(armature, np.random.default_rng(3))
    goal = bpy.data.objects.new("Goal", None)
    bpy.context.scene.collection.objects.link(goal)
    goal.location = 2, 1, 2
    ik = armature.pose.bones["Bone 3"].constraints.new("IK")
    ik.target = goal
    armature.pose.bones["Bone 1"].driver_add("location", 0).driver.expression = "0.3"
    pose = armature.pose.bones["Bone 1"].location[1]
    with pytest.raises(ValueError, match="holds it to 'Goal', which does not move with 'Rig'"):
        read_rig(snake, ("object",))
    goal.parent = armature
    assert_goes_there_and_back(snake, tmp_path, engine_python, optimize=("object", "shape_keys"))
    assert armature.pose.bones["Bone 1"].location[1] == pose


def test_a_mesh_without_an_armature(snake, tmp_path, engine_python):
    bpy.data.objects.remove(armature_of(snake))
    place(snake, np.random.default_rng(0), "AXIS_ANGLE")
    snake.scale[0] *= -1  # mirrored
    assert_goes_there_and_back(snake, tmp_path, engine_python, optimize=("object", "shape_keys"))
    with pytest.raises(ValueError, match="no Armature modifier"):
        read_rig(snake, ("pose",))


def test_a_mesh_beside_its_armature(snake, tmp_path, engine_python):
    armature = armature_of(snake)
    random = np.random.default_rng(4)
    snake.parent = None
    place(snake, random, "XYZ")
    armature.location, armature.scale = (0.2, 0, 0), (1, 1.2, 0.9)
    randomize(armature, random)
    assert_goes_there_and_back(snake, tmp_path, engine_python, optimize=("pose", "shape_keys"))
    with pytest.raises(ValueError, match="leave its armature 'Rig' behind"):
        read_rig(snake, ("object",))


def test_what_is_left_out_and_what_is_pinned(snake):
    snake.modifiers.new("Smooth", "SUBSURF")
    snake.modifiers.new("Other", "BEVEL").show_viewport = False
    assert find_target(snake).single.left_out == ["Smooth"]
    snake.modifiers.clear()
    bpy.context.view_layer.update()
    snake.data.shape_keys.key_blocks["Bumps"].mute = True
    rig = read_rig(snake, ("shape_keys",))
    assert [key.name for key in rig.shape_keys] == ["Wide"]
    assert_same(rig.vertices(), snake)
    snake.show_only_shape_key, snake.active_shape_key_index = True, 1
    assert_same(read_rig(snake, ("object",)).vertices(), snake)


@pytest.mark.parametrize("file", ["fox_walk/Fox.glb", "simple_skin/SimpleSkin.gltf"])
def test_rigs_from_gltf(scene, data, tmp_path, engine_python, file):
    bpy.ops.preferences.addon_enable(module="io_scene_gltf2")
    bpy.ops.import_scene.gltf(filepath=str(data / file))
    target = next(ob for ob in bpy.data.objects if any(modifier.type == "ARMATURE" for modifier in ob.modifiers))
    armature = armature_of(target)
    if armature.animation_data:
        scene.frame_set(12)  # in the midst of an animation
        assert_same(read_rig(target, ("object", "pose")).vertices(), target)
        armature.animation_data_clear()
    assert_goes_there_and_back(target, tmp_path, engine_python, optimize=("object", "pose"))
    random = np.random.default_rng(0)
    for _ in range(5):
        randomize(armature, random, scale=0.2)
        place(armature, random, str(random.choice(MODES)))
        assert_same(read_rig(target, ("object", "pose")).vertices(), target)


@pytest.fixture
def human(scene, data, monkeypatch) -> bpy.types.Object:
    """The MakeHuman base mesh with helpers removed, its bones, weights and targets as shape keys."""
    for folder in ("engine", "benchmarks"):
        monkeypatch.syspath_prepend(ROOT / folder)
    import rigs

    points, polygons, used = rigs.human_mesh(data)
    index = np.full(len(points), -1)
    index[used] = np.arange(len(used))
    mesh = bpy.data.meshes.new("Human")
    mesh.from_pydata(points[used].tolist(), [], index[np.array(polygons)].tolist())
    target = bpy.data.objects.new("Human", mesh)
    scene.collection.objects.link(target)
    armature = add_armature([(name, *bone) for name, bone in rigs.human_bones(data).items()])
    for name, weights in rigs.human_weights(data).items():
        group = target.vertex_groups.new(name=name)
        for vertex, weight in weights:
            if index[vertex] >= 0:
                group.add([int(index[vertex])], weight, "REPLACE")
    target.parent = armature
    target.modifiers.new("Armature", "ARMATURE").object = armature
    target.shape_key_add(name="Basis")
    for key in rigs.human(data).shape_keys:
        block = target.shape_key_add(name=key.name)
        block.points.foreach_set("co", (rigs.human(data).mesh.vertices + key.offsets).astype(np.float32).ravel())
    return target


def test_the_human(human, data, tmp_path, engine_python):
    import rigs

    # The benchmarks' reader of the files makes the same bones as Blender does.
    expected = rigs.human(data)
    rig = read_rig(human, ALL_PARTS)
    names = [bone.name for bone in rig.armature.bones]
    for bone in expected.armature.bones:
        np.testing.assert_allclose(rig.armature.bones[names.index(bone.name)].rest, bone.rest, atol=1e-4)
    random = np.random.default_rng(0)
    randomize(armature_of(human), random)
    place(armature_of(human), random, "QUATERNION")
    human.data.shape_keys.key_blocks[2].value = 0.7
    assert_goes_there_and_back(human, tmp_path, engine_python)

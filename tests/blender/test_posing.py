"""Poses of armatures that only Blender can tell: inverse kinematics, volume-preserving skins, constraints, drivers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix

from .conftest import armature_of, optimize, part
from .test_pose_fit import bend, error, give_masks, render, rest, session_until

Pose = Callable[[int], None]


def preserves_volume(arm: bpy.types.Object) -> Pose:
    arm.modifiers["Armature"].use_deform_preserve_volume = True
    return bend(arm)


def follows_a_goal(arm: bpy.types.Object) -> Pose:
    """A bone without vertices at the arm's end pulls the chain."""
    armature = armature_of(arm)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    goal = armature.data.edit_bones.new("Goal")
    goal.head, goal.tail, goal.use_deform = (0, 0, 3), (0, 0.5, 3), False
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.context.view_layer.objects.active = arm
    reach = armature.pose.bones["Bone 2"].constraints.new("IK")
    reach.target, reach.subtarget, reach.chain_count = armature, "Goal", 3
    for number in range(3):
        armature.pose.bones[f"Bone {number}"].lock_rotation = (True, True, True)
        armature.pose.bones[f"Bone {number}"].lock_rotation_w = True
        armature.pose.bones[f"Bone {number}"].lock_rotations_4d = True
        armature.pose.bones[f"Bone {number}"].lock_location = (True, True, True)
    pull = armature.pose.bones["Goal"]
    pull.lock_rotation = (True, True, True)

    def pose(frame: int) -> None:
        pull.location = (0.5, -0.3, 0.4)

    return pose


def is_bendy(arm: bpy.types.Object) -> Pose:
    armature_of(arm).data.bones["Bone 1"].bbone_segments = 4
    return bend(arm)


def is_copied(arm: bpy.types.Object) -> Pose:
    """The last bone turns as the one below it does."""
    pose_bones = armature_of(arm).pose.bones
    copy = pose_bones["Bone 2"].constraints.new("COPY_ROTATION")
    copy.target, copy.subtarget, copy.owner_space, copy.target_space = armature_of(arm), "Bone 1", "LOCAL", "LOCAL"

    def pose(frame: int) -> None:
        pose_bones["Bone 1"].rotation_quaternion = Euler((0.5, 0.0, 0.3)).to_quaternion()

    return pose


def prepare(arm: bpy.types.Object, pose: Pose, engine_python: str, folder: Path) -> np.ndarray:
    """Give the views masks of the arm in the pose, and the arm its rest. Returns its vertices in the pose."""
    masks, truth = render(engine_python, folder / "render", arm, pose, (1,))
    rest(arm)
    for bone in armature_of(arm).pose.bones:
        bone.location = (0, 0, 0)
    give_masks(bpy.context.scene, folder, masks[1])
    optimize("pose")
    bpy.context.scene.softras.seconds = 0
    return truth[1]


def select(arm: bpy.types.Object, *names: str) -> None:
    """Select these bones and no others."""
    for bone in armature_of(arm).pose.bones:
        owner = bone if hasattr(bone, "select") else bone.bone  # it belongs to the pose since Blender 5.0
        owner.select = bone.name in names


@pytest.mark.parametrize("rig", [preserves_volume, follows_a_goal, is_bendy, is_copied])
def test_a_pose_that_only_blender_can_tell(rig, arm, engine_python: str, tmp_path: Path, capfd) -> None:
    pose = rig(arm)
    truth = prepare(arm, pose, engine_python, tmp_path)
    assert error(arm, truth) > 0.3
    lines = list(part("scene.choices").locks(bpy.context.scene.softras, arm))
    assert all("cannot be fitted" not in line for line in lines)
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert all(item.iou > 0.97 for item in bpy.context.scene.softras.views)
    assert "found by trying the bones" in capfd.readouterr().out
    assert "found by trying the bones" in bpy.context.scene.softras.notes  # where the panel finds it
    assert error(arm, truth) < 0.06


def test_only_selected_bones_are_tried(arm: bpy.types.Object, engine_python: str, tmp_path: Path, capfd) -> None:
    prepare(arm, preserves_volume(arm), engine_python, tmp_path)
    select(arm, "Bone 1")
    assert bpy.ops.softras.fit() == {"FINISHED"}
    first, second, third = (bone.matrix_basis.copy() for bone in armature_of(arm).pose.bones)
    assert first == third == Matrix() != second
    assert "Of 3 bones, only the 1 that are selected are fitted." in capfd.readouterr().out


def test_what_was_noted_of_a_fit_stays_until_the_next(
    arm: bpy.types.Object, engine_python: str, tmp_path: Path
) -> None:
    prepare(arm, preserves_volume(arm), engine_python, tmp_path)
    select(arm, "Bone 1")
    assert bpy.ops.softras.fit() == {"FINISHED"}
    settings = bpy.context.scene.softras
    assert "only the 1 that are selected are fitted." in settings.notes.splitlines()[1]
    select(arm, "Bone 0", "Bone 1", "Bone 2")
    arm.modifiers["Armature"].use_deform_preserve_volume = False
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert "selected" not in settings.notes


def test_too_many_channels_are_refused(arm: bpy.types.Object, engine_python: str, tmp_path: Path, monkeypatch) -> None:
    prepare(arm, preserves_volume(arm), engine_python, tmp_path)
    monkeypatch.setattr(part("scene.posing"), "MOST", 5)
    with pytest.raises(RuntimeError, match="channels of 'Rig' are free, which are too many to fit; select the bones"):
        bpy.ops.softras.fit()


def test_a_pose_goes_back_while_it_is_tried(arm: bpy.types.Object, engine_python: str, tmp_path: Path) -> None:
    prepare(arm, preserves_volume(arm), engine_python, tmp_path)
    before = [bone.matrix_basis.copy() for bone in armature_of(arm).pose.bones]
    session = session_until(lambda session: session.text.startswith("Round 2"))
    assert [bone.matrix_basis for bone in armature_of(arm).pose.bones] != before
    session.revert()
    assert [bone.matrix_basis for bone in armature_of(arm).pose.bones] == before


def test_the_best_of_the_rounds_so_far_is_kept(arm: bpy.types.Object, engine_python: str, tmp_path: Path) -> None:
    truth = prepare(arm, preserves_volume(arm), engine_python, tmp_path)
    given = error(arm, truth)
    session = session_until(lambda session: session.text.startswith("Round 3"))
    session.ask_to_stop()
    session.wait()
    assert error(arm, truth) < given / 2
    assert session.result["status"] == "stopped"

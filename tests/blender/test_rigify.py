"""A character of Rigify, Blender's own generator of rigs with controls, is posed through its controls."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Euler

from .conftest import add_cameras, optimize
from .test_pose_fit import give_masks, render
from .test_posing import select

CONTROLS = {
    "upper_arm_fk.L": (0.3, 0.0, 0.3),
    "upper_arm_fk.R": (-0.35, 0.0, 0.2),
    "forearm_fk.L": (0.4, 0.0, 0.0),
    "forearm_fk.R": (0.3, 0.0, 0.0),
    "thigh_fk.L": (-0.4, 0.0, 0.1),
    "shin_fk.L": (0.45, 0.0, 0.0),
    "chest": (0.2, 0.15, 0.0),
    "head": (0.2, 0.2, 0.0),
}


# How the names of the deforming bones begin around which the body is.
BODY = tuple(f"DEF-{part}" for part in ("spine", "shoulder", "upper_arm", "forearm", "hand", "thigh", "shin", "foot"))


@pytest.fixture
def character(scene: bpy.types.Scene):
    """A body around the bones of Rigify's human, bound by automatic weights, and three cameras around it."""
    bpy.ops.preferences.addon_enable(module="rigify")
    bpy.ops.object.armature_human_metarig_add()
    metarig = bpy.context.active_object
    bpy.ops.object.mode_set(mode="POSE")
    bpy.ops.pose.rigify_generate()
    bpy.ops.object.mode_set(mode="OBJECT")
    rig = next(ob for ob in scene.objects if ob.type == "ARMATURE" and ob != metarig)
    metarig.hide_set(True)
    pieces = []
    for bone in rig.data.bones:
        if not bone.use_deform or not bone.name.startswith(BODY):
            continue
        thick = 0.1 if "spine" in bone.name else 0.05
        head, tail = bone.head_local, bone.tail_local
        bpy.ops.mesh.primitive_uv_sphere_add(segments=12, ring_count=8, radius=1, location=(head + tail) / 2)
        piece = bpy.context.active_object
        piece.rotation_mode = "QUATERNION"
        piece.rotation_quaternion = (tail - head).to_track_quat("Z", "Y")
        piece.scale = (thick, thick, (tail - head).length / 2 + thick * 0.7)
        pieces.append(piece)
    bpy.ops.object.select_all(action="DESELECT")
    for piece in pieces:
        piece.select_set(True)
    bpy.context.view_layer.objects.active = pieces[0]
    bpy.ops.object.join()
    body = bpy.context.active_object
    bpy.ops.object.transform_apply()
    body.data.remesh_voxel_size = 0.025
    bpy.ops.object.voxel_remesh()
    body.select_set(True)
    rig.select_set(True)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.parent_set(type="ARMATURE_AUTO")
    bpy.ops.object.select_all(action="DESELECT")
    bpy.context.view_layer.objects.active = body
    add_cameras(scene, 6, 1.6, tilt=83, first=0.4)
    scene.softras.target = body
    for side in "LR":
        for limb in ("upper_arm_parent", "thigh_parent"):
            rig.pose.bones[f"{limb}.{side}"]["IK_FK"] = 1.0
    bpy.context.view_layer.update()
    return body, rig


def joints(rig: bpy.types.Object) -> np.ndarray:
    bpy.context.view_layer.update()
    return np.array([bone.head for bone in rig.pose.bones if bone.bone.use_deform])


def test_rigify(character, engine_python: str, tmp_path: Path) -> None:
    body, rig = character
    select(body, *CONTROLS)

    def pose(frame: int) -> None:
        for name, angles in CONTROLS.items():
            bone = rig.pose.bones[name]
            if bone.rotation_mode == "QUATERNION":
                bone.rotation_quaternion = Euler(angles).to_quaternion()
            else:
                bone.rotation_euler = angles

    masks, truth = render(engine_python, tmp_path / "render", body, pose, (1,), (256, 256))
    found = joints(rig)
    for name in CONTROLS:
        rig.pose.bones[name].rotation_quaternion, rig.pose.bones[name].rotation_euler = (1, 0, 0, 0), (0, 0, 0)
    give_masks(bpy.context.scene, tmp_path, masks[1])
    optimize("pose")
    bpy.context.scene.softras.seconds = 0
    height = np.ptp(truth[1][:, 2])
    assert np.linalg.norm(joints(rig) - found, axis=1).mean() > 0.05 * height
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert np.linalg.norm(joints(rig) - found, axis=1).mean() < 0.01 * height
    assert np.mean([item.iou for item in bpy.context.scene.softras.views]) > 0.97

"""A character that is linked from another file and overridden, as productions have it."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from .conftest import armature_of, optimize, positions
from .test_pose_fit import bend, error, give_masks, render


@pytest.fixture
def character(arm: bpy.types.Object, engine_python: str, tmp_path: Path):
    """The arm at rest, an override of that of a library, with masks of it bent, and its vertices when it was."""
    scene = bpy.context.scene
    masks, truth = render(engine_python, tmp_path / "render", arm, bend(arm), (1,))
    for bone in armature_of(arm).pose.bones:
        bone.rotation_quaternion, bone.rotation_euler = (1, 0, 0, 0), (0, 0, 0)
    give_masks(scene, tmp_path, masks[1])
    collection = bpy.data.collections.new("Character")
    for ob in (arm, armature_of(arm)):
        collection.objects.link(ob)
    bpy.data.libraries.write(str(tmp_path / "library.blend"), {collection})
    for ob in list(collection.objects):
        bpy.data.objects.remove(ob)
    bpy.data.collections.remove(collection)
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, into):
        into.collections = ["Character"]
    into.collections[0].override_hierarchy_create(scene, bpy.context.view_layer, do_fully_editable=True)
    target = next(ob for ob in scene.objects if ob.type == "MESH")
    assert target.override_library is not None and target.library is None
    scene.softras.target, scene.softras.seconds = target, 0
    bpy.context.view_layer.objects.active = target
    return target, truth[1]


def test_the_pose_of_an_override(character) -> None:
    target, truth = character
    optimize("pose")
    assert error(target, truth) > 0.3
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert error(target, truth) < 0.06


def test_an_override_as_an_object(character) -> None:
    target, truth = character
    optimize("object")
    before, place = error(target, truth), positions(target)
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert np.abs(positions(target) - place).max() > 0.01
    assert error(target, truth) < before


def test_cameras_before_an_override(character) -> None:
    optimize("cameras")
    cameras = [item.camera.matrix_world.copy() for item in bpy.context.scene.softras.views]
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert [item.camera.matrix_world for item in bpy.context.scene.softras.views] != cameras


def test_the_mesh_of_an_override_keeps_nothing(character) -> None:
    optimize("vertices")
    with pytest.raises(RuntimeError, match="'Arm' is linked from another file; make it local .*, or untick Vertices"):
        bpy.ops.softras.fit()

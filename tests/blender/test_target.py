"""What a fit is of, looked up once: the mesh objects, their armature and what moves them."""

from __future__ import annotations

import gc

import bpy
import pytest

from .conftest import add_armature, armature_of, find_target, give_images, optimize, part


def test_a_mesh_below_its_armature_is_moved_by_the_armature(arm: bpy.types.Object) -> None:
    target = find_target(arm)
    (single,) = target.meshes
    assert (single.object, single.name, single.modifier) == (arm, "Arm", "Armature")
    assert single.mesh == arm.data and single.keys == arm.data.shape_keys
    assert target.armature == target.mover == armature_of(arm)
    assert target.objects == {arm, armature_of(arm)}
    arm.parent = None
    assert find_target(arm).mover == arm
    assert find_target(arm).armature == armature_of(arm)


def test_a_fit_of_vertices_alone_does_not_look_for_an_armature(arm: bpy.types.Object) -> None:
    arm.modifiers.new("Second", "ARMATURE").object = add_armature([("Bone", "", (0, 0, 0), (0, 0, 1), 0)], "Other")
    with pytest.raises(ValueError, match="'Arm' has 2 Armature modifiers; disable all but one of them"):
        find_target(arm)
    target = find_target(arm, rigged=False)
    assert (target.armature, target.mover, target.objects) == (None, arm, {arm})
    assert target.single.left_out == ["Armature", "Second"]


def test_the_mesh_of_a_target_is_the_one_that_the_object_has_now(arm: bpy.types.Object) -> None:
    single = find_target(arm).single
    arm.data = arm.data.copy()
    assert single.mesh == arm.data
    arm.shape_key_clear()
    assert single.keys is None


def test_several_meshes_are_one_target_and_refused_by_name_where_one_is_needed(arm: bpy.types.Object) -> None:
    module = part("scene.target")
    other = bpy.data.objects.new("Eyes", bpy.data.meshes.new("Eyes"))
    target = module.Target((*find_target(arm).meshes, module.MeshObject(other, other.name)), armature_of(arm), arm)
    assert target.objects == {arm, other, armature_of(arm)}
    with pytest.raises(ValueError, match="'Arm', 'Eyes' cannot be fitted together; choose one of them"):
        _ = target.single


def test_a_deleted_armature_ends_the_fit_by_name(arm: bpy.types.Object) -> None:
    give_images(bpy.context.scene)
    optimize("shape_keys")
    fit = part("session").FitSession(bpy.context)
    bpy.data.objects.remove(armature_of(arm))
    with pytest.raises(ValueError, match="'Rig' was deleted while it was being fitted"):
        fit.wait()
    assert part("session").current is None


def test_the_masks_of_a_running_fit_take_no_memory_in_blender(arm: bpy.types.Object) -> None:
    give_images(bpy.context.scene)
    fit = part("session").FitSession(bpy.context)
    try:
        gc.collect()
        view = part("engine.softras.views").View
        assert not [each for each in gc.get_objects() if isinstance(each, view)]
    finally:
        fit.revert()

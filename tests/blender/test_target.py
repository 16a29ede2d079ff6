"""What a fit is of, looked up once: the mesh objects, their armature and what moves them."""

from __future__ import annotations

import gc

import bmesh
import bpy
import numpy as np
import pytest

from .conftest import add_armature, armature_of, find_target, give_images, optimize, part, read_job


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


def character(ball: bpy.types.Object) -> bpy.types.Object:
    """A ball with another above it that is its child; both are selected, and the masks show both."""
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=3, radius=0.25, location=(0, 0.5, 0.2))
    hat = bpy.context.active_object
    hat.parent = ball
    bpy.context.view_layer.update()
    hat.matrix_parent_inverse = ball.matrix_world.inverted()
    hat.modifiers.new("Subdivision", "SUBSURF")
    for number, item in enumerate(bpy.context.scene.softras.views):
        item.mask = rendered(item.camera, f"Both {number}")
    ball.select_set(True)
    hat.select_set(True)
    return hat


def rendered(camera: bpy.types.Object, name: str) -> bpy.types.Image:
    """What Cycles shows of the scene."""
    scene = bpy.context.scene
    scene.camera, scene.render.engine, scene.render.film_transparent = camera, "CYCLES", True
    scene.cycles.samples, scene.render.resolution_x, scene.render.resolution_y = 16, 96, 72
    scene.render.filepath = f"{bpy.app.tempdir}{name}.png"
    bpy.ops.render.render(write_still=True)
    return bpy.data.images.load(scene.render.filepath)


def test_selected_meshes_are_seen_together_and_moved_as_one(ball: bpy.types.Object) -> None:
    hat = character(ball)
    scale = ball.scale.copy()
    ball.location, ball.scale = (0.2, -0.1, 0.1), (1.2, 1.2, 1.2)
    optimize("object")
    bpy.context.scene.softras.seconds = 0
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert all(item.iou > 0.97 for item in bpy.context.scene.softras.views)
    assert ball.location.length < 0.02 and ball.scale[:] == pytest.approx(scale[:], abs=0.03)
    assert hat.location[:] == pytest.approx((0, 0.5, 0.2)) and hat.scale[:] == pytest.approx((1, 1, 1))


def test_selected_meshes_that_do_not_move_together_are_refused(ball: bpy.types.Object) -> None:
    hat = character(ball)
    hat.parent = None
    optimize("object")
    with pytest.raises(RuntimeError, match="'Icosphere', 'Icosphere.001' are selected and do not move together"):
        bpy.ops.softras.fit()


def test_a_mesh_that_is_not_selected_plays_no_part(ball: bpy.types.Object) -> None:
    hat = character(ball)
    optimize("object")
    both = len(read_job(bpy.context.scene).job.rig.mesh.vertices)
    hat.select_set(False)
    assert len(read_job(bpy.context.scene).job.rig.mesh.vertices) == len(ball.data.vertices) < both


def test_an_object_is_moved_as_it_is_shown(ball: bpy.types.Object) -> None:
    """Preserve Volume and a mirror are no obstacle where the pose stays."""
    armature = add_armature([("Bone", "", (0, 0, 0), (0, 0, 1), 0)])
    ball.vertex_groups.new(name="Bone").add(range(len(ball.data.vertices)), 1.0, "REPLACE")
    modifier = ball.modifiers.new("Armature", "ARMATURE")
    modifier.object, modifier.use_deform_preserve_volume = armature, True
    ball.parent = armature
    pose = armature.pose.bones["Bone"]
    pose.location = (0.3, 0, 0)
    optimize("object")
    bpy.context.scene.softras.seconds = 0
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert all(item.iou > 0.97 for item in bpy.context.scene.softras.views)
    assert armature.scale[0] == pytest.approx(0.5 / 0.65, abs=0.03)
    assert pose.location[:] == pytest.approx((0.3, 0, 0))


def mask_of(arm: bpy.types.Object) -> None:
    """The masks are what Cycles shows of the scene as it is."""
    for number, item in enumerate(bpy.context.scene.softras.views):
        item.mask = rendered(item.camera, f"Posed {number}")


def test_the_pose_of_a_mirrored_and_subdivided_half(arm: bpy.types.Object) -> None:
    """The Mirror modifier stands before the Armature modifier, the Subdivision modifier after it."""
    arm.shape_key_clear()
    mesh = bmesh.new()
    mesh.from_mesh(arm.data)
    everything = [*mesh.verts, *mesh.edges, *mesh.faces]
    bmesh.ops.bisect_plane(mesh, geom=everything, plane_co=(0, 0, 0), plane_no=(1, 0, 0), clear_inner=True)
    mesh.to_mesh(arm.data)
    mesh.free()
    arm.modifiers.new("Mirror", "MIRROR")
    arm.modifiers.move(1, 0)
    subdivision = arm.modifiers.new("Subdivision", "SUBSURF")
    subdivision.levels = subdivision.render_levels = 1
    bones = armature_of(arm).pose.bones
    for bone in bones:
        bone.rotation_mode = "XYZ"
    bones["Bone 1"].rotation_euler, bones["Bone 2"].rotation_euler = (0.5, 0, 0.3), (0.3, 0, -0.4)
    mask_of(arm)
    bones["Bone 1"].rotation_euler, bones["Bone 2"].rotation_euler = (0.2, 0, 0), (0, 0, 0)
    optimize("pose")
    bpy.context.scene.softras.seconds = 0
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert all(item.iou > 0.97 for item in bpy.context.scene.softras.views)
    two_degrees = np.radians(2)
    assert np.array(bones["Bone 1"].rotation_euler)[[0, 2]] == pytest.approx([0.5, 0.3], abs=two_degrees)
    assert np.array(bones["Bone 2"].rotation_euler)[[0, 2]] == pytest.approx([0.3, -0.4], abs=two_degrees)


def test_the_pose_of_two_meshes_of_one_armature(arm: bpy.types.Object) -> None:
    """A second mesh is all that tells how the last bone is turned."""
    armature = armature_of(arm)
    bpy.ops.mesh.primitive_cube_add(size=0.8, location=(0.8, 0, 2.6))
    flag = bpy.context.active_object
    flag.vertex_groups.new(name="Bone 2").add(range(8), 1.0, "REPLACE")
    flag.parent = armature
    flag.modifiers.new("Armature", "ARMATURE").object = armature
    bone = armature.pose.bones["Bone 2"]
    bone.rotation_mode = "XYZ"
    bone.rotation_euler = (0, 0.7, 0)  # about its own length
    mask_of(arm)
    bone.rotation_euler = (0, 0, 0)
    for ob in (arm, flag):
        ob.select_set(True)
    optimize("pose")
    bpy.context.scene.softras.seconds = 0
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert all(item.iou > 0.96 for item in bpy.context.scene.softras.views)
    assert bone.rotation_euler.y == pytest.approx(0.7, abs=np.radians(4))


def test_a_selected_mesh_of_another_armature_is_refused_by_name(arm: bpy.types.Object) -> None:
    bpy.ops.mesh.primitive_cube_add(size=0.8)
    arm.select_set(True)
    optimize("pose")
    give_images(bpy.context.scene)
    with pytest.raises(RuntimeError, match="'Cube' is selected and not moved by the armature of 'Arm'"):
        bpy.ops.softras.fit()

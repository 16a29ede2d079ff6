"""blender -b -P make_scene.py -- FILE: the example's views and start mesh, ready to fit."""

import sys
from pathlib import Path

import bpy
import numpy as np

SPOT = Path(__file__).resolve().parents[2] / "examples" / "data" / "spot"


def make_scene() -> bpy.types.Object:
    """Fill the open file and return the object to fit."""
    bpy.ops.softras.views_import(directory=str(SPOT))
    bpy.ops.wm.obj_import(filepath=str(SPOT / "start.obj"), forward_axis="Y", up_axis="Z")
    target = bpy.context.selected_objects[0]
    bpy.context.view_layer.objects.active = target
    bpy.context.scene.softras.seconds = 3
    return target


def make_arm(folder: Path) -> bpy.types.Object:
    """A post with two bones, and three views that saw it bent, by masks that Cycles rendered; return the post."""
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_cube_add(size=1, location=(0, 0, 1))
    target = bpy.context.active_object
    target.name, target.scale = "Post", (0.6, 0.4, 2)
    bpy.ops.object.transform_apply()
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.subdivide(number_cuts=9)
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.ops.object.armature_add()
    armature = bpy.context.active_object
    armature.name = "Bones"
    bpy.ops.object.mode_set(mode="EDIT")
    lower = armature.data.edit_bones[0]
    upper = armature.data.edit_bones.new("Upper")
    lower.name, lower.tail, upper.head, upper.tail, upper.parent = "Lower", (0, 0, 1), (0, 0, 1), (0, 0, 2), lower
    bpy.ops.object.mode_set(mode="OBJECT")
    lower, upper = target.vertex_groups.new(name="Lower"), target.vertex_groups.new(name="Upper")
    for vertex in target.data.vertices:
        share = float(np.clip((vertex.co.z - 0.75) / 0.5, 0, 1))
        lower.add([vertex.index], 1 - share, "REPLACE")
        upper.add([vertex.index], share, "REPLACE")
    target.parent = armature
    target.modifiers.new("Armature", "ARMATURE").object = armature
    bone = armature.pose.bones["Upper"]
    bone.rotation_quaternion = (1, 0.3, 0, 0.25)
    render = scene.render
    before = render.engine, render.resolution_x, render.resolution_y, render.film_transparent, scene.camera
    render.engine, render.resolution_x, render.resolution_y, render.film_transparent = "CYCLES", 128, 128, True
    scene.cycles.samples = 4
    for number in range(3):
        camera = bpy.data.objects.new(f"View {number}", bpy.data.cameras.new(f"View {number}"))
        scene.collection.objects.link(camera)
        angle = 0.3 + 2.1 * number
        camera.location = (7 * np.sin(angle), -7 * np.cos(angle), 2)
        camera.rotation_euler = (np.radians(83), 0, angle)
        scene.camera, render.filepath = camera, str(folder / f"post{number}_0001.png")
        bpy.ops.render.render(write_still=True)
        item = scene.softras.views.add()
        item.camera, item.mask = camera, bpy.data.images.load(render.filepath)
    render.engine, render.resolution_x, render.resolution_y, render.film_transparent, scene.camera = before
    bone.rotation_quaternion = (1, 0, 0, 0)
    bpy.context.view_layer.objects.active = target
    scene.softras.target, scene.softras.seconds = target, 0
    scene.softras.optimize.vertices, scene.softras.optimize.pose = False, True
    return target


if __name__ == "__main__":
    bpy.ops.wm.read_homefile(use_empty=True)
    make_scene()
    bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])

"""blender -b -P make_scene.py -- FILE: the example's views and start mesh, ready to fit."""

import sys
from pathlib import Path

import bpy

SPOT = Path(__file__).resolve().parents[2] / "examples" / "data" / "spot"


def make_scene() -> bpy.types.Object:
    """Fill the open file and return the object to fit."""
    bpy.ops.softras.views_import(directory=str(SPOT))
    bpy.ops.wm.obj_import(filepath=str(SPOT / "start.obj"), forward_axis="Y", up_axis="Z")
    target = bpy.context.selected_objects[0]
    bpy.context.view_layer.objects.active = target
    bpy.context.scene.softras.seconds = 3
    return target


if __name__ == "__main__":
    bpy.ops.wm.read_homefile(use_empty=True)
    make_scene()
    bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])

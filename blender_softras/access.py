# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's data with the types that they have at run time.

Blender's type stubs call almost everything optional and know only that an object has some data. Each function here
checks what it promises, so that the code that uses it is checked by the type checker, too.
"""

from __future__ import annotations

from typing import TypeVar

import bpy

from .engine.softras import InputError

_Value = TypeVar("_Value")


def present(value: _Value | None) -> _Value:
    """A value that the stubs call optional and that Blender always gives here, such as the layout of a panel."""
    if value is None:
        raise RuntimeError("Blender did not give something that Softras expects in this place.")
    return value


def mesh_of(ob: bpy.types.Object) -> bpy.types.Mesh:
    """The mesh of a mesh object. Raises InputError for any other object."""
    if not isinstance(ob.data, bpy.types.Mesh):
        raise InputError(f"'{ob.name}' is not a mesh; choose a mesh object to fit.")
    return ob.data


def lens_of(camera: bpy.types.Object) -> bpy.types.Camera:
    """The data of a camera object, which are its lens, sensor and background images.

    Raises InputError for any other object.
    """
    if not isinstance(camera.data, bpy.types.Camera):
        raise InputError(f"'{camera.name}' is not a camera; choose a camera object for this view.")
    return camera.data


def skeleton_of(armature: bpy.types.Object) -> bpy.types.Armature:
    """The data of an armature object: its bones in rest position, parents before their children."""
    if not isinstance(armature.data, bpy.types.Armature):
        raise InputError(f"'{armature.name}' is not an armature; choose an armature object in the Armature modifier.")
    return armature.data


def pose_bones_of(armature: bpy.types.Object) -> bpy.types.bpy_prop_collection[bpy.types.PoseBone]:
    """The bones of an armature object in its pose."""
    return present(armature.pose).bones

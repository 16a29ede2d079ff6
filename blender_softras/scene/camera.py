# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender cameras as the engine's cameras, and back."""

from __future__ import annotations

from collections.abc import Collection

import bpy
import numpy as np
from mathutils import Matrix

from ..access import lens_of
from ..engine.softras import Camera, InputError
from ..engine.softras.conventions import blender
from ..engine.softras.rotations import rotation_numbers
from .animation import driven
from .channels import Channel, channel_of, has_deltas, rotation_property

# The properties of Blender's lens that a fit sets, by the engine's name for the part of the camera.
_LENS_PROPERTIES = {"focal": ("lens", "ortho_scale"), "shift": ("shift_x", "shift_y")}


def camera_from_blender(camera: bpy.types.Object, width: int, height: int, render: bpy.types.RenderSettings) -> Camera:
    """The engine's camera that sees what the camera object photographs in an image of width x height pixels.

    The pixel aspect is that of the scene. The scene's resolution plays no part, for every view has its own. Raises
    InputError for a panoramic camera.
    """
    data = lens_of(camera)
    if data.type not in {"PERSP", "ORTHO"}:
        raise InputError(f"camera '{camera.name}' is panoramic; make it perspective or orthographic.")
    try:
        return blender.camera_from_blender(
            np.array(camera.matrix_world),
            width,
            height,
            type=data.type,
            lens=data.lens,
            ortho_scale=data.ortho_scale,
            sensor_fit=data.sensor_fit,
            sensor_width=data.sensor_width,
            sensor_height=data.sensor_height,
            shift_x=data.shift_x,
            shift_y=data.shift_y,
            clip_start=data.clip_start,
            pixel_aspect=pixel_aspect(render),
        )
    except InputError as error:
        raise InputError(f"camera '{camera.name}': {error}") from error


def spanned_side(data: bpy.types.Camera, width: int, height: int, aspect: float) -> float:
    """The length of the side of an image that the camera's sensor spans, in units of a pixel's width.

    `aspect` is the height of a pixel divided by its width.
    """
    return blender.spanned_side(data.sensor_fit, width, height, aspect)


def pixel_aspect(render: bpy.types.RenderSettings) -> float:
    """The height of a pixel divided by its width."""
    return render.pixel_aspect_y / render.pixel_aspect_x


def camera_to_blender(camera: Camera, name: str, render: bpy.types.RenderSettings) -> bpy.types.Object:
    """A new camera object, linked to no collection, that sees what the engine's camera sees in an image of its size.

    Raises InputError when the camera's pixels have another aspect than the scene's, which Blender cannot show.
    """
    try:
        matrix_world, settings = blender.camera_to_blender(camera, pixel_aspect=pixel_aspect(render))
    except InputError as error:
        raise InputError(f"view '{name}': {error}") from error
    data = bpy.data.cameras.new(name)
    for setting, value in settings.items():
        setattr(data, setting, value)
    camera_object = bpy.data.objects.new(name, data)
    camera_object.matrix_world = Matrix(matrix_world.tolist())
    return camera_object


def camera_channels(
    ob: bpy.types.Object,
    camera: Camera,
    parent: np.ndarray,
    parts: Collection[str],
    render: bpy.types.RenderSettings,
    near: np.ndarray | None = None,
) -> dict[Channel, np.ndarray]:
    """The channels with which a camera object sees what the engine's camera sees in an image of its size.

    Args:
        ob: the camera object; what is not in `parts` stays as it is.
        camera: the engine's camera.
        parent: (4, 4) the `parent_matrix` of the object.
        parts: of "location", "rotation", "focal" and "shift".
        render: holds the pixel aspect.
        near: the rotation, in numbers of the object's rotation mode, to which the new numbers should be close; None for
            the rotation that the object has now.
    """
    lens = lens_of(ob)
    matrix_world, settings = blender.camera_to_blender(
        camera,
        sensor_fit=lens.sensor_fit,
        sensor_width=lens.sensor_width,
        sensor_height=lens.sensor_height,
        pixel_aspect=pixel_aspect(render),
    )
    basis = np.linalg.inv(parent) @ matrix_world
    channels: dict[Channel, np.ndarray] = {}
    if "location" in parts:
        channels[channel_of(ob, "location")] = basis[:3, 3]
    if "rotation" in parts:
        name = rotation_property(ob.rotation_mode)
        turn = basis[:3, :3] / np.linalg.norm(basis[:3, :3], axis=0) * np.sign(np.array(ob.scale))
        near = np.array(getattr(ob, name)) if near is None else near
        channels[channel_of(ob, name)] = rotation_numbers(turn, ob.rotation_mode, near)
    wanted = [name for part, names in _LENS_PROPERTIES.items() if part in parts for name in names if name in settings]
    channels.update({channel_of(lens, name): np.array(settings[name]) for name in wanted})
    return channels


def parent_matrix(ob: bpy.types.Object) -> np.ndarray:
    """(4, 4) the space of an object's own channels: the object's world matrix is parent_matrix @ matrix_basis."""
    world, basis = (np.array(matrix, dtype=np.float64) for matrix in (ob.matrix_world, ob.matrix_basis))
    return world @ np.linalg.pinv(basis)  # where the basis is scaled to nothing, the view is refused by name


def fitting_problem(ob: bpy.types.Object, parts: Collection[str]) -> str | None:
    """Why these parts of a camera object cannot be fitted; None when they can."""
    name, lens = ob.name, lens_of(ob)
    if ob.library is not None or lens.library is not None:
        return f"camera '{name}' is linked from another file; make it local, or disable its view."
    if {"location", "rotation"} & set(parts):
        if any(not constraint.mute for constraint in ob.constraints):
            return f"camera '{name}' is held by constraints; apply or mute them, or disable its view."
        if driven(ob, "location", "rotation", "scale", "delta_"):
            return f"the transform of camera '{name}' is driven; remove the drivers, or disable its view."
        if ob.parent is not None and ob.parent_type not in {"OBJECT", "BONE", "ARMATURE"}:
            return f"camera '{name}' is parented to vertices; parent it to the whole object, or disable its view."
        if has_deltas(ob):
            return f"camera '{name}' has delta transforms; apply or clear them, or disable its view."
        parent = parent_matrix(ob)[:3, :3]
        gram = parent.T @ parent
        # In a space that is scaled unevenly, a camera that is turned is sheared.
        if np.abs(gram / (gram.trace() / 3) - np.eye(3)).max() > 1e-3:
            return (
                f"the parent of camera '{name}' is scaled unevenly; apply its scale, clear the parent, or disable its "
                "view."
            )
    axes = np.array(ob.matrix_world, dtype=np.float64)[:3, :3]
    axes /= np.maximum(np.linalg.norm(axes, axis=0), 1e-300)
    # To the engine a sheared camera has skewed pixels, which no camera without parents has in Blender.
    if np.abs(axes.T @ axes - np.eye(3)).max() > 1e-3:
        return f"camera '{name}' is sheared by the scale of its parents; apply their scale, or disable its view."
    sensor = ("sensor_",) if "focal" in parts else ()  # its size decides what a focal length means
    properties = [name for part, names in _LENS_PROPERTIES.items() if part in parts for name in names]
    if driven(lens, *properties, *sensor):
        return f"the lens of camera '{name}' is driven; remove the drivers, or disable its view."
    return None

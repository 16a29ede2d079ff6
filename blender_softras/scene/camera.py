# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender cameras as the engine's cameras, and back."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import bpy
import numpy as np
from mathutils import Matrix

from ..engine.softras import Camera, InputError
from ..engine.softras.rotations import rotation_numbers
from .animation import driven
from .channels import Channel, channel_of, rotation_property

# Blender's cameras look along -z with y up, the engine's along +z with y down.
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
# Blender has square or one kind of oblong pixels per scene, so K's own aspect cannot be kept beyond this.
_ASPECT_TOLERANCE = 5e-3


def camera_from_blender(camera: bpy.types.Object, width: int, height: int, render: bpy.types.RenderSettings) -> Camera:
    """The camera object as it photographs an image of width x height pixels.

    The pixel aspect is the scene's; its resolution plays no part, for every view has its own. Blender's
    calc_matrix_camera is the source of the formulas. Raises InputError for a panoramic camera.
    """
    data = camera.data
    if not isinstance(data, bpy.types.Camera):
        raise InputError(f"'{camera.name}' is not a camera; choose a camera object for this view.")
    if data.type not in {"PERSP", "ORTHO"}:
        raise InputError(f"camera '{camera.name}' is panoramic; make it perspective or orthographic.")
    aspect = pixel_aspect(render)
    side = spanned_side(data, width, height, aspect)
    focal = side / data.ortho_scale if data.type == "ORTHO" else data.lens / _sensor(data) * side
    K = np.array(
        [
            [focal, 0.0, width / 2 - data.shift_x * side],
            [0.0, focal / aspect, height / 2 + data.shift_y * side / aspect],
            [0.0, 0.0, 1.0],
        ]
    )
    # As Blender renders: scale is taken out of the columns, shear stays.
    world = np.array(camera.matrix_world.normalized(), dtype=np.float64)
    if abs(np.linalg.det(world[:3, :3])) < 1e-9:
        raise InputError(f"camera '{camera.name}' has a scale of zero; give it (or its parent) another scale.")
    return Camera(
        K=K,
        world_to_camera=_FLIP @ np.linalg.inv(world),
        width=width,
        height=height,
        orthographic=data.type == "ORTHO",
        near=data.clip_start,
    )


def spanned_side(data: bpy.types.Camera, width: int, height: int, aspect: float) -> float:
    """The side of an image that the camera's sensor spans, in pixels of unit width and height `aspect`."""
    fit = data.sensor_fit
    if fit == "AUTO":
        fit = "HORIZONTAL" if width >= aspect * height else "VERTICAL"
    return width if fit == "HORIZONTAL" else aspect * height


def _sensor(data: bpy.types.Camera) -> float:
    """The sensor's size that `spanned_side` is about, in millimetres."""
    return data.sensor_height if data.sensor_fit == "VERTICAL" else data.sensor_width


def pixel_aspect(render: bpy.types.RenderSettings) -> float:
    """Height of a pixel by its width."""
    return render.pixel_aspect_y / render.pixel_aspect_x


def camera_to_blender(camera: Camera, name: str, render: bpy.types.RenderSettings) -> bpy.types.Object:
    """A new camera object, linked to no collection, that sees what `camera` sees in an image of its size.

    Raises InputError when the camera's pixels have not the scene's pixel aspect, which Blender cannot show.
    """
    K, width, height = camera.K, camera.width, camera.height
    aspect = pixel_aspect(render)
    if abs(K[0, 0] / (K[1, 1] * aspect) - 1) > _ASPECT_TOLERANCE or abs(K[0, 1]) > _ASPECT_TOLERANCE * K[0, 0]:
        raise InputError(
            f"view '{name}' has pixels that are skewed or not of the scene's aspect; resize its image so that fx = fy."
        )
    data = bpy.data.cameras.new(name)
    data.sensor_fit = "HORIZONTAL" if width >= aspect * height else "VERTICAL"
    if camera.orthographic:
        data.type = "ORTHO"
    for _, lens_property, value in _lens(data, camera, render):
        setattr(data, lens_property, value)
    data.clip_start = camera.near
    camera_object = bpy.data.objects.new(name, data)
    camera_object.matrix_world = Matrix((np.linalg.inv(camera.world_to_camera) @ _FLIP).tolist())
    return camera_object


def camera_channels(
    ob: bpy.types.Object,
    camera: Camera,
    parent: np.ndarray,
    parts: Collection[str],
    render: bpy.types.RenderSettings,
    near: np.ndarray | None = None,
) -> dict[Channel, np.ndarray]:
    """What an existing camera object needs to see what `camera` sees in an image of its size.

    Args:
        ob: the camera object; what is not in `parts` stays.
        camera: the engine's.
        parent: (4, 4) the object's world matrix is parent @ matrix_basis.
        parts: of "location", "rotation", "focal" and "shift".
        render: holds the pixel aspect.
        near: numbers of the object's rotation mode that the new ones should be close to; None for its present ones.
    """
    basis = np.linalg.inv(parent) @ np.linalg.inv(camera.world_to_camera) @ _FLIP
    channels: dict[Channel, np.ndarray] = {}
    if "location" in parts:
        channels[channel_of(ob, "location")] = basis[:3, 3]
    if "rotation" in parts:
        name = rotation_property(ob.rotation_mode)
        turn = basis[:3, :3] / np.linalg.norm(basis[:3, :3], axis=0) * np.sign(np.array(ob.scale))
        near = np.array(getattr(ob, name)) if near is None else near
        channels[channel_of(ob, name)] = rotation_numbers(turn, ob.rotation_mode, near)
    channels.update(
        {
            channel_of(ob.data, name): np.array(value)
            for part, name, value in _lens(ob.data, camera, render)
            if part in parts
        }
    )
    return channels


def _lens(data: bpy.types.Camera, camera: Camera, render: bpy.types.RenderSettings) -> Iterator[tuple[str, str, float]]:
    """What `camera` asks of the lens: the part of the camera, the property and its value."""
    K, width, height = camera.K, camera.width, camera.height
    aspect = pixel_aspect(render)
    side = spanned_side(data, width, height, aspect)
    focal = (K[0, 0] + K[1, 1] * aspect) / 2
    if camera.orthographic:
        yield "focal", "ortho_scale", side / focal
    else:
        yield "focal", "lens", focal / side * _sensor(data)
    yield "shift", "shift_x", (width / 2 - K[0, 2]) / side
    yield "shift", "shift_y", (K[1, 2] - height / 2) * aspect / side


def parent_matrix(ob: bpy.types.Object) -> np.ndarray:
    """(4, 4) what an object's own channels are relative to: its world matrix is parent_matrix @ matrix_basis."""
    world, basis = (np.array(matrix, dtype=np.float64) for matrix in (ob.matrix_world, ob.matrix_basis))
    return world @ np.linalg.pinv(basis)  # where the basis is scaled to nothing the view is refused with a sentence


def moves_problem(ob: bpy.types.Object, parts: Collection[str]) -> str | None:
    """Why these parts of a camera cannot be set; None when they can."""
    name, data = ob.name, ob.data
    if ob.library is not None or data.library is not None:
        return f"camera '{name}' is linked from another file; make it local, or disable its view."
    if {"location", "rotation"} & set(parts):
        if any(not constraint.mute for constraint in ob.constraints):
            return f"camera '{name}' is held by constraints; apply or mute them, or disable its view."
        if driven(ob, "location", "rotation", "scale", "delta_"):
            return f"the transform of camera '{name}' is driven; remove the drivers, or disable its view."
        if ob.parent is not None and ob.parent_type not in {"OBJECT", "BONE", "ARMATURE"}:
            return f"camera '{name}' is parented to vertices; parent it to the whole object, or disable its view."
        deltas = (*ob.delta_location, *ob.delta_rotation_euler, *ob.delta_rotation_quaternion[1:])
        if any(deltas) or tuple(ob.delta_scale) != (1, 1, 1):
            return f"camera '{name}' has delta transforms; apply or clear them, or disable its view."
        parent = parent_matrix(ob)[:3, :3]
        gram = parent.T @ parent
        if np.abs(gram / (gram.trace() / 3) - np.eye(3)).max() > 1e-3:  # turned in there it would be sheared
            return (
                f"the parent of camera '{name}' is scaled unevenly; apply its scale, clear the parent, or disable its "
                "view."
            )
    lens = {"focal": ("lens", "ortho_scale", "sensor_"), "shift": ("shift_",)}
    if any(driven(data, *lens[part]) for part in lens if part in parts):
        return f"the lens of camera '{name}' is driven; remove the drivers, or disable its view."
    return None

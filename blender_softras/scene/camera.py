# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender cameras as the engine's cameras, and back."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Matrix

from ..engine.softras import Camera, InputError

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
    aspect = render.pixel_aspect_y / render.pixel_aspect_x
    sensor = data.sensor_height if data.sensor_fit == "VERTICAL" else data.sensor_width
    side = spanned_side(data, width, height, aspect)
    focal = side / data.ortho_scale if data.type == "ORTHO" else data.lens / sensor * side
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


def camera_to_blender(camera: Camera, name: str, render: bpy.types.RenderSettings) -> bpy.types.Object:
    """A new camera object, linked to no collection, that sees what `camera` sees in an image of its size.

    Raises InputError when the camera's pixels have not the scene's pixel aspect, which Blender cannot show.
    """
    K, width, height = camera.K, camera.width, camera.height
    aspect = render.pixel_aspect_y / render.pixel_aspect_x
    if abs(K[0, 0] / (K[1, 1] * aspect) - 1) > _ASPECT_TOLERANCE or abs(K[0, 1]) > _ASPECT_TOLERANCE * K[0, 0]:
        raise InputError(
            f"view '{name}' has pixels that are skewed or not of the scene's aspect; resize its image so that fx = fy."
        )
    data = bpy.data.cameras.new(name)
    data.sensor_fit = "HORIZONTAL" if width >= aspect * height else "VERTICAL"
    side = spanned_side(data, width, height, aspect)
    focal = (K[0, 0] + K[1, 1] * aspect) / 2
    if camera.orthographic:
        data.type = "ORTHO"
        data.ortho_scale = side / focal
    else:
        data.lens = focal / side * (data.sensor_width if data.sensor_fit == "HORIZONTAL" else data.sensor_height)
    data.shift_x = (width / 2 - K[0, 2]) / side
    data.shift_y = (K[1, 2] - height / 2) * aspect / side
    data.clip_start = camera.near
    camera_object = bpy.data.objects.new(name, data)
    camera_object.matrix_world = Matrix((np.linalg.inv(camera.world_to_camera) @ _FLIP).tolist())
    return camera_object

"""Blender's cameras: a matrix_world and the settings of a lens, by the names of `bpy.types.Camera`.

The extension's own way to them is here too, so this module imports numpy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..camera import Camera
from ..errors import InputError
from .extrinsics import OPENGL_AXES, array

_ASPECT_TOLERANCE = 5e-3  # of pixels against Blender's, which has one aspect for the whole scene


def camera_from_blender(
    matrix_world: ArrayLike,
    width: int,
    height: int,
    *,
    type: str = "PERSP",
    lens: float = 50.0,
    ortho_scale: float = 6.0,
    sensor_fit: str = "AUTO",
    sensor_width: float = 36.0,
    sensor_height: float = 24.0,
    shift_x: float = 0.0,
    shift_y: float = 0.0,
    clip_start: float = 0.1,
    pixel_aspect: float = 1.0,
) -> Camera:
    """A Blender camera as it renders an image of width x height pixels.

    Formulas: Blender's `Object.calc_matrix_camera`.

    Args:
        matrix_world: (4, 4) of the camera object; its scale does not matter.
        width, height: resolution in pixels, the percentage included.
        type, lens (mm), ortho_scale, sensor_fit, sensor_width and sensor_height (mm), shift_x, shift_y, clip_start: of
            the object's data. The defaults are Blender's.
        pixel_aspect: height of a pixel by its width, pixel_aspect_y / pixel_aspect_x of the render settings.

    Raises:
        InputError: the type is neither PERSP nor ORTHO, or the matrix has a scale of zero.
    """
    if type not in ("PERSP", "ORTHO"):
        raise InputError(f"cameras of type {type} are not supported; make it perspective or orthographic.")
    side = spanned_side(sensor_fit, width, height, pixel_aspect)
    focal = side / ortho_scale if type == "ORTHO" else lens / _sensor(sensor_fit, sensor_width, sensor_height) * side
    K = np.array(
        [
            [focal, 0.0, width / 2 - shift_x * side],
            [0.0, focal / pixel_aspect, height / 2 + shift_y * side / pixel_aspect],
            [0.0, 0.0, 1.0],
        ]
    )
    world = array(matrix_world, (4, 4), "matrix_world").copy()
    # As Blender renders: scale is taken out of the columns, shear stays.
    world[:3, :3] /= np.maximum(np.linalg.norm(world[:3, :3], axis=0), 1e-300)
    if abs(np.linalg.det(world[:3, :3])) < 1e-9:
        raise InputError("matrix_world has a scale of zero; give the camera (or its parent) another scale.")
    return Camera(K, OPENGL_AXES @ np.linalg.inv(world), width, height, orthographic=type == "ORTHO", near=clip_start)


def camera_to_blender(
    camera: Camera,
    *,
    sensor_fit: str | None = None,
    sensor_width: float = 36.0,
    sensor_height: float = 24.0,
    pixel_aspect: float = 1.0,
) -> tuple[np.ndarray, dict[str, Any]]:
    """The matrix_world (4, 4) and the settings, by name, of a Blender camera that sees the same.

    The settings are those of the object's data, and what `camera_from_blender` takes. Blender must render width x
    height pixels.

    Args:
        camera: with pixels of Blender's aspect, and not mirrored.
        sensor_fit: default the one of HORIZONTAL and VERTICAL that AUTO would be.
        sensor_width, sensor_height: in mm.
        pixel_aspect: as for `camera_from_blender`.

    Raises:
        InputError: pixels that are skewed or of another aspect.
    """
    K, width, height = camera.K, camera.width, camera.height
    skew = max(abs(K[0, 1]), abs(K[1, 0]))
    if abs(K[0, 0] / (K[1, 1] * pixel_aspect) - 1) > _ASPECT_TOLERANCE or skew > _ASPECT_TOLERANCE * abs(K[0, 0]):
        raise InputError(
            "the camera has pixels that are skewed or not of the scene's aspect; resize its image so that fx = fy."
        )
    if sensor_fit is None:
        sensor_fit = "HORIZONTAL" if width >= pixel_aspect * height else "VERTICAL"
    side = spanned_side(sensor_fit, width, height, pixel_aspect)
    focal = (K[0, 0] + K[1, 1] * pixel_aspect) / 2
    settings: dict[str, Any] = {
        "type": "ORTHO" if camera.orthographic else "PERSP",
        "sensor_fit": sensor_fit,
        "sensor_width": sensor_width,
        "sensor_height": sensor_height,
        "shift_x": (width / 2 - K[0, 2]) / side,
        "shift_y": (K[1, 2] - height / 2) * pixel_aspect / side,
        "clip_start": camera.near,
    }
    if camera.orthographic:
        settings["ortho_scale"] = side / focal
    else:
        settings["lens"] = focal / side * _sensor(sensor_fit, sensor_width, sensor_height)
    return np.linalg.inv(camera.world_to_camera) @ OPENGL_AXES, settings


def spanned_side(sensor_fit: str, width: int, height: int, pixel_aspect: float = 1.0) -> float:
    """The side of an image that the sensor spans, in pixels of unit width and height `pixel_aspect`."""
    if sensor_fit == "AUTO":
        sensor_fit = "HORIZONTAL" if width >= pixel_aspect * height else "VERTICAL"
    return width if sensor_fit == "HORIZONTAL" else pixel_aspect * height


def _sensor(sensor_fit: str, sensor_width: float, sensor_height: float) -> float:
    """The sensor's size that `spanned_side` is about: its width even where AUTO spans the height."""
    return sensor_height if sensor_fit == "VERTICAL" else sensor_width

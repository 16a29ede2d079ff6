"""Blender's cameras: a matrix_world and the settings of a lens, by the names of `bpy.types.Camera`.

The extension's own way to them is here too, so this module imports numpy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..camera import Camera
from ..checks import number, one_of, positive
from ..errors import InputError
from .extrinsics import OPENGL_AXES, array, nearest_rotation, rigid, sides, triangular_and_rotation

_SHEAR = 1e-5  # of a camera's axes: less is rounding, as of Blender's matrices in float32
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

    Formulas: Blender's `Object.calc_matrix_camera`. A negative scale mirrors the picture: K00 is then negative. Where
    parents of uneven scale shear the camera, Blender renders the shear; it becomes a skew in K. Only the near plane of
    an orthographic camera cannot follow a shear: it stays perpendicular to the rays, through the same point of the
    camera's own ray.

    Args:
        matrix_world: (4, 4) of the camera object; the size of its scale does not matter.
        width, height: resolution in pixels, the percentage included.
        type, lens (mm), ortho_scale, sensor_fit, sensor_width and sensor_height (mm), shift_x, shift_y, clip_start: of
            the object's data. The defaults are Blender's.
        pixel_aspect: height of a pixel by its width, pixel_aspect_y / pixel_aspect_x of the render settings.

    Raises:
        InputError: the type is neither PERSP nor ORTHO, or the matrix has a scale of zero.
    """
    if type not in ("PERSP", "ORTHO"):
        raise InputError(f"cameras of type {type} are not supported; make it perspective or orthographic.")
    width, height = sides(width, height)
    one_of("sensor_fit", sensor_fit, ("AUTO", "HORIZONTAL", "VERTICAL"))
    lens, ortho_scale = positive("lens", lens), positive("ortho_scale", ortho_scale)
    sensor_width, sensor_height = positive("sensor_width", sensor_width), positive("sensor_height", sensor_height)
    shift_x, shift_y = number("shift_x", shift_x), number("shift_y", shift_y)
    clip_start, pixel_aspect = number("clip_start", clip_start), positive("pixel_aspect", pixel_aspect)
    side = spanned_side(sensor_fit, width, height, pixel_aspect)
    focal = side / ortho_scale if type == "ORTHO" else lens / _sensor(sensor_fit, sensor_width, sensor_height) * side
    K = np.array(
        [
            [focal, 0.0, width / 2 - shift_x * side],
            [0.0, focal / pixel_aspect, height / 2 + shift_y * side / pixel_aspect],
            [0.0, 0.0, 1.0],
        ]
    )
    world = array(matrix_world, (4, 4), "matrix_world")
    # As Blender renders: the size of the scale is taken out of the columns, signs and shear stay.
    world[:3, :3] /= np.maximum(np.linalg.norm(world[:3, :3], axis=0), 1e-300)
    if abs(np.linalg.det(world[:3, :3])) < 1e-9:
        raise InputError("matrix_world has a scale of zero; give the camera (or its parent) another scale.")
    seen = OPENGL_AXES @ np.linalg.inv(world)
    pixels, turn, depth = _lens_and_rotation(seen[:3, :3], orthographic=type == "ORTHO")
    # The same eye: turn @ eye + t = 0.
    matrix = rigid(turn, -turn @ world[:3, 3], "matrix_world")
    return Camera(K @ pixels, matrix, width, height, orthographic=type == "ORTHO", near=clip_start / depth)


def _lens_and_rotation(linear: np.ndarray, *, orthographic: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """How a camera whose axes are sheared or mirrored sees: as one with a rotation, and with more in its K.

    Args:
        linear: (3, 3) the world's axes to the camera's.
        orthographic: whether its rays are parallel.

    Returns:
        (3, 3) what K is multiplied by, last row (0, 0, 1), (3, 3) the rotation, and the depth in the camera's axes of a
        point at depth 1 of the rotation's, on the camera's own ray.
    """
    mirrored = np.diag([np.sign(np.linalg.det(linear)), 1.0, 1.0])
    if np.abs(linear @ linear.T - np.eye(3)).max() < _SHEAR:
        return mirrored, nearest_rotation(mirrored @ linear), 1.0
    if orthographic:  # rays run where x and y stay: along what is perpendicular to the first two rows
        along = mirrored[0, 0] * np.cross(linear[0], linear[1])
        triangle, turn = triangular_and_rotation(np.stack([linear[0], linear[1], along / np.linalg.norm(along)]))
        return triangle, turn, float(linear[2] @ turn[2])
    triangle, turn = triangular_and_rotation(linear)
    return triangle / triangle[2, 2], turn, float(triangle[2, 2])


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
    height pixels. A camera whose picture is mirrored gets a matrix_world with a negative scale.

    Args:
        camera: with pixels of Blender's aspect.
        sensor_fit: default the one of HORIZONTAL and VERTICAL that AUTO would be.
        sensor_width, sensor_height: in mm.
        pixel_aspect: as for `camera_from_blender`.

    Raises:
        InputError: pixels that are skewed or of another aspect.
    """
    width, height = camera.width, camera.height
    sensor_width, sensor_height = positive("sensor_width", sensor_width), positive("sensor_height", sensor_height)
    pixel_aspect = positive("pixel_aspect", pixel_aspect)
    mirrored = np.diag([np.sign(camera.K[0, 0]) or 1.0, 1.0, 1.0, 1.0])
    K = camera.K @ mirrored[:3, :3]
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
    return np.linalg.inv(mirrored @ camera.world_to_camera) @ OPENGL_AXES, settings


def spanned_side(sensor_fit: str, width: int, height: int, pixel_aspect: float = 1.0) -> float:
    """The side of an image that the sensor spans, in pixels of unit width and height `pixel_aspect`."""
    if sensor_fit == "AUTO":
        sensor_fit = "HORIZONTAL" if width >= pixel_aspect * height else "VERTICAL"
    return width if sensor_fit == "HORIZONTAL" else pixel_aspect * height


def _sensor(sensor_fit: str, sensor_width: float, sensor_height: float) -> float:
    """The sensor's size that `spanned_side` is about: its width even where AUTO spans the height."""
    return sensor_height if sensor_fit == "VERTICAL" else sensor_width

"""Blender's cameras: a matrix_world, and settings of the lens by the names of `bpy.types.Camera`.

The extension uses this module too, so it imports numpy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..camera import Camera
from ..checks import number, one_of, positive
from ..errors import InputError
from .extrinsics import OPENGL_AXES, array, nearest_rotation, rigid, sides, triangular_and_rotation

_SHEAR = 1e-5  # Axes that are less sheared than this are perpendicular: Blender's matrices are rounded to float32.
_ASPECT_TOLERANCE = 5e-3  # The relative difference allowed between the aspect of pixels and that of Blender's scene.


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
    """The camera that shows what a Blender camera renders in an image of width x height pixels.

    The formulas are those of Blender's `Object.calc_matrix_camera`. A negative scale mirrors the picture: K00 is then
    negative. Parents with an uneven scale may shear the camera, which Blender renders; it becomes a skew in K. Only the
    near plane of an orthographic camera cannot follow a shear: it stays perpendicular to the rays, through the same
    point of the camera's own ray.

    Args:
        matrix_world: (4, 4) the matrix of the camera object; how large its scale is does not matter.
        width, height: the resolution in pixels, after its percentage.
        type, lens (mm), ortho_scale, sensor_fit, sensor_width and sensor_height (mm), shift_x, shift_y, clip_start:
            those of the object's data. The defaults are Blender's.
        pixel_aspect: the height of a pixel over its width, pixel_aspect_y / pixel_aspect_x of the render settings.

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
    # As Blender does when it renders, columns are divided by their lengths; signs and shear stay.
    world[:3, :3] /= np.maximum(np.linalg.norm(world[:3, :3], axis=0), 1e-300)
    if abs(np.linalg.det(world[:3, :3])) < 1e-9:
        raise InputError("matrix_world has a scale of zero; give the camera (or its parent) another scale.")
    into_camera = OPENGL_AXES @ np.linalg.inv(world)
    pixels, turn, depth = _lens_and_rotation(into_camera[:3, :3], orthographic=type == "ORTHO")
    # The translation t keeps the eye: turn @ eye + t = 0.
    matrix = rigid(turn, -turn @ world[:3, 3], "matrix_world")
    return Camera(K @ pixels, matrix, width, height, orthographic=type == "ORTHO", near=clip_start / depth)


def _lens_and_rotation(linear: np.ndarray, *, orthographic: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """A camera whose axes are sheared or mirrored, as one with a rotation and another K that shows the same.

    Args:
        linear: (3, 3) the matrix from the world's axes to the camera's.
        orthographic: whether the rays are parallel.

    Returns:
        (3, 3) the matrix by which K is multiplied from the right, with last row (0, 0, 1);
        (3, 3) the rotation; and
        the depth, in the camera's axes, of the point on the camera's own ray whose depth in the rotated axes is 1.
    """
    mirrored = np.diag([np.sign(np.linalg.det(linear)), 1.0, 1.0])
    if np.abs(linear @ linear.T - np.eye(3)).max() < _SHEAR:
        return mirrored, nearest_rotation(mirrored @ linear), 1.0
    if orthographic:  # Along a ray x and y stay the same, so rays are perpendicular to the first two rows.
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
    """The matrix_world (4, 4) and the settings, by name, of a Blender camera that renders what a camera shows.

    The settings are those of the object's data, and arguments of `camera_from_blender`. Blender must render an image of
    the camera's width and height. A camera whose picture is mirrored gets a matrix_world with a negative scale.

    Args:
        camera: a camera with pixels of Blender's aspect.
        sensor_fit: HORIZONTAL or VERTICAL; unless given, what AUTO would choose.
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
    """The length of the image's side that the sensor spans, where a pixel is 1 wide and `pixel_aspect` high."""
    if sensor_fit == "AUTO":
        sensor_fit = "HORIZONTAL" if width >= pixel_aspect * height else "VERTICAL"
    return width if sensor_fit == "HORIZONTAL" else pixel_aspect * height


def _sensor(sensor_fit: str, sensor_width: float, sensor_height: float) -> float:
    """The size of the sensor in mm that spans `spanned_side`: with AUTO it is the width, whichever side it spans."""
    return sensor_height if sensor_fit == "VERTICAL" else sensor_width

"""Cameras of SoftRas, the code published with Liu et al. 2019.

Its look_at and look exchange right and left: pictures are mirrored, as if the world were left-handed. Here a negative
K00 does the same, so that world_to_camera stays a rotation. In a mirrored picture front faces become back faces, so
render it with cull=False.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ..camera import Camera
from ..checks import number, positive
from ..errors import InputError
from .extrinsics import array, looking, rigid, sides, triangular_and_rotation, unit


def camera_from_softras_look_at(
    eye: ArrayLike,
    image_size: int,
    *,
    at: ArrayLike = (0.0, 0.0, 0.0),
    up: ArrayLike = (0.0, 1.0, 0.0),
    perspective: bool = True,
    viewing_angle: float = 30.0,
    viewing_scale: float = 1.0,
    near: float = 1e-3,
) -> Camera:
    """The camera of SoftRas's camera_mode "look_at".

    Args:
        eye, at, up: (3,). SoftRas's default eye is (0, 0, -(1 / tan(viewing_angle) + 1)).
        image_size: pixels of a side; SoftRas's images are square.
        perspective: whether it is perspective; if not, it is orthographic.
        viewing_angle: HALF the field of view, in degrees, of a perspective camera.
        viewing_scale: how many NDC units a scene unit is in an orthographic camera.
        near: the near distance of the Camera, in scene units; SoftRas's own applies to colours only.

    Raises:
        InputError: eye and at are one point, or the camera looks along `up`.
    """
    eye, at, up = (array(x, (3,), name) for x, name in ((eye, "eye"), (at, "at"), (up, "up")))
    matrix = looking(eye, unit(at - eye, "eye and at must be different points"), up)
    return _mirrored(matrix, image_size, perspective, viewing_angle, viewing_scale, near)


def camera_from_softras_look(
    eye: ArrayLike,
    image_size: int,
    *,
    direction: ArrayLike = (0.0, 0.0, 1.0),
    up: ArrayLike = (0.0, 1.0, 0.0),
    perspective: bool = True,
    viewing_angle: float = 30.0,
    viewing_scale: float = 1.0,
    near: float = 1e-3,
) -> Camera:
    """The camera of SoftRas's camera_mode "look"; arguments as of `camera_from_softras_look_at`."""
    eye, direction, up = (array(x, (3,), name) for x, name in ((eye, "eye"), (direction, "direction"), (up, "up")))
    matrix = looking(eye, unit(direction, "direction must not be zero"), up)
    return _mirrored(matrix, image_size, perspective, viewing_angle, viewing_scale, near)


def camera_from_softras_projection(
    P: ArrayLike, image_size: int, *, orig_size: float = 512, near: float = 1e-3
) -> Camera:
    """The camera of SoftRas's camera_mode "projection".

    A point X of the world has (x, y, z) = P (X, 1), and is shown at (x / z, y / z) in a square of side orig_size. There
    y is UP: the picture is upside down against one with OpenCV's P = K [R t]. SoftRas's distortion coefficients are not
    converted, since a Camera has none, nor is the 1e-5 that SoftRas adds to z.

    Args:
        P: (3, 4) projection matrix. Its last row may have any length but 0.
        image_size: pixels of a side.
        orig_size: the side of the square in P's own pixels.
        near: the near distance of the Camera, in scene units.

    Raises:
        InputError: P belongs to no perspective camera.
    """
    image_size, _ = sides(image_size, image_size)
    scale = image_size / positive("orig_size", orig_size)
    pixels = np.array([[scale, 0.0, 0.0], [0.0, -scale, image_size], [0.0, 0.0, 1.0]])
    K, R, t = _decomposed(pixels @ array(P, (3, 4), "P"))
    return Camera(K, rigid(R, t, "P"), image_size, image_size, near=near)


def camera_to_softras(camera: Camera) -> tuple[np.ndarray, int]:
    """P (3, 4) and orig_size with which SoftRas's camera_mode "projection" gives this camera's picture.

    Raises:
        InputError: an orthographic camera, or an image that is not square.
    """
    if camera.orthographic:
        raise InputError("SoftRas's projection matrices are perspective; make this camera perspective.")
    if camera.width != camera.height:
        raise InputError(f"SoftRas's images are square, not {camera.width} x {camera.height}; crop the camera first.")
    flip = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, camera.height], [0.0, 0.0, 1.0]])
    return flip @ camera.K @ camera.world_to_camera[:3], camera.width


def _mirrored(
    world_to_camera: np.ndarray, size: int, perspective: bool, angle: float, scale: float, near: float
) -> Camera:
    size, _ = sides(size, size)
    angle = number("viewing_angle", angle, 0.0, 90.0, above=True)
    scale = positive("viewing_scale", scale)
    focal = size / 2 * (1 / math.tan(math.radians(angle)) if perspective else scale)
    K = np.array([[-focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])
    return Camera(K, world_to_camera, size, size, orthographic=not perspective, near=near)


def _decomposed(P: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K (3, 3), a rotation R (3, 3) and t (3,) with P ~ K [R t]; K11 is positive, and K00 negative where P mirrors."""
    lengths = np.linalg.norm(P[:, :3], axis=1)
    if abs(np.linalg.det(P[:, :3])) <= 1e-12 * lengths.prod():
        raise InputError("P is the matrix of no perspective camera; its left 3 x 3 part must be invertible.")
    P = P / lengths[2]
    K, R = triangular_and_rotation(P[:, :3])
    return K, R, np.linalg.solve(K, P[:, 3])

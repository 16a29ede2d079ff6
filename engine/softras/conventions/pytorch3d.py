"""PyTorch3D's cameras: x_camera = x R + T with axes x left, y up, z forward.

Normalized device coordinates (NDC) span 2 over the shorter side of the image.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..camera import Camera
from ..checks import number, positive
from ..errors import InputError
from .extrinsics import array, rigid, sides

_AXES = np.diag([-1.0, -1.0, 1.0])  # From axes x left, y up to axes x right, y down, and back.


def camera_from_pytorch3d(
    R: ArrayLike,
    T: ArrayLike,
    width: int,
    height: int,
    *,
    focal_length: ArrayLike = 1.0,
    principal_point: ArrayLike = (0.0, 0.0),
    in_ndc: bool = True,
    orthographic: bool = False,
    near: float = 1e-3,
) -> Camera:
    """The camera that one of PyTorch3D's PerspectiveCameras or OrthographicCameras is.

    Args:
        R: (3, 3) rotation, which multiplies row vectors.
        T: (3,) translation.
        width, height: the size of the image in pixels.
        focal_length: a number or (2,). With in_ndc it is in NDC, else in pixels.
        principal_point: (2,). With in_ndc it is in NDC (x left, y up, 0 in the middle of the image), else in pixels
            (x right, y down, 0 at the image's corner).
        in_ndc: the unit of focal_length and principal_point.
        orthographic: whether it is one of OrthographicCameras.
        near: the near distance of the Camera, in scene units.
    """
    width, height = sides(width, height)
    focal = array(focal_length if np.ndim(focal_length) else np.repeat(focal_length, 2), (2,), "focal_length")
    point = array(principal_point, (2,), "principal_point")
    if in_ndc:
        scale = min(width, height) / 2
        focal, point = focal * scale, np.array([width / 2, height / 2]) - point * scale
    K = np.array([[focal[0], 0.0, point[0]], [0.0, focal[1], point[1]], [0.0, 0.0, 1.0]])
    world_to_camera = rigid(_AXES @ array(R, (3, 3), "R").T, _AXES @ array(T, (3,), "T"), "R")
    return Camera(K, world_to_camera, width, height, orthographic=orthographic, near=near)


def camera_from_pytorch3d_fov(
    R: ArrayLike,
    T: ArrayLike,
    width: int,
    height: int,
    *,
    fov: float = 60.0,
    aspect_ratio: float = 1.0,
    degrees: bool = True,
    near: float = 1e-3,
) -> Camera:
    """The camera that one of PyTorch3D's FoVPerspectiveCameras is.

    Args:
        R, T, width, height: as for `camera_from_pytorch3d`.
        fov: the full angle over the shorter side of the image.
        aspect_ratio: the width of a pixel over its height (not that of the image).
        degrees: whether fov is in degrees; if not, it is in radians.
        near: the near distance of the Camera, in scene units.
    """
    fov = number("fov", fov, 0.0, 180.0 if degrees else math.pi, above=True)
    focal = 1 / math.tan((math.radians(fov) if degrees else fov) / 2)
    focal_length = (focal / positive("aspect_ratio", aspect_ratio), focal)
    return camera_from_pytorch3d(R, T, width, height, focal_length=focal_length, near=near)


def camera_from_pytorch3d_fov_orthographic(
    R: ArrayLike,
    T: ArrayLike,
    width: int,
    height: int,
    *,
    max_y: float = 1.0,
    min_y: float = -1.0,
    max_x: float = 1.0,
    min_x: float = -1.0,
    scale_xyz: ArrayLike = (1.0, 1.0, 1.0),
    near: float = 1e-3,
) -> Camera:
    """The camera that one of PyTorch3D's FoVOrthographicCameras is.

    max_y, min_y, max_x and min_x are the coordinates, in scene units, at which NDC are 1 and -1; all other arguments
    are those of `camera_from_pytorch3d`.
    """
    low, high = array([min_x, min_y], (2,), "min_x and min_y"), array([max_x, max_y], (2,), "max_x and max_y")
    if (low == high).any():
        raise InputError("max_x and max_y must differ from min_x and min_y; the camera sees nothing between them.")
    return camera_from_pytorch3d(
        R,
        T,
        width,
        height,
        focal_length=2 / (high - low) * array(scale_xyz, (3,), "scale_xyz")[:2],
        principal_point=-(high + low) / (high - low),
        orthographic=True,
        near=near,
    )


def camera_to_pytorch3d(camera: Camera, *, in_ndc: bool = True) -> dict[str, Any]:
    """The keyword arguments, for a batch of one, of PyTorch3D's PerspectiveCameras or OrthographicCameras.

    Returns:
        R (1, 3, 3), T (1, 3), focal_length (1, 2), principal_point (1, 2), in_ndc, image_size (1, 2) height first.

    Raises:
        InputError: the camera has skewed pixels.
    """
    K = camera.K
    if K[0, 1] or K[1, 0]:
        raise InputError("cameras of PyTorch3D have no skewed pixels; make K01 and K10 zero.")
    focal, point = K[[0, 1], [0, 1]], K[:2, 2]
    if in_ndc:
        scale = min(camera.width, camera.height) / 2
        focal, point = focal / scale, (np.array([camera.width / 2, camera.height / 2]) - point) / scale
    return {
        "R": (_AXES @ camera.world_to_camera[:3, :3]).T[None],
        "T": (_AXES @ camera.world_to_camera[:3, 3])[None],
        "focal_length": focal[None],
        "principal_point": point[None],
        "in_ndc": in_ndc,
        "image_size": np.array([[camera.height, camera.width]]),
    }

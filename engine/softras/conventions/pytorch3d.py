"""PyTorch3D's cameras: x_camera = x R + T with x left, y up and z forward; NDC spans 2 over the shorter image side."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..camera import Camera
from ..checks import number, positive
from ..errors import InputError
from .extrinsics import array, rigid, sides

_AXES = np.diag([-1.0, -1.0, 1.0])  # x left, y up to x right, y down, and back


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
    """One camera of PyTorch3D's PerspectiveCameras or OrthographicCameras.

    Args:
        R: (3, 3), multiplies row vectors.
        T: (3,).
        width, height: of the image, in pixels.
        focal_length: a number or (2,), and principal_point: (2,), in NDC (x left, y up, the middle is 0) or, with
            in_ndc=False, in pixels (x right, y down, the image's corner is 0).
        in_ndc, orthographic: what kind of camera it is.
        near: of the Camera.
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
    """One camera of PyTorch3D's FoVPerspectiveCameras.

    Args:
        R, T, width, height: as for `camera_from_pytorch3d`.
        fov: full angle over the shorter image side, whichever that is.
        aspect_ratio: of a pixel, not of the image: what is seen sideways is this much wider.
        degrees: what fov is in; else radians.
        near: of the Camera.
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
    """One camera of PyTorch3D's FoVOrthographicCameras; its sides are where NDC is -1 and 1, in scene units."""
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
    """The keyword arguments, a batch of one, of PyTorch3D's PerspectiveCameras, or OrthographicCameras if it is one.

    Returns:
        R (1, 3, 3), T (1, 3), focal_length (1, 2), principal_point (1, 2), in_ndc, image_size (1, 2) height first.

    Raises:
        InputError: skewed pixels.
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

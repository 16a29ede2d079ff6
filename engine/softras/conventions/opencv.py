"""OpenCV's cameras, and those of COLMAP and other programs that use OpenCV's axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..camera import Camera
from ..errors import InputError
from .extrinsics import array, rigid

# Added to a K whose pixels have their centres on integers, it gives ours, where pixels have their corners on integers.
HALF_PIXEL = np.array([[0.0, 0.0, 0.5], [0.0, 0.0, 0.5], [0.0, 0.0, 0.0]])


def camera_from_opencv(
    K: ArrayLike,
    R: ArrayLike,
    t: ArrayLike,
    width: int,
    height: int,
    *,
    centres_on_integers: bool = True,
    near: float = 1e-3,
) -> Camera:
    """The camera with x_camera = R x + t and pixel ~ K x_camera; its axes are x right, y down, z forward.

    Args:
        K: (3, 3) intrinsics in pixels (cameraMatrix). Undistort images first: a Camera has no lens distortion.
        R: (3, 3) rotation (`cv2.Rodrigues(rvec)[0]`).
        t: (3,) or (3, 1) translation (tvec).
        width, height: the size of the image in pixels.
        centres_on_integers: whether the centre of the first pixel is (0, 0), as in OpenCV; if not, it is (0.5, 0.5), as
            in COLMAP.
        near: the near distance of the Camera, in scene units.
    """
    K = array(K, (3, 3), "K")
    if not np.allclose(K[2], (0, 0, 1)):
        raise InputError("the last row of K must be 0 0 1; divide K by its last element.")
    world_to_camera = rigid(array(R, (3, 3), "R"), _column(t), "R")
    return Camera(K + HALF_PIXEL * centres_on_integers, world_to_camera, width, height, near=near)


def camera_to_opencv(camera: Camera, *, centres_on_integers: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K (3, 3), R (3, 3) and t (3,) as `camera_from_opencv` takes them.

    Raises InputError for an orthographic camera.
    """
    if camera.orthographic:
        raise InputError("OpenCV has no orthographic cameras; make this one perspective.")
    matrix = camera.world_to_camera
    return camera.K - HALF_PIXEL * centres_on_integers, matrix[:3, :3].copy(), matrix[:3, 3].copy()


def _column(t: ArrayLike) -> np.ndarray:
    """(3,) the translation, which may be given as (3,) or (3, 1)."""
    try:
        t = np.ravel(t)
    except ValueError:  # Its rows have several lengths; `array` refuses it by its name.
        pass
    return array(t, (3,), "t")

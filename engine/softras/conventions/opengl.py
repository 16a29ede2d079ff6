"""OpenGL's cameras: a view matrix and a projection matrix, as gluLookAt, gluPerspective, glFrustum or glm make them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ..camera import Camera
from ..checks import number
from ..errors import InputError
from .extrinsics import OPENGL_AXES, array, rigid, sides


def camera_from_opengl(view: ArrayLike, projection: ArrayLike, width: int, height: int) -> Camera:
    """The camera whose clip coordinates are projection @ view @ (x, y, z, 1), in an image of width x height pixels.

    The matrices multiply column vectors: translations are in the last column. Transpose matrices that a column-major
    API hands over as rows. The near distance is that of the projection, whose depths are taken to be -1..1; the far
    distance is dropped.

    Args:
        view: (4, 4) the matrix from the world to the eye's axes (x right, y up, z backward), without scale.
        projection: (4, 4) the matrix from the eye's axes to clip space, perspective or orthographic, maybe off-centre.
        width, height: the size of the viewport in pixels; its origin does not matter.

    Raises:
        InputError: matrices of other kinds, oblique ones among them.
    """
    width, height = sides(width, height)
    view, projection = array(view, (4, 4), "the view matrix"), array(projection, (4, 4), "the projection matrix")
    if not np.allclose(view[3], (0, 0, 0, 1)):
        raise InputError("the last row of the view matrix must be 0 0 0 1; transpose the matrix if it is column-major.")
    orthographic = bool(np.allclose(projection[3], (0, 0, 0, 1)))
    if not orthographic and not np.allclose(projection[3], (0, 0, -1, 0)):
        raise InputError(
            "the last row of the projection matrix must be 0 0 -1 0 (perspective) or 0 0 0 1 (orthographic); transpose "
            "the matrix if it is column-major."
        )
    kept, left_out = ([0, 1, 3], 2) if orthographic else ([0, 1, 2], 3)
    rows = projection[[0, 1, 3]] @ OPENGL_AXES
    if not np.allclose(rows[:, left_out], 0):
        raise InputError("the projection matrix is oblique, which no camera of Softras is; use a plain one.")
    a, b = projection[2, 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        near = (b + 1) / a if orthographic else b / (a - 1)
    world_to_camera = OPENGL_AXES @ rigid(view[:3, :3], view[:3, 3], "the view matrix's upper left")
    return Camera(
        _viewport(width, height) @ rows[:, kept], world_to_camera, width, height, orthographic, near=float(near)
    )


def camera_to_opengl(camera: Camera, far: float) -> tuple[np.ndarray, np.ndarray]:
    """The view matrix (4, 4) and the projection matrix (4, 4) that show every point where the camera shows it.

    They multiply column vectors; transpose them for a column-major API. Depths from camera.near to `far` become -1..1.

    Args:
        camera: the camera.
        far: the far distance in scene units; it may be math.inf for a perspective camera.

    Raises:
        InputError: far is not greater than camera.near.
    """
    near = float(camera.near)
    far = math.inf if isinstance(far, float) and far == math.inf else number("far", far)
    if not far > near or (camera.orthographic and math.isinf(far)):
        raise InputError(f"far must be beyond the camera's near distance of {near:g}, not {far:g}.")
    projection = np.zeros((4, 4))
    kept = [0, 1, 3] if camera.orthographic else [0, 1, 2]
    projection[np.ix_([0, 1, 3], kept)] = np.linalg.inv(_viewport(camera.width, camera.height)) @ camera.K
    projection = projection @ OPENGL_AXES
    if camera.orthographic:
        projection[2, 2:] = -2 / (far - near), -(far + near) / (far - near)
    else:
        ratio = near / far  # It is 0 for a far plane at infinity.
        projection[2, 2:] = -(1 + ratio) / (1 - ratio), -2 * near / (1 - ratio)
    return OPENGL_AXES @ camera.world_to_camera, projection


def _viewport(width: int, height: int) -> np.ndarray:
    """(3, 3) the matrix from (x, y, 1) with x and y in -1..1, y up, to pixels, y down."""
    return np.array([[width / 2, 0.0, width / 2], [0.0, -height / 2, height / 2], [0.0, 0.0, 1.0]])

"""A camera: how points of the world become pixels."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import numpy as np

from .checks import LARGEST, array, flag, number, whole
from .errors import InputError

LARGEST_SIDE = 1 << 16  # A side of an image has at most so many pixels, as in Blender.
ROTATION_TOLERANCE = 1e-5  # Numbers of R R^T may differ from those of 1 by this; float32 rounds by far less.
SMALLEST = 1e-15  # The least focal length (pixels, or pixels per scene unit) and the least near distance (scene units).


@dataclass(frozen=True, eq=False)
class Camera:
    """A perspective or orthographic camera in OpenCV axes (x right, y down, z forward).

    A world point X has camera coordinates (x, y, z) = R X + t and the pixel
    u = (K00 x + K01 y) / z + K02, v = (K10 x + K11 y) / z + K12; an orthographic camera leaves out the
    division. Pixel coordinates are continuous, (0, 0) at the top-left corner of the image.

    A camera never changes: it keeps read-only copies of its matrices, and `dataclasses.replace` makes another camera.
    Cameras with equal numbers are equal and have the same hash.

    world_to_camera is always a rotation, so K alone mirrors and skews the picture: a mirrored picture has a negative
    K00, and a camera that its parents shear, as can happen in Blender, has a skew in K.

    Attributes:
        K: (3, 3) intrinsics in pixels, last row (0, 0, 1); the upper left (2, 2) invertible.
        world_to_camera: (4, 4) [R t; 0 0 0 1] with a rotation R: R R^T = 1 to 1e-5, determinant 1.
        width, height: image size in pixels.
        orthographic: parallel projection; K00 and K11 are then pixels per scene unit.
        near: geometry closer than this (scene units along z) is clipped away; positive for perspective.
    """

    K: np.ndarray
    world_to_camera: np.ndarray
    width: int
    height: int
    orthographic: bool = False
    near: float = 1e-3

    def __post_init__(self) -> None:
        K, matrix = array("camera K", self.K, (3, 3)), array("camera world_to_camera", self.world_to_camera, (4, 4))
        if np.abs(K[2] - (0, 0, 1)).max() > 1e-9:
            raise InputError("the last row of camera K must be 0 0 1; divide K by its last number.")
        rows = np.linalg.norm(K[:2, :2], axis=1)
        if rows.min() < SMALLEST or abs(np.linalg.det(K[:2, :2] / rows[:, None])) < 1e-9:
            raise InputError("the upper left 2 x 2 of camera K must be invertible: K00 and K11 are focal lengths.")
        if np.abs(matrix[3] - (0, 0, 0, 1)).max() > 1e-9:
            raise InputError(
                "the last row of camera world_to_camera must be 0 0 0 1; transpose it if that is its last column."
            )
        check_rotation("the upper left 3 x 3 of camera world_to_camera", matrix[:3, :3], ROTATION_TOLERANCE)
        orthographic = flag("camera orthographic", self.orthographic)
        least = -LARGEST if orthographic else SMALLEST
        values = {
            "K": K,
            "world_to_camera": matrix,
            "width": whole("camera width", self.width, 1, LARGEST_SIDE),
            "height": whole("camera height", self.height, 1, LARGEST_SIDE),
            "orthographic": orthographic,
            "near": number("the near distance of a camera", self.near, least),
        }
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return self._numbers() == other._numbers() if isinstance(other, Camera) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._numbers())

    def _numbers(self) -> tuple:
        matrices = *self.K.flat, *self.world_to_camera.flat
        return matrices, self.width, self.height, self.orthographic, self.near

    @property
    def centre(self) -> np.ndarray:
        """(3,) the eye in the world."""
        R, t = self.world_to_camera[:3, :3], self.world_to_camera[:3, 3]
        return -np.linalg.solve(R, t)

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) world points in camera coordinates."""
        R, t = self.world_to_camera[:3, :3], self.world_to_camera[:3, 3]
        return times(R, np.asarray(points, dtype=np.float64)) + t

    def project(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) the pixels of world points (..., 3); inf or mirrored for points at the eye or behind it."""
        return self.to_pixels(self.to_camera(points))

    def to_pixels(self, x: np.ndarray) -> np.ndarray:
        """(..., 2) the pixels of points in camera coordinates (..., 3); as `project`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = x[..., :2] if self.orthographic else x[..., :2] / x[..., 2:]
        return times(self.K[:2, :2], xy) + self.K[:2, 2]

    def crop(self, x0: float, y0: float, x1: float, y1: float, width: int, height: int) -> Camera:
        """The camera whose image is the box [x0, x1] x [y0, y1] of this one's, resampled to width x height pixels.

        The box may extend beyond the image.
        """
        x0, y0, x1, y1 = (number("a side of the box of a crop", side) for side in (x0, y0, x1, y1))
        if not (x0 < x1 and y0 < y1):
            raise InputError("the box of a crop must be x0, y0, x1, y1 with x0 < x1 and y0 < y1.")
        width, height = whole("the width of a crop", width, 1), whole("the height of a crop", height, 1)
        scale = np.diag([width / (x1 - x0), height / (y1 - y0), 1.0])
        shift = np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0], [0.0, 0.0, 1.0]])
        return replace(self, K=scale @ shift @ self.K, width=width, height=height)


def times(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(..., M) a matrix (M, N) times each of the points (..., N).

    By numpy's own sums. A BLAS shares many points among threads, which on a busy machine wait for one another for
    longer than the whole product takes one of them.
    """
    coordinates = np.ascontiguousarray(np.moveaxis(points, -1, 0))
    return np.moveaxis(np.einsum("mn,n...->m...", matrix, coordinates), 0, -1)


def camera_to_json(camera: Camera) -> dict[str, Any]:
    """A camera as JSON values, from which `camera_from_json` makes an equal one."""
    return {
        "K": camera.K.tolist(),
        "world_to_camera": camera.world_to_camera.tolist(),
        "width": int(camera.width),
        "height": int(camera.height),
        "orthographic": bool(camera.orthographic),
        "near": float(camera.near),
    }


def camera_from_json(value: Any) -> Camera:
    """The camera in the values of `camera_to_json`, of which those that have a default may be missing."""
    if not isinstance(value, dict):
        raise InputError("a camera must be an object with K, world_to_camera, width, height, orthographic and near.")
    for field in fields(Camera):
        if field.name not in value and field.default is MISSING:
            raise InputError(f"a camera lacks '{field.name}'.")
    return Camera(**{field.name: value[field.name] for field in fields(Camera) if field.name in value})


def check_rotation(name: str, R: np.ndarray, tolerance: float) -> None:
    """Raises InputError, which says what R (3, 3) is instead, unless R R^T = 1 to the tolerance and det R = 1."""
    gram = R @ R.T
    scale = float(np.sqrt(gram.trace() / 3))
    if scale == 0 or np.abs(gram / scale**2 - np.eye(3)).max() > tolerance:
        raise InputError(f"{name} must be a rotation: its rows must be perpendicular to one another and of length 1.")
    if np.linalg.det(R / scale) < 0:
        raise InputError(
            f"{name} must be a rotation, but is a reflection (its determinant is negative): as a rule one axis alone "
            "was turned round on the way to OpenCV's axes (x right, y down, z forward). From OpenGL and Blender y and "
            "z change sign together, and from PyTorch3D x and y; a mirrored picture is a negative K00."
        )
    if np.abs(gram - np.eye(3)).max() > tolerance:
        raise InputError(f"{name} must be a rotation, but is one that is scaled by {scale:.6g}; divide it by that.")

"""A camera: how points of the world become pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np

from .errors import InputError


@dataclass(frozen=True, eq=False)
class Camera:
    """A perspective or orthographic camera in OpenCV axes (x right, y down, z forward).

    A world point X has camera coordinates (x, y, z) = R X + t and the pixel
    u = (K00 x + K01 y) / z + K02, v = (K10 x + K11 y) / z + K12; an orthographic camera leaves out the
    division. Pixel coordinates are continuous, (0, 0) at the top-left corner of the image.

    A camera never changes: it keeps copies of its matrices, which are read-only; `dataclasses.replace` makes another.
    Cameras of equal numbers are equal and have one hash.

    Attributes:
        K: (3, 3) intrinsics in pixels, last row (0, 0, 1).
        world_to_camera: (4, 4) [R t; 0 0 0 1].
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
        for name, shape in (("K", (3, 3)), ("world_to_camera", (4, 4))):
            value = np.array(getattr(self, name), dtype=np.float64)
            if value.shape != shape:
                raise InputError(f"camera {name} must have shape {shape}, not {value.shape}.")
            if not np.isfinite(value).all():
                raise InputError(f"camera {name} holds NaN or infinite numbers.")
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        for name in ("width", "height"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise InputError(f"camera {name} must be a whole number of pixels of at least 1, not {value!r}.")
        if not isinstance(self.near, Real) or not math.isfinite(self.near):
            raise InputError(f"the near distance of a camera must be a finite number, not {self.near!r}.")
        if not self.orthographic and not self.near > 0:
            raise InputError(f"the near distance of a perspective camera must be positive, not {self.near}.")

    def __eq__(self, other: object) -> bool:
        return self._numbers() == other._numbers() if isinstance(other, Camera) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._numbers())

    def _numbers(self) -> tuple:
        matrices = *self.K.flat, *self.world_to_camera.flat
        return matrices, self.width, self.height, self.orthographic, self.near

    @property
    def centre(self) -> np.ndarray:
        """(3,) the eye in world coordinates."""
        R, t = self.world_to_camera[:3, :3], self.world_to_camera[:3, 3]
        return -np.linalg.solve(R, t)

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) world points in camera coordinates."""
        return np.asarray(points, dtype=np.float64) @ self.world_to_camera[:3, :3].T + self.world_to_camera[:3, 3]

    def project(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) world points -> (..., 2) pixels. Points at or behind the eye give inf or mirrored pixels."""
        x = self.to_camera(points)
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = x[..., :2] if self.orthographic else x[..., :2] / x[..., 2:]
        return xy @ self.K[:2, :2].T + self.K[:2, 2]

    def crop(self, x0: float, y0: float, x1: float, y1: float, width: int, height: int) -> Camera:
        """The camera of the pixel box [x0, x1] x [y0, y1], resampled to width x height pixels.

        The box may reach outside the image.
        """
        scale = np.diag([width / (x1 - x0), height / (y1 - y0), 1.0])
        shift = np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0], [0.0, 0.0, 1.0]])
        return replace(self, K=scale @ shift @ self.K, width=width, height=height)


def camera_to_json(camera: Camera) -> dict[str, Any]:
    """The camera as JSON values; `camera_from_json` reads them back without loss."""
    return {
        "K": camera.K.tolist(),
        "world_to_camera": camera.world_to_camera.tolist(),
        "width": int(camera.width),
        "height": int(camera.height),
        "orthographic": bool(camera.orthographic),
        "near": float(camera.near),
    }


def camera_from_json(value: Any) -> Camera:
    """The camera that `camera_to_json` wrote."""
    try:
        return Camera(
            K=np.array(value["K"], dtype=np.float64),
            world_to_camera=np.array(value["world_to_camera"], dtype=np.float64),
            width=int(value["width"]),
            height=int(value["height"]),
            orthographic=bool(value["orthographic"]),
            near=float(value["near"]),
        )
    except KeyError as error:
        raise InputError(f"a camera lacks {error}.") from error
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"a camera must hold numbers: {error}.") from error

"""The space a fit works in: the object's longest side is 1 and its middle the origin."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...camera import Camera


@dataclass(frozen=True, eq=False)
class UnitSpace:
    """Rates, smoothing and edge lengths mean the same for a ring and a house, and float32 suffices.

    Attributes:
        centre: (3,) world point that becomes the origin.
        size: world length that becomes 1.
    """

    centre: np.ndarray
    size: float

    @classmethod
    def around(cls, points: np.ndarray) -> UnitSpace:
        """The unit space of the bounding box of (P, 3) points; of a single place, size 1."""
        low, high = points.min(axis=0), points.max(axis=0)
        return cls((low + high) / 2, float((high - low).max()) or 1.0)

    def to_unit(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) world points in this space."""
        return (points - self.centre) / self.size

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) points of this space in the world."""
        return points * self.size + self.centre

    def camera(self, camera: Camera) -> Camera:
        """The camera that sees unit points where `camera` sees them in the world; depths are divided by size."""
        R, t = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = R, (R @ self.centre + t) / self.size
        scale = np.diag([self.size, self.size, 1.0]) if camera.orthographic else np.eye(3)
        return replace(camera, K=camera.K @ scale, world_to_camera=matrix, near=camera.near / self.size)

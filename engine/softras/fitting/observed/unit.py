"""Unit space, in which a fit works: the object's longest side is 1 and its middle is the origin.

Step lengths, smoothing and edge lengths then mean the same for a ring and a house, and float32 is precise enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...camera import Camera


@dataclass(frozen=True, eq=False)
class UnitSpace:
    """The map between the world and unit space.

    Attributes:
        centre: (3,) the world point that becomes the origin.
        size: the length in the world that becomes 1.
    """

    centre: np.ndarray
    size: float

    @classmethod
    def around(cls, points: np.ndarray) -> UnitSpace:
        """The unit space of the bounding box of (P, 3) points; its size is 1 where all points coincide."""
        low, high = points.min(axis=0), points.max(axis=0)
        return cls((low + high) / 2, float((high - low).max()) or 1.0)

    def to_unit(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) in unit space."""
        return (points - self.centre) / self.size

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Points of unit space (..., 3) in the world."""
        return points * self.size + self.centre

    def camera(self, camera: Camera) -> Camera:
        """The camera that shows a point of unit space at the pixel at which `camera` shows it in the world.

        Depths are divided by `size`.
        """
        R, t = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = R, (R @ self.centre + t) / self.size
        scale = np.diag([self.size, self.size, 1.0]) if camera.orthographic else np.eye(3)
        return replace(camera, K=camera.K @ scale, world_to_camera=matrix, near=camera.near / self.size)

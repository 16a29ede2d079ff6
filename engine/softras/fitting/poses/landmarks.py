"""Points of the mesh that a view should see at given places: landmarks, and what pulls limbs over a distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Pins:
    """k points and their places.

    Attributes:
        views: (k,) index of the view among those of the frame.
        corners: (k, 3) vertices that share in the point.
        shares: (k, 3) of each of them, summing to 1.
        targets: (k, 2) where the view's crop should see the point, in sides of the crop.
        weights: (k,) of the squared distance, in sides of the crop.
    """

    views: np.ndarray
    corners: np.ndarray
    shares: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    @classmethod
    def none(cls) -> Pins:
        """No pins."""
        return cls(np.zeros(0, int), np.zeros((0, 3), int), np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0))

    def __len__(self) -> int:
        return len(self.views)

    @classmethod
    def joined(cls, parts: Sequence[Pins]) -> Pins:
        """All of them."""
        names = ("views", "corners", "shares", "targets", "weights")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def residuals(self, vertices: np.ndarray, cameras: Arrays, size: int) -> np.ndarray:
        """(k, 2) weighted differences of the points' pixels and the targets, in sides of the crop.

        Args:
            vertices: (V, 3).
            cameras: K (N, 3, 3), world_to_camera (N, 4, 4), orthographic (N,) of the views, near (N,).
            size: pixels of a side of the crops.
        """
        pixels = np.einsum("kij,kj->ki", cameras["K"][self.views, :2], self._seen(self._points(vertices), cameras)[0])
        return np.sqrt(self.weights)[:, None] * (pixels / size - self.targets)

    def rows(
        self,
        vertices: np.ndarray,
        cameras: Arrays,
        size: int,
        d_vertices: np.ndarray,
        d_K: np.ndarray | None = None,
        d_world_to_camera: np.ndarray | None = None,
    ) -> np.ndarray:
        """(k, 2, P) derivatives of the residuals for those of vertices (V, 3, P) and cameras (N, ..., P)."""
        points = self._points(vertices)
        seen, depth = self._seen(points, cameras)
        turn, K = cameras["world_to_camera"][self.views, :3, :3], cameras["K"][self.views, :2]
        moved = turn @ np.einsum("kc,kcip->kip", self.shares, d_vertices[self.corners])
        if d_world_to_camera is not None:
            motion = d_world_to_camera[self.views, :3]
            moved = moved + np.einsum("kijp,kj->kip", motion[:, :, :3], points) + motion[:, :, 3]
        away = np.where(cameras["orthographic"][self.views][:, None], 0.0, moved[:, 2])
        aside = (moved[:, :2] - seen[:, :2, None] * away[:, None]) / depth[:, None, None]
        pixels = K[:, :, :2] @ aside
        if d_K is not None:
            pixels = pixels + np.einsum("kijp,kj->kip", d_K[self.views, :2], seen)
        return np.sqrt(self.weights)[:, None, None] / size * pixels

    def _points(self, vertices: np.ndarray) -> np.ndarray:
        return np.einsum("kc,kci->ki", self.shares, vertices[self.corners])

    def _seen(self, points: np.ndarray, cameras: Arrays) -> tuple[np.ndarray, np.ndarray]:
        """(k, 3) what K is multiplied by, and (k,) the depth that it was divided by."""
        return seen(points, cameras["world_to_camera"][self.views], cameras["orthographic"][self.views])


def seen(points: np.ndarray, world_to_camera: np.ndarray, orthographic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k, 3) points (x / z, y / z, 1) before the camera, or (x, y, 1) of an orthographic one; and (k,) what divided.

    Points beside or behind the eye count as just before it.

    Args:
        points: (k, 3).
        world_to_camera: (k, 4, 4), or (4, 4) of one camera.
        orthographic: (k,), or of one camera.
    """
    camera = (world_to_camera[..., :3, :3] @ points[:, :, None])[..., 0] + world_to_camera[..., :3, 3]
    depth = np.where(orthographic, 1.0, np.maximum(camera[:, 2], 1e-3))
    return np.concatenate([camera[:, :2] / depth[:, None], np.ones((len(points), 1))], axis=1), depth

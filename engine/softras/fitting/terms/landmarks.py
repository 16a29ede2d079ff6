"""Points of the mesh that a view should see at given pixels: landmarks, and what pulls limbs over a distance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .posed import Arrays, Frames, FrameViews, Motion, Part, Posed, array, arrays
from .term import Term


@dataclass(frozen=True, eq=False)
class Pins:
    """k points, and the pixels of one frame's views where they should be seen.

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


@dataclass(frozen=True, eq=False)
class Pinned:
    """Half the weighted squares of the distances of pins from their targets, in sides of the crops.

    Attributes:
        pins: of every frame.
    """

    pins: Sequence[Pins]

    def cost(self, posed: Posed) -> float:
        """As in `Residuals`."""
        pins = self.pins[posed.index]
        return 0.5 * float((pins.residuals(*_scene(posed)) ** 2).sum()) if len(pins) else 0.0

    def linear(self, posed: Posed, motion: Motion) -> tuple[float, Iterable[Part]]:
        """As in `Residuals`."""
        pins = self.pins[posed.index]
        if not len(pins):
            return 0.0, ()
        residuals = pins.residuals(*_scene(posed))
        of_cameras = (None if x is None else array(x) for x in (motion.d_K, motion.d_world_to_camera))
        rows = pins.rows(*_scene(posed), array(motion.d_vertices), *of_cameras)
        parts = []
        for view in np.unique(pins.views).tolist():
            chosen = pins.views == view
            own_rows, own = (torch.from_numpy(x[chosen]) for x in (rows, residuals))
            parts.append(Part(own_rows.flatten(0, 1), own.flatten(), view))
        return 0.5 * float((residuals**2).sum()), parts


def _scene(posed: Posed) -> tuple[np.ndarray, Arrays, int]:
    """What pins are measured in: vertices, cameras, and the side of the crops."""
    return posed.points, posed.camera_arrays, posed.views.observation.resolution


def _landmarks(frames: Frames, weight: float) -> Pinned | None:
    pins = [_landmarks_of(views, frames, weight) for views in frames.views]
    return Pinned(pins) if any(map(len, pins)) else None


def _landmarks_of(seen_in: FrameViews, frames: Frames, weight: float) -> Pins:
    """The landmarks of one frame's views as pins in its crops."""
    found = [(n, landmark) for n, view in enumerate(seen_in.views) for landmark in view.landmarks]
    if not found:
        return Pins.none()
    given = arrays(seen_in.observation.cameras)["K"]
    targets = []
    for n, landmark in found:
        into_crop = given[n] @ np.linalg.inv(frames.unit.camera(seen_in.views[n].camera).K)
        targets.append((into_crop @ [*landmark.pixel, 1.0])[:2] / seen_in.observation.resolution)
    vertices = frames.clusters[[landmark.vertex for _, landmark in found]]
    return Pins(
        np.array([n for n, _ in found]),
        np.repeat(vertices[:, None], 3, axis=1),
        np.tile([1.0, 0.0, 0.0], (len(found), 1)),
        np.array(targets),
        weight * np.array([landmark.weight for _, landmark in found]),
    )


LANDMARKS = Term({"poses": 100.0}, residuals=_landmarks)

"""Points of the mesh that a view should show at given pixels: landmarks, and the pulls of `poses/pulls.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .posed import Arrays, Frames, FrameViews, Motion, Part, Posed, array, arrays
from .term import Term


@dataclass(frozen=True, eq=False)
class Pins:
    """k points of a mesh, each with the position in the image at which one of a frame's views should show it.

    Positions in the image are in sides of the view's crop: (0, 0) is its top left corner and (1, 1) its bottom right.

    Attributes:
        views: (k,) index of the view among those of the frame.
        corners: (k, 3) the three vertices, of a face or one and the same, between which the point lies.
        shares: (k, 3) barycentric coordinates of the point, which sum to 1.
        targets: (k, 2) where the view should show the point.
        weights: (k,) weight of the squared distance in the image between point and target.
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
        """The pins of all parts, in their order."""
        names = ("views", "corners", "shares", "targets", "weights")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def residuals(self, vertices: np.ndarray, cameras: Arrays, size: int) -> np.ndarray:
        """(k, 2) differences between where the views show the points and the targets, times the roots of the weights.

        Args:
            vertices: (V, 3).
            cameras: K (N, 3, 3), world_to_camera (N, 4, 4), orthographic (N,) and near (N,) of the views' crops.
            size: pixels of a side of the crops.
        """
        normalized, _ = self._normalized(self._points(vertices), cameras)
        pixels = np.einsum("kij,kj->ki", cameras["K"][self.views, :2], normalized)
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
        """(k, 2, P) derivatives of the residuals by P parameters.

        Args:
            vertices, cameras, size: as of `residuals`.
            d_vertices: (V, 3, P) derivatives of the vertices.
            d_K, d_world_to_camera: (N, 3, 3, P) and (N, 4, 4, P) derivatives of the cameras; None where they stay.
        """
        points = self._points(vertices)
        normalized, depth = self._normalized(points, cameras)
        turn, K = cameras["world_to_camera"][self.views, :3, :3], cameras["K"][self.views, :2]
        moved = turn @ np.einsum("kc,kcip->kip", self.shares, d_vertices[self.corners])
        if d_world_to_camera is not None:
            motion = d_world_to_camera[self.views, :3]
            moved = moved + np.einsum("kijp,kj->kip", motion[:, :, :3], points) + motion[:, :, 3]
        away = np.where(cameras["orthographic"][self.views][:, None], 0.0, moved[:, 2])
        aside = (moved[:, :2] - normalized[:, :2, None] * away[:, None]) / depth[:, None, None]
        pixels = K[:, :, :2] @ aside
        if d_K is not None:
            pixels = pixels + np.einsum("kijp,kj->kip", d_K[self.views, :2], normalized)
        return np.sqrt(self.weights)[:, None, None] / size * pixels

    def _points(self, vertices: np.ndarray) -> np.ndarray:
        return np.einsum("kc,kci->ki", self.shares, vertices[self.corners])

    def _normalized(self, points: np.ndarray, cameras: Arrays) -> tuple[np.ndarray, np.ndarray]:
        return normalized_points(points, cameras["world_to_camera"][self.views], cameras["orthographic"][self.views])


def normalized_points(
    points: np.ndarray, world_to_camera: np.ndarray, orthographic: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Normalized image coordinates of points: K times them is where the camera shows the points.

    Points beside or behind the eye count as just in front of it.

    Args:
        points: (k, 3).
        world_to_camera: (k, 4, 4), or (4, 4) of one camera.
        orthographic: (k,) bool, or one of one camera.

    Returns:
        (k, 3) of (x / z, y / z, 1), or (x, y, 1) where the camera is orthographic; and
        (k,) the depth z that x and y were divided by, 1 where the camera is orthographic.
    """
    camera = (world_to_camera[..., :3, :3] @ points[:, :, None])[..., 0] + world_to_camera[..., :3, 3]
    depth = np.where(orthographic, 1.0, np.maximum(camera[:, 2], 1e-3))
    return np.concatenate([camera[:, :2] / depth[:, None], np.ones((len(points), 1))], axis=1), depth


@dataclass(frozen=True, eq=False)
class Pinned:
    """Half the weighted sum of squared distances, in the image, between pins and their targets.

    Attributes:
        pins: the pins of each frame.
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
    """The vertices, the cameras and the side of the crops, as `Pins.residuals` takes them."""
    return posed.points, posed.camera_arrays, posed.views.observation.resolution


def _landmarks(frames: Frames, weight: float) -> Pinned | None:
    pins = [_landmarks_of(views, frames, weight) for views in frames.views]
    return Pinned(pins) if any(map(len, pins)) else None


def _landmarks_of(of_frame: FrameViews, frames: Frames, weight: float) -> Pins:
    """The landmarks of one frame's views, as pins in the crops."""
    found = [(n, landmark) for n, view in enumerate(of_frame.views) for landmark in view.landmarks]
    if not found:
        return Pins.none()
    given = arrays(of_frame.observation.cameras)["K"]
    targets = []
    for n, landmark in found:
        into_crop = given[n] @ np.linalg.inv(frames.unit.camera(of_frame.views[n].camera).K)
        targets.append((into_crop @ [*landmark.pixel, 1.0])[:2] / of_frame.observation.resolution)
    vertices = frames.clusters[[landmark.vertex for _, landmark in found]]
    return Pins(
        np.array([n for n, _ in found]),
        np.repeat(vertices[:, None], 3, axis=1),
        np.tile([1.0, 0.0, 0.0], (len(found), 1)),
        np.array(targets),
        weight * np.array([landmark.weight for _, landmark in found]),
    )


LANDMARKS = Term({"poses": 100.0}, residuals=_landmarks)

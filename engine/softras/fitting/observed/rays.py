"""Where in the world a pixel may lie, and how long there what it shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...camera import Camera


def pixel_ray(camera: Camera, pixel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origin (3,) and unit direction (3,), in the world, of the ray that a camera sees at a pixel (2,)."""
    xy = np.linalg.solve(camera.K[:2, :2], pixel - camera.K[:2, 2])
    R, t = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    if camera.orthographic:
        return np.linalg.solve(R, np.array([*xy, 0.0]) - t), np.linalg.solve(R, np.array([0.0, 0.0, 1.0]))
    direction = np.linalg.solve(R, np.array([*xy, 1.0]))
    return camera.centre, direction / np.linalg.norm(direction)


def nearest_point_to_rays(cameras: Sequence[Camera], pixels: Sequence[np.ndarray], near: np.ndarray) -> np.ndarray:
    """(3,) the world point with the least sum of squared distances to the rays through one pixel (2,) of each camera.

    Of points that are equally near, such as all points of a single ray, the one closest to `near` (3,) is chosen.
    """
    matrix, right = 1e-9 * np.eye(3), 1e-9 * near
    for camera, pixel in zip(cameras, pixels, strict=True):
        origin, direction = pixel_ray(camera, pixel)
        across = np.eye(3) - np.outer(direction, direction)
        matrix, right = matrix + across, right + across @ origin
    return np.linalg.solve(matrix, right)


def wanted_size(camera: Camera, point: np.ndarray, box: np.ndarray) -> float:
    """The length in the world that spans the longer side of a pixel box (2, 2) at the depth of a point (3,)."""
    depth = 1.0 if camera.orthographic else max(float(camera.to_camera(point)[2]), camera.near)
    return float(np.ptp(box, axis=0).max() * depth / focal_length(camera))


def focal_length(camera: Camera) -> float:
    """The pixels that a length of 1 at a depth of 1 spans (for an orthographic camera: at any depth), on average."""
    return float(np.sqrt(abs(np.linalg.det(camera.K[:2, :2]))))

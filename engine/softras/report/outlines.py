"""The outline of a shape as a line in a picture, in its place to a tenth of a pixel."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d, maximum_filter, minimum_filter
from scipy.spatial import KDTree

FAINT = 0.01  # Where the areas of neighbouring pixels differ by less, there is no outline: rounding may be the cause.


def stroke(picture: np.ndarray, areas: np.ndarray, colour: tuple[int, int, int], width: float) -> np.ndarray:
    """A picture (h, w, 3) of 0..255 with the outline of a shape as an antialiased line, `width` pixels wide.

    The line has a dark rim, so that it can be seen on any background.

    Args:
        areas: (h, w) in 0..1, the part of each pixel that the shape covers.
    """
    rim = width + 1.5
    rows, columns, distance = _near_outline(areas, rim / 2 + 0.5)
    near = picture[rows, columns]
    for thickness, paint, strength in ((rim, (0, 0, 0), 0.4), (width, colour, 1.0)):
        line = np.clip((thickness + 1) / 2 - distance, 0, 1) * strength
        near = near + (np.array(paint, np.float32) - near) * line[:, None]
    picture = picture.copy()
    picture[rows, columns] = near
    return picture


def _near_outline(areas: np.ndarray, farthest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows (P,) and columns (P,) of the pixels whose centre lies near an outline, and their distances (P,) from it.

    Args:
        areas: (h, w) in 0..1, the part of each pixel that is covered.
        farthest: pixels at a greater distance are left out.
    """
    points = _outline_points(areas)
    if not len(points):
        nothing = np.zeros(0, np.intp)
        return nothing, nothing, np.zeros(0, np.float32)
    cut = np.zeros(areas.shape, np.uint8)
    cut[tuple(points.astype(int).clip(0, np.subtract(areas.shape, 1)[::-1]).T[::-1])] = 1
    rows, columns = np.nonzero(maximum_filter(cut, 2 * int(np.ceil(farthest + 1)) + 1, mode="constant"))
    centres = np.stack([columns, rows], axis=1) + 0.5
    distance, _ = KDTree(points).query(centres, distance_upper_bound=farthest)
    found = np.isfinite(distance)
    return rows[found], columns[found], distance[found].astype(np.float32)


def _outline_points(areas: np.ndarray) -> np.ndarray:
    """(P, 2) points (x, y) in pixels on the outline of covered areas (h, w), about a pixel apart.

    The outline runs through the pixels that are covered in part, and between full ones and empty ones. In each of them
    it is taken for a straight line, across the gradient of the areas, that cuts off as much as is covered; the point is
    the one nearest to the pixel's centre (Gustavson and Strand, "Anti-aliased Euclidean distance transform", Pattern
    Recognition Letters 32, 2011).
    """
    around = {"footprint": [[0, 1, 0], [1, 1, 1], [0, 1, 0]], "mode": "nearest"}
    lowest, highest = minimum_filter(areas, **around), maximum_filter(areas, **around)
    cut = (areas > 0) & (highest - lowest > FAINT) & ((areas < 1) | (lowest == 0))
    gradient = np.empty((*areas.shape, 2), np.float32)
    for k in range(2):  # Differences along one axis, averaged along the other.
        along = correlate1d(areas, (-1, 0, 1), 1 - k, mode="nearest")
        gradient[..., k] = correlate1d(along, (1, 2**0.5, 1), k, mode="nearest")
    area, normal = areas[cut], gradient[cut]
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)  # 0 in the middle of a thin wire
    most, least = np.abs(normal).max(axis=1), np.abs(normal).min(axis=1)
    # The centre lies so far inside. Where less is covered than a triangle up to the pixel's next corner, or more than
    # all but such a triangle, the line cuts two sides that meet; else two that are opposite.
    smaller = np.minimum(area, 1 - area)
    depth = (most + least) / 2 - np.sqrt(2 * most * least * smaller)
    depth = np.where(2 * most * smaller < least, depth, most * (0.5 - smaller))
    inside = np.where(area > 0.5, depth, -depth)
    return np.argwhere(cut)[:, ::-1] + 0.5 - inside[:, None] * normal

"""Pulls that reach further than silhouettes: parts of the masks that nothing covers, and the points that might.

A soft silhouette tells a limb where to go only where limb and mask overlap. Beyond, points of the surface are assigned
to uncovered pixels one to one, so that what sticks out of a mask goes where something is missing: a partial optimal
transport, solved anew before each step as in iterative closest points (Besl and McKay 1992).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from ...mesh import Mesh
from ..terms.landmarks import Pins, seen
from ..terms.posed import Arrays

POINTS = 200  # of the surface
PIXELS = 30  # of a view, at most; others at each step
SETTLED = 0.1  # sides of the crop: so much further may a point come from that sticks out than one that does not
FAR = 0.15  # sides of the crop: distance that a pull fades with


class Surface:
    """Points spread evenly over a mesh, each in one face."""

    def __init__(self, mesh: Mesh, count: int = POINTS) -> None:
        """mesh: of any pose; the faces' areas say how many points each has."""
        a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1).cumsum()
        face = np.searchsorted(area, area[-1] * (np.arange(count) + 0.5) / count)
        u, v = np.random.default_rng(0).random((2, count))
        root = np.sqrt(u)  # evenly over a triangle: Osada et al., "Shape distributions", 2002
        self.corners = mesh.faces[face].astype(np.int64)
        self.shares = np.stack([1 - root, root * (1 - v), root * v], axis=1)

    def pulls(
        self,
        vertices: np.ndarray,
        cameras: Arrays,
        masks: np.ndarray,
        silhouettes: np.ndarray,
        weight: float,
        random: np.random.Generator,
    ) -> Pins:
        """Pins for what the masks of a frame's views have and the silhouettes lack.

        Args:
            vertices: (V, 3).
            cameras: as in `Pins.residuals`.
            masks: (N, 2, S, S) as in `Observation`.
            silhouettes: (N, S, S) bool.
            weight: of a view's squared distances, for a mask that is not covered at all.
        """
        points = np.einsum("kc,kci->ki", self.shares, vertices[self.corners])
        size = masks.shape[-1]
        known = masks[:, 1] > 0.5
        inside = known & (masks[:, 0] > 0.5 * masks[:, 1])
        parts = [Pins.none()]
        for n in range(len(masks)):
            missing = np.flatnonzero(inside[n] & ~silhouettes[n])
            if not len(missing):
                continue
            part = weight * len(missing) / np.count_nonzero(inside[n])
            if len(missing) > PIXELS:
                missing = random.choice(missing, PIXELS, replace=False)
            where = seen(points, cameras["world_to_camera"][n], cameras["orthographic"][n])[0] @ cameras["K"][n, :2].T
            column, row = where.clip(0, size - 1).astype(int).T
            settled = np.where(known[n, row, column] & ~inside[n, row, column], 0, SETTLED**2)
            targets = (np.column_stack([missing % size, missing // size]) + 0.5) / size
            square = sum((targets[:, None, k] - where[:, k] / size) ** 2 for k in (0, 1))
            pixel, point = linear_sum_assignment(square + settled)
            fading = (1 + square[pixel, point] / FAR**2) ** -2
            weights = part / len(missing) * fading
            views = np.full(len(pixel), n)
            parts.append(Pins(views, self.corners[point], self.shares[point], targets[pixel], weights))
        return Pins.joined(parts)

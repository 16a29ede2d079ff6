"""Pulls: pins that draw points of the mesh to those pixels of the masks that the silhouette does not cover.

A soft silhouette tells a limb where to go only where limb and mask overlap. Pulls act over any distance. Points of the
surface are assigned to uncovered pixels one to one, preferring points outside the mask, so that a limb that sticks out
of a mask goes where the silhouette lacks something. This is a partial optimal transport, solved anew before each step
as the correspondences of iterative closest points are (Besl and McKay 1992).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from ...geometry.normals import face_areas
from ...mesh import Mesh
from ..terms.landmarks import Pins, normalized_points
from ..terms.posed import Arrays

POINTS = 200  # So many points of the surface can be pulled.
PIXELS = 30  # In each view at most so many uncovered pixels pull, chosen at random before every step.
# Points outside the mask are assigned first: for all others, the square of this is added to the squared distance to a
# pixel, in sides of the crop.
SETTLED = 0.1
FAR = 0.15  # A pull over this distance, in sides of the crop, has a quarter of the weight of one over no distance.


class Surface:
    """Points spread evenly over a mesh, each in one face.

    Attributes:
        corners: (count, 3) the vertices of each point's face.
        shares: (count, 3) barycentric coordinates of each point.
    """

    def __init__(self, mesh: Mesh, count: int = POINTS) -> None:
        """mesh: in any pose; the number of points in a face is proportional to the face's area in this pose."""
        area = face_areas(mesh.vertices, mesh.faces).numpy().cumsum()
        face = np.searchsorted(area, area[-1] * (np.arange(count) + 0.5) / count)
        u, v = np.random.default_rng(0).random((2, count))
        root = np.sqrt(u)  # The root spreads points evenly over a triangle: Osada et al., "Shape distributions", 2002.
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
        """Pins from points of the surface to pixels that the masks have and the silhouettes lack, in a frame's views.

        Args:
            vertices: (V, 3) of the mesh in its present pose.
            cameras: as in `Pins.residuals`.
            masks: (N, 2, S, S) as in `Observation`.
            silhouettes: (N, S, S) bool, of the mesh in this pose.
            weight: the weights of a view's pins sum to at most this, and to less the more of the mask is covered.
            random: chooses the pixels that pull.
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
            normalized, _ = normalized_points(points, cameras["world_to_camera"][n], cameras["orthographic"][n])
            where = normalized @ cameras["K"][n, :2].T
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

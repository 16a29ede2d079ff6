"""Mirror symmetry of a mesh."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..errors import InputError
from ..raster.sums import transformed


class Mirror:
    """Pairs of vertices that are each other's mirror image in a plane.

    A vertex in the plane is its own partner. A vertex without a partner moves freely.
    """

    def __init__(
        self, partner: np.ndarray, normal: np.ndarray, *, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        """partner: (V,) index of each vertex's mirror image, -1 for none; normal: (3,) unit normal of the plane."""
        paired = np.flatnonzero(partner >= 0)
        self._paired = torch.as_tensor(paired, device=device)
        self._partner = torch.as_tensor(partner[paired], device=device)
        self._reflect = torch.as_tensor(np.eye(3) - 2 * np.outer(normal, normal), device=device, dtype=dtype)

    def average(self, displacements: Tensor) -> Tensor:
        """(V, 3) the displacements (V, 3), made mirror-symmetric.

        The displacement of a vertex with a partner becomes the mean of its own and its partner's mirrored one.
        """
        own, other = (displacements.index_select(0, index) for index in (self._paired, self._partner))
        other = transformed(other, self._reflect)
        return displacements.index_copy(0, self._paired, 0.5 * (own + other))


def find_partners(vertices: np.ndarray, origin: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(V,) the index of the vertex at each vertex's mirror image in a plane, -1 where there is none.

    A vertex is at the mirror image if it is no farther from it than 1e-4 times the mesh's longest side. The plane goes
    through `origin` (3,) and has the unit normal `normal` (3,). Raises InputError when fewer than half of the vertices
    have a partner.
    """
    size = np.ptp(vertices, axis=0).max()
    image = vertices - 2 * ((vertices - origin) @ normal)[:, None] * normal
    distance, nearest = cKDTree(vertices).query(image)
    partner = np.where(distance <= 1e-4 * size, nearest, -1)
    mutual = (partner >= 0) & (partner[partner] == np.arange(len(partner)))
    if mutual.mean() < 0.5:
        raise InputError(
            f"only {mutual.sum()} of {len(mutual)} vertices have a mirror image across the symmetry plane; "
            "choose another axis or switch symmetry off."
        )
    return np.where(mutual, partner, -1)

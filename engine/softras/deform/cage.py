"""Cages: how what is shown moves with the vertices that are fitted, and what mirrors allow them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ..cage import MARGIN, Cage, held
from ..geometry.sparse import SparseMap
from ..raster.algebra import Factor

_AFFINE = 12  # the parameters of an affine map
_DAMPING = 1e-9  # of the equations of `follow`, for parameters that what is shown does not follow


class ShownMesh:
    """The shown mesh of a cage as a differentiable function, in a space in which lengths are divided by a size.

    Attributes:
        faces: (F, 3) int64 of the shown mesh.
    """

    def __init__(self, cage: Cage, centre: np.ndarray, size: float, *, device: torch.device | str) -> None:
        """centre, size: a world point x is at (x - centre) / size."""
        self._rest, self._shown = (
            torch.as_tensor((points - centre) / size, dtype=torch.float32, device=device)
            for points in (cage.vertices, cage.shown.vertices)
        )
        self._map = SparseMap(matrix_of(cage), device=device)
        self.faces = torch.as_tensor(cage.shown.faces, dtype=torch.int64, device=device)

    def __call__(self, vertices: Tensor) -> Tensor:
        """(S, 3) the shown vertices of a cage at (V, 3)."""
        return self._shown + self._map((vertices - self._rest).reshape(-1, 1)).view(-1, 3)


class Sides:
    """The planes of mirrors: vertices in a plane stay in it, and all others stay on their side."""

    def __init__(
        self, planes: np.ndarray, vertices: np.ndarray, *, device: torch.device | str, dtype: torch.dtype, size: float
    ) -> None:
        """What holds displacements.

        Args:
            planes: (K, 7) as of `Cage`.
            vertices: (V, 3) before they move.
            device: of the displacements.
            dtype: of the displacements.
            size: the length that is 1 in the displacements.
        """
        self._planes = []
        for plane in planes:
            distance = (vertices - plane[:3]) @ plane[3:6] / size  # (V,)
            margin = plane[6] / size
            side = np.where(np.abs(distance) <= margin, 0.0, np.sign(distance))
            least = np.minimum(MARGIN * margin, np.abs(distance))  # as near as the vertex may come
            self._planes.append(
                tuple(torch.as_tensor(x, device=device, dtype=dtype) for x in (plane[3:6], distance, side, least))
            )

    def hold(self, displacements: Tensor) -> Tensor:
        """(V, 3) the displacements (V, 3) that keep each vertex in its planes and on its sides."""
        for normal, distance, side, least in self._planes:
            along = (displacements * normal).sum(dim=1)
            beyond = (least - side * (distance + along)).clamp_min(0) * side
            change = torch.where(side == 0, -along, beyond)
            displacements = displacements + change[:, None] * normal
        return displacements


def matrix_of(cage: Cage) -> sp.csr_matrix:
    """(3 S, 3 V) the derivative of the shown vertices by those of the cage."""
    shape = (len(cage.starts) - 1, cage.vertices.size)
    return sp.csr_matrix((cage.values, cage.columns, cage.starts), shape=shape)


def follow(cage: Cage, vertices: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(V, 3) the cage at (V, 3), moved by the affine map that brings what is shown nearest to the wanted (S, 3) points.

    What is shown of a mirrored cage does not go where the cage goes; so the wanted place of a whole shown mesh is
    answered in the least squares' sense.
    """
    middle = cage.vertices.mean(axis=0)
    size = float(np.ptp(cage.vertices, axis=0).max()) or 1.0
    points = np.concatenate([(vertices - middle) / size, np.ones((len(vertices), 1))], axis=1)  # (V, 4)
    basis = np.zeros((len(vertices), 3, 3, 4))  # of displacements: axis of the vertex, row and column of the map
    for axis in range(3):
        basis[:, axis, axis] = points
    flat = basis.reshape(-1, _AFFINE)
    columns = matrix_of(cage) @ flat  # (3 S, 12)
    missing = (wanted - cage.shown_at(vertices).vertices).ravel()
    square = np.einsum("ra,rb->ab", columns, columns)
    if not square.any():  # nothing that is shown follows the cage
        return vertices
    square[np.diag_indices(_AFFINE)] += _DAMPING * np.trace(square)
    found = Factor(square).solve(np.einsum("ra,r->a", columns, missing))
    return vertices + held(cage.planes, vertices, (flat @ found).reshape(-1, 3))

"""Free vertices: every vertex moves by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ..raster.sums import rows
from .cage import Sides
from .mirror import Mirror


class FreeVertices:
    """The displacements of the vertices of one mesh.

    Vertices in no face and locked vertices stay exactly where they are. Vertices that coincide (such as those on the
    two sides of a seam) move as one point, so that seams do not open.

    Attributes:
        parameters: (M, 3) the leaf tensor to optimize, for the M points that can move: their displacements, mapped by
            an invertible linear map that `precondition` sets and that is the identity at first.
        laplacian: (M, M) the combinatorial Laplacian of the graph of these points.
    """

    def __init__(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        *,
        lock: np.ndarray | None = None,
        mirror: Mirror | None = None,
        sides: Sides | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """The free vertices of a mesh.

        Args:
            vertices: (V, 3) before they move.
            faces: (F, 3).
            lock: (V,) bool, True for vertices that must not move.
            mirror: keeps the displacements mirror-symmetric.
            sides: keeps the vertices on their sides of planes.
        """
        point = _points(vertices)
        movable = np.zeros(point.max() + 1, dtype=bool)
        movable[point[faces.ravel()]] = True
        if lock is not None:
            movable[point[lock]] = False
        node_of_point = np.full(len(movable), -1)
        node_of_point[movable] = np.arange(movable.sum())
        node = node_of_point[point]

        self.laplacian = _laplacian(point[faces], len(movable))[movable][:, movable].tocsr()
        # Whether each vertex moves, and none coincides with another.
        self._each = bool((node == np.arange(len(vertices))).all())
        self._moved = torch.as_tensor(np.flatnonzero(node >= 0), device=device)
        self._node = torch.as_tensor(node[node >= 0], device=device)
        self._mirror, self._sides = mirror, sides
        self._decode: Callable[[Tensor], Tensor] = _identity
        self.parameters = torch.zeros(int(movable.sum()), 3, device=device, dtype=dtype, requires_grad=True)

    def displacements(self) -> Tensor:
        """(M, 3) the displacements of the points that can move."""
        return self._decode(self.parameters)

    def apply(self, vertices: Tensor) -> Tensor:
        """(V, 3) the vertices (V, 3) plus their displacements."""
        full = self.displacements()
        if not self._each:
            full = torch.zeros_like(vertices).index_copy(0, self._moved, rows(full, self._node))
        full = full if self._mirror is None else self._mirror.average(full)
        return vertices + (full if self._sides is None else self._sides.hold(full))

    def precondition(self, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]) -> None:
        """Make encode(displacements) the parameters from now on, without a change of shape; decode is its inverse."""
        with torch.no_grad():
            self.parameters.copy_(encode(self.displacements()))
        self._decode = decode


def _points(vertices: np.ndarray) -> np.ndarray:
    """(V,) the number of each vertex's point, the same for vertices that coincide, in the order of the vertices."""
    first, point = np.unique(vertices, axis=0, return_index=True, return_inverse=True)[1:]
    return np.argsort(np.argsort(first))[point.ravel()]


def _identity(x: Tensor) -> Tensor:
    return x


def _laplacian(faces: np.ndarray, count: int) -> sp.csr_matrix:
    """(count, count) combinatorial graph Laplacian: the degrees on the diagonal, and -1 for each edge."""
    start, end = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).T.astype(np.int64)
    keys = np.sort(np.concatenate([start * count + end, end * count + start]))
    keys = keys[np.diff(keys, prepend=-1) > 0]  # Each key once; np.unique takes ten times as long.
    i, j = keys // count, keys % count
    i, j = i[i != j], j[i != j]
    adjacency = sp.csr_matrix((np.ones(len(i)), (i, j)), shape=(count, count))
    return (sp.diags(np.asarray(adjacency.sum(axis=1)).ravel()) - adjacency).tocsr()

"""Free vertices: every vertex moves on its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ..raster.sums import rows
from .mirror import Mirror


class FreeVertices:
    """Displacements of the vertices of one mesh.

    Vertices in no face and locked vertices stay exactly where they are. Vertices at one place (the two sides of a
    seam in a mesh that is not welded) move as one, so that seams do not open.

    Attributes:
        parameters: (M, 3), of the M places that can move, the leaf tensor to optimize: the displacements seen through
            an invertible linear map, which `precondition` sets, the identity at first.
        laplacian: (M, M) of the graph of the places.
    """

    def __init__(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        *,
        lock: np.ndarray | None = None,
        mirror: Mirror | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Free vertices of a mesh.

        Args:
            vertices: (V, 3) at rest.
            faces: (F, 3).
            lock: (V,) bool, True where a vertex must not move.
            mirror: keeps the displacements mirror-symmetric.
        """
        place = np.unique(vertices, axis=0, return_inverse=True)[1].ravel()
        movable = np.zeros(place.max() + 1, dtype=bool)
        movable[place[faces.ravel()]] = True
        if lock is not None:
            movable[place[lock]] = False
        node_of_place = np.full(len(movable), -1)
        node_of_place[movable] = np.arange(movable.sum())
        node = node_of_place[place]

        self.laplacian = _laplacian(place[faces], len(movable))[movable][:, movable].tocsr()
        self._moved = torch.as_tensor(np.flatnonzero(node >= 0), device=device)
        self._node = torch.as_tensor(node[node >= 0], device=device)
        self._mirror = mirror
        self._decode: Callable[[Tensor], Tensor] = _identity
        self.parameters = torch.zeros(int(movable.sum()), 3, device=device, dtype=dtype, requires_grad=True)

    def displacements(self) -> Tensor:
        """(M, 3) displacements of the places that can move."""
        return self._decode(self.parameters)

    def apply(self, vertices: Tensor) -> Tensor:
        """(V, 3) vertices plus their displacements."""
        full = torch.zeros_like(vertices).index_copy(0, self._moved, rows(self.displacements(), self._node))
        return vertices + (full if self._mirror is None else self._mirror.average(full))

    def precondition(self, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]) -> None:
        """Seen through encode(displacements) = parameters and its inverse; the shape stays as it is."""
        with torch.no_grad():
            self.parameters.copy_(encode(self.displacements()))
        self._decode = decode


def _identity(x: Tensor) -> Tensor:
    return x


def _laplacian(faces: np.ndarray, count: int) -> sp.csr_matrix:
    """(count, count) combinatorial graph Laplacian: degree on the diagonal, -1 for each edge."""
    start, end = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).T.astype(np.int64)
    keys = np.sort(np.concatenate([start * count + end, end * count + start]))
    keys = keys[np.diff(keys, prepend=-1) > 0]  # np.unique takes ten times as long
    i, j = keys // count, keys % count
    i, j = i[i != j], j[i != j]
    adjacency = sp.csr_matrix((np.ones(len(i)), (i, j)), shape=(count, count))
    return (sp.diags(np.asarray(adjacency.sum(axis=1)).ravel()) - adjacency).tocsr()

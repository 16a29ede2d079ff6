"""The topology of a mesh: what depends on its faces alone."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ..errors import InputError
from ..raster import transforms
from .checks import face_tensor, vertex_tensor
from .sparse import SparseMap


class Topology:
    """The edges, hinges and graph Laplacian of faces, each computed once, at its first use.

    A hinge is a pair of faces that share an edge. An edge at the boundary has no hinge, an edge of three faces three.

    Attributes:
        faces: (F, 3) int64.
    """

    def __init__(self, faces: Tensor | np.ndarray, device: torch.device | str | None = None) -> None:
        """faces: (F, 3) vertex indices, in any orientation; device: of all tensors, that of the faces unless given."""
        faces = transforms.constant("the faces of a softras.Topology", faces)
        with transforms.outside():
            self.faces = face_tensor(faces, device)
        self._maps: dict[tuple[int, torch.device, torch.dtype], SparseMap] = {}
        self._neighbours: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def edges(self) -> Tensor:
        """(E, 2) int64 undirected edges, the lower index first. A face that names a vertex twice has one edge."""
        return self._found[0]

    @property
    def hinges(self) -> Tensor:
        """(H, 2) int64 the two faces of each hinge."""
        return self._found[1]

    @property
    def turned(self) -> Tensor:
        """(H,) bool: whether the two faces of a hinge are oriented against each other: one shows its inner side."""
        return self._found[2]

    @cached_property
    def vertex_count(self) -> int:
        """How many vertices the faces need at least."""
        with transforms.outside():
            return int(self.faces.max()) + 1 if self.faces.numel() else 0

    def of(self, vertices: Tensor | np.ndarray) -> Tensor:
        """Vertices (..., V, 3) as a tensor. Raises InputError if they cannot be those of the faces."""
        vertices = vertex_tensor(vertices)
        if vertices.shape[-2] < self.vertex_count:
            raise InputError(f"the faces need {self.vertex_count} vertices but there are {vertices.shape[-2]}.")
        if vertices.device != self.faces.device:
            raise InputError(f"vertices are on {vertices.device} but the topology is on {self.faces.device}.")
        return vertices

    def laplacian(self, x: Tensor) -> Tensor:
        """(..., V, C) L x: at each vertex, x (..., V, C) minus its mean over the neighbours; zero without neighbours.

        L = I - D^-1 A is the random-walk graph Laplacian, with adjacency A and degrees D. Differentiable.
        """
        count = x.shape[-2]
        key = (count, x.device, x.dtype)
        if key not in self._maps:
            with transforms.outside():
                matrix = _random_walk(self.edges.cpu().numpy(), count)
                self._maps[key] = SparseMap(matrix, device=x.device, dtype=x.dtype)
        columns = x.movedim(-2, 0)
        return self._maps[key](columns.reshape(count, -1)).reshape(columns.shape).movedim(0, -2)

    def neighbours(self, count: int) -> tuple[Tensor, Tensor]:
        """The neighbours of `count` vertices, ascending, one vertex after the other.

        Returns:
            (count + 1,) int64 where the neighbours of each vertex begin, and the end; and (2 E,) int64 the neighbours.
        """
        if count not in self._neighbours:
            with transforms.outside():
                edges, device = self.edges.cpu().numpy(), self.faces.device
                i, j = np.concatenate([edges, edges[:, ::-1]]).T
                order = np.lexsort((j, i))
                starts = torch.as_tensor(np.searchsorted(i[order], np.arange(count + 1)), device=device)
                self._neighbours[count] = starts, torch.as_tensor(j[order], device=device)
        return self._neighbours[count]

    @cached_property
    def _found(self) -> tuple[Tensor, Tensor, Tensor]:
        with transforms.outside():
            found = _edges_and_hinges(self.faces.cpu().numpy())
            edges, hinges, turned = (torch.as_tensor(x, device=self.faces.device) for x in found)
        return edges, hinges, turned


def _edges_and_hinges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges (E, 2), hinges (H, 2), and (H,) whether both faces of a hinge go along their edge in the same direction."""
    sides = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    owner = np.repeat(np.arange(len(faces)), 3)
    real = sides[:, 0] != sides[:, 1]
    sides, owner = sides[real], owner[real]
    forward = sides[:, 0] < sides[:, 1]
    sides = np.sort(sides, axis=1)
    keys = sides[:, 0] * (int(faces.max(initial=0)) + 1) + sides[:, 1]
    order = np.argsort(keys, kind="stable")
    keys, owner, forward = keys[order], owner[order], forward[order]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[1:] != keys[:-1]
    hinges, turned = [np.empty((0, 2), dtype=np.int64)], [np.empty(0, dtype=bool)]
    step = 1
    while (same := np.flatnonzero(keys[:-step] == keys[step:])).size:  # More than once where more than two faces meet.
        hinges.append(np.stack([owner[same], owner[same + step]], axis=1))
        turned.append(forward[same] == forward[same + step])
        step += 1
    pairs, ways = np.concatenate(hinges), np.concatenate(turned)
    others = pairs[:, 0] != pairs[:, 1]  # A face that goes along an edge twice makes no hinge with itself.
    return sides[order][first], pairs[others], ways[others]


def _random_walk(edges: np.ndarray, count: int) -> sp.csr_matrix:
    """(count, count) I - D^-1 A; rows of vertices without neighbours are zero."""
    i, j = np.concatenate([edges, edges[:, ::-1]]).T
    degree = np.bincount(i, minlength=count)
    neighbours = sp.csr_matrix((1.0 / degree[i], (i, j)), shape=(count, count))
    return sp.diags((degree > 0).astype(float)) - neighbours


def closed(vertices: np.ndarray, faces: np.ndarray) -> bool:
    """Whether a mesh is closed and its normals point outwards.

    It is closed where every side of a face is also the side of exactly one other face, in the opposite direction.
    Vertices that coincide count as one, as they do in a fit.

    Args:
        vertices: (V, 3).
        faces: (F, 3).
    """
    point = np.unique(vertices, axis=0, return_inverse=True)[1].ravel()
    sides = point[faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)].astype(np.int64)
    count = len(vertices)
    forward, backward = np.sort(sides[:, 0] * count + sides[:, 1]), np.sort(sides[:, 1] * count + sides[:, 0])
    if not np.array_equal(forward, backward) or (np.diff(forward) == 0).any():
        return False
    a, b, c = (vertices[faces[:, k]] - vertices.mean(axis=0) for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) > 0

"""Normals and areas of faces, normals of vertices; all differentiable to the vertices."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .checks import mesh_tensors

# A cross product of two sides is nothing but rounding, so that the face has no area, where its length is at most this
# many times the machine epsilon times the sum of the squares of these sides.
ROUNDING = 16


def face_normals(vertices: Tensor | np.ndarray, faces: Tensor | np.ndarray) -> Tensor:
    """(..., F, 3) unit normals of faces, outward where the faces are counter-clockwise seen from outside.

    (b - a) x (c - a) divided by its length. The normal of a face without area is zero, and so is its gradient.

    Args:
        vertices: (..., V, 3).
        faces: (F, 3).
    """
    return _face_normals(*mesh_tensors(vertices, faces))


def vertex_normals(vertices: Tensor | np.ndarray, faces: Tensor | np.ndarray) -> Tensor:
    """(..., V, 3) unit normals of vertices: the directions of the sums of their faces' normals times areas.

    The normal is zero, and so is its gradient, at vertices in no face, in faces without area, or whose faces cancel.

    Args:
        vertices: (..., V, 3).
        faces: (F, 3).
    """
    vertices, faces = mesh_tensors(vertices, faces)
    crosses, squares = _crosses(vertices, faces)
    sums, sizes = torch.zeros_like(vertices), torch.zeros_like(vertices[..., :1])
    for corner in faces.T:
        sums = sums.index_add(-2, corner, crosses)
        sizes = sizes.index_add(-2, corner, squares)
    return _unit(sums, sizes)


def face_areas(vertices: Tensor | np.ndarray, faces: Tensor | np.ndarray) -> Tensor:
    """(..., F) areas of faces. The gradient of an area that is zero is zero.

    Args:
        vertices: (..., V, 3).
        faces: (F, 3).
    """
    return triangle_areas(*corners(*mesh_tensors(vertices, faces)))


def triangle_areas(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """(...) areas |(b - a) x (c - a)| / 2 of triangles with corners (..., 3). Where one is zero, its gradient is."""
    return torch.linalg.cross(b - a, c - a).norm(dim=-1) / 2


def corners(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The faces' corners a, b and c, (..., F, 3) each; vertices and faces are tensors of a mesh."""
    a, b, c = (vertices.index_select(-2, corner) for corner in faces.T)
    return a, b, c


def _face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    return _unit(*_crosses(vertices, faces))


def _crosses(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """(..., F, 3) (b - a) x (c - a), and (..., F, 1) |b - a|^2 + |c - a|^2 without gradient."""
    a, b, c = corners(vertices, faces)
    u, v = b - a, c - a
    squares = (u.detach().square() + v.detach().square()).sum(dim=-1, keepdim=True)
    return torch.linalg.cross(u, v), squares


def _unit(normals: Tensor, sizes: Tensor) -> Tensor:
    """Normals (..., 3) divided by their lengths; zero where sizes (..., 1) say that the length is rounding."""
    length = normals.norm(dim=-1, keepdim=True)
    none = length <= ROUNDING * torch.finfo(normals.dtype).eps * sizes
    return torch.where(none, 0, normals / torch.where(none, 1, length))

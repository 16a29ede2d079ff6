"""How smooth a mesh is: the losses of SoftRas and PyTorch3D, as functions of vertices and a topology.

Each loss is one number for each mesh, of shape (...) for vertices (..., V, 3); it is 0 where there is nothing to
measure. Lengths are in the vertices' units.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .normals import _face_normals, corners, triangle_areas
from .topology import Topology

# A face counts as one without area, which has no angles, where 4 times its area is at most this times the sum of the
# squares of its sides.
FLATTEST = 1e-3


def laplacian_loss(vertices: Tensor | np.ndarray, topology: Topology) -> Tensor:
    """Sum of squared distances of vertices from the mean of their neighbours: sum |(I - D^-1 A) v|^2.

    Liu et al., "Soft Rasterizer", ICCV 2019, its public code (LaplacianLoss); after Sorkine et al., "Laplacian surface
    editing", SGP 2004. It is in squared units, and it grows with the number of vertices. Vertices in no face cost
    nothing.
    """
    vertices = _of(vertices, topology)
    return topology.laplacian(vertices).square().sum(dim=(-2, -1))


def flatten_loss(vertices: Tensor | np.ndarray, topology: Topology) -> Tensor:
    """Sum over hinges of (cos(theta) + 1)^2, where theta is the angle between the two faces: pi where they are flat.

    Liu et al., ICCV 2019, its public code (FlattenLoss). It has no unit, and is between 0 and 4 for each hinge. Unlike
    in that code, an edge at a boundary costs nothing, and where more than two faces meet, each pair of them counts.
    Faces may be oriented in any way.
    """
    return (1 - hinge_cosines(_of(vertices, topology), topology)).square().sum(dim=-1)


def normal_consistency_loss(vertices: Tensor | np.ndarray, topology: Topology) -> Tensor:
    """Mean over hinges of 1 - cos of the angle between the two faces' normals: 0 where they are flat.

    Ravi et al., "Accelerating 3D deep learning with PyTorch3D", 2020 (mesh_normal_consistency). Faces may be oriented
    in any way.
    """
    return _mean(1 - hinge_cosines(_of(vertices, topology), topology))


def edge_length_loss(vertices: Tensor | np.ndarray, topology: Topology, target: float = 0.0) -> Tensor:
    """Mean over edges of (length - target)^2.

    Wang et al., "Pixel2Mesh", ECCV 2018; PyTorch3D's mesh_edge_loss. It is in squared units.
    """
    return _mean((edge_lengths(_of(vertices, topology), topology.edges) - target).square())


def laplacian_smoothing_loss(
    vertices: Tensor | np.ndarray, topology: Topology, method: Literal["uniform", "cotangent"] = "uniform"
) -> Tensor:
    """Mean distance of vertices from the weighted mean of their neighbours: mean |sum_j w_ij v_j / sum_j w_ij - v_i|.

    With method "uniform", all w are 1. With "cotangent", w_ij = cot(alpha) + cot(beta) of the two angles opposite the
    edge (Desbrun et al., "Implicit fairing", SIGGRAPH 1999), which the gradient takes as constant. These are methods
    "uniform" and "cot" of PyTorch3D's mesh_laplacian_smoothing. Vertices in no face, and vertices whose weights do not
    sum to a positive number (obtuse corners at a boundary), cost nothing but count in the mean.
    """
    vertices = _of(vertices, topology)
    if method == "uniform":
        away = topology.laplacian(vertices)
    elif method == "cotangent":
        away = cotangent_laplacian(vertices, topology.faces)
    else:
        raise InputError(f"the method of Laplacian smoothing is 'uniform' or 'cotangent', not '{method}'.")
    return _mean(away.norm(dim=-1))


def hinge_cosines(vertices: Tensor, topology: Topology) -> Tensor:
    """(..., H) cosines of the angles between the normals of hinges: 1 for a flat hinge, however its faces are oriented.

    It is 0 where a face has no area.
    """
    normals = _face_normals(vertices, topology.faces)
    one, other = (normals.index_select(-2, face) for face in topology.hinges.T)
    cosines = (one * other).sum(dim=-1)
    return torch.where(topology.turned, -cosines, cosines)


def edge_lengths(vertices: Tensor, edges: Tensor) -> Tensor:
    """(..., E) lengths of edges (E, 2). The gradient of a length that is zero is zero."""
    one, other = (vertices.index_select(-2, end) for end in edges.T)
    return (one - other).norm(dim=-1)


def cotangents(vertices: Tensor, faces: Tensor) -> Tensor:
    """(..., F, 3) cotangents of the faces' angles at corners 0, 1, 2; zeros for a face (almost) without area."""
    a, b, c = corners(vertices, faces)
    cosine = torch.stack([((y - x) * (z - x)).sum(dim=-1) for x, y, z in ((a, b, c), (b, c, a), (c, a, b))], dim=-1)
    sine = 2 * triangle_areas(a, b, c)[..., None]  # |u| |v| sin of the angle: twice the area, at each corner
    flat = sine <= FLATTEST * cosine.sum(dim=-1, keepdim=True)
    return torch.where(flat, 0, cosine / sine.clamp_min(1e-30))


def cotangent_laplacian(vertices: Tensor, faces: Tensor) -> Tensor:
    """(..., V, 3) vertices minus the means of their neighbours weighted by cotangents; zero where there is none."""
    weights = cotangents(vertices.detach(), faces)
    sums, total = torch.zeros_like(vertices), torch.zeros_like(vertices[..., :1])
    for k in range(3):
        weight = weights[..., k, None]
        i, j = faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
        for here, there in ((i, j), (j, i)):
            sums = sums.index_add(-2, here, weight * vertices.index_select(-2, there))
            total = total.index_add(-2, here, weight)
    known = total > 0
    return torch.where(known, vertices - sums / torch.where(known, total, 1), 0)


def _of(vertices: Tensor | np.ndarray, topology: Topology) -> Tensor:
    """The vertices as a tensor. Raises InputError if they cannot be those of the topology, or if it is no Topology."""
    if not isinstance(topology, Topology):
        raise InputError("give softras.Topology(faces), made once for a mesh, in place of faces.")
    return topology.of(vertices)


def _mean(values: Tensor) -> Tensor:
    return values.sum(dim=-1) / max(1, values.shape[-1])

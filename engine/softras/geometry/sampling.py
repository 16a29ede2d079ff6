"""Points on a mesh's surface."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..checks import whole
from ..errors import InputError
from ..raster import transforms
from .checks import mesh_tensors
from .normals import corners, face_areas


class SurfacePoints(NamedTuple):
    """Points on a mesh's surface.

    Attributes:
        points: (P, 3), differentiable to the vertices.
        faces: (P,) int64, the face on which each point lies.
        barycentrics: (P, 3) weights of that face's corners; each is at least 0, and their sum is 1.
    """

    points: Tensor
    faces: Tensor
    barycentrics: Tensor


def sample_surface(
    vertices: Tensor | np.ndarray, faces: Tensor | np.ndarray, count: int, *, seed: int = 0
) -> SurfacePoints:
    """Random points spread evenly over the surface of a mesh.

    A face is chosen by its area and a point in it evenly: with u, v uniform in 0..1, the weights of its corners are
    1 - sqrt(u), sqrt(u) (1 - v) and sqrt(u) v (Osada et al., "Shape distributions", TOG 2002, eq. 1). The gradient is
    that of points that move with their faces; that areas change is not part of it. The normals of the points are
    `face_normals(vertices, faces)[found.faces]`.

    Args:
        vertices: (V, 3).
        faces: (F, 3).
        count: how many points, P.
        seed: start of the random numbers; the same seed gives the same points, up to rounding on any device.

    Raises:
        InputError: a wrong shape, NaN or infinite vertices, or a surface without area.
    """
    transforms.refuse_vmap("softras.sample_surface", vertices, faces)
    vertices, faces = mesh_tensors(vertices, faces)
    if vertices.dim() != 2:
        raise InputError(f"points are sampled on one mesh: vertices must be (V, 3), not {tuple(vertices.shape)}.")
    count, seed = whole("the count of points", count, 1), whole("the seed", seed, 0)
    areas = face_areas(vertices.detach().double(), faces)
    ends = areas.cumsum(dim=0)
    total = ends[-1] if len(ends) else areas.new_zeros(())
    if not torch.isfinite(total):
        raise InputError("the mesh has vertices with NaN or infinite coordinates.")
    if not total > 0:
        raise InputError("the mesh has no face with an area; there is no surface to put points on.")
    random = torch.rand(3, count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(areas.device)
    along = torch.minimum(random[0] * total, torch.nextafter(total, total.new_zeros(())))
    chosen = torch.searchsorted(ends, along, right=True)  # With `right`, a face without area is never chosen.
    root = random[1].sqrt()
    weights = torch.stack([1 - root, root * (1 - random[2]), root * random[2]], dim=1).to(vertices.dtype)
    a, b, c = corners(vertices, faces[chosen])
    return SurfacePoints(a * weights[:, :1] + b * weights[:, 1:2] + c * weights[:, 2:], chosen, weights)

"""Meshes as solid voxels."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..checks import whole
from ..errors import InputError
from ..raster import transforms
from .checks import mesh_tensors

PAIRS = 1 << 22  # So many pairs of a face and a grid line are intersected at a time, which bounds the memory.
SLACK = 1e-9  # Barycentric coordinates may be below 0 by so much, so that rounding opens no gap between two faces.


def voxelize(vertices: Tensor | np.ndarray, faces: Tensor | np.ndarray, resolution: int = 32) -> Tensor:
    """(R, R, R) bool solid voxels [x, y, z] of a mesh in the cube from -0.5 to 0.5, on the vertices' device.

    The voxels are those of SoftRas's benchmark (Liu et al., ICCV 2019, its public code). A vertex v is mapped to
    v (R - 1) + R / 2, so that the cube extends from the middle of the first voxel to the middle of the last, and voxel
    i from i to i + 1. A voxel belongs to the surface if a vertex lies in it or the surface crosses one of its edges: a
    grid line along an axis that meets a face marks the four voxels around it. Free voxels that are not connected to
    the outside, through sides of free voxels, are solid too. A hole wider than a voxel connects the inside to the
    outside. What lies outside the grid is cut off, and a mesh that is cut is open.

    Args:
        vertices: (V, 3); scale other meshes into the cube first.
        faces: (F, 3), oriented in any way.
        resolution: R, which is 32 in the benchmark.

    Raises:
        InputError: a wrong shape, NaN or infinite vertices, or a resolution below 2.
    """
    transforms.refuse("softras.voxelize, which has no gradient,")
    vertices, faces = mesh_tensors(vertices, faces)
    if vertices.dim() != 2:
        raise InputError(f"one mesh is voxelized at a time: vertices must be (V, 3), not {tuple(vertices.shape)}.")
    resolution = whole("the resolution in voxels", resolution, 2, 1024)
    points = vertices.detach().cpu().numpy().astype(np.float64)
    if not np.isfinite(points).all():
        raise InputError("the mesh has vertices with NaN or infinite coordinates.")
    triangles = (points * (resolution - 1) + resolution / 2)[faces.cpu().numpy()]
    surface = np.zeros((resolution,) * 3, dtype=bool)
    _mark(surface, np.floor(triangles.reshape(-1, 3)))
    for axis in range(3):
        order = [(axis + 1) % 3, (axis + 2) % 3, axis]
        _mark_crossings(surface.transpose(order), triangles[:, :, order])
    return torch.as_tensor(_filled(surface), device=vertices.device)


def _mark(voxels: np.ndarray, indices: np.ndarray) -> None:
    """Set the voxels with indices (P, 3), whole numbers of which some may lie outside the grid."""
    inside = ((indices >= 0) & (indices < voxels.shape)).all(axis=1)
    voxels[tuple(indices[inside].astype(np.int64).T)] = True


def _mark_crossings(voxels: np.ndarray, triangles: np.ndarray) -> None:
    """Set the four voxels around each point at which a grid line along the last axis meets a triangle (F, 3, 3)."""
    a, u, v = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]  # zero where the triangle is seen from the edge
    last = voxels.shape[0]
    low = np.ceil(triangles[:, :, :2].min(axis=1)).clip(0, last + 1).astype(np.int64)
    high = np.floor(triangles[:, :, :2].max(axis=1)).clip(-1, last).astype(np.int64)
    size = np.where(area[:, None] != 0, (high - low + 1).clip(0), 0)
    ends = size.prod(axis=1).cumsum()
    start = 0
    while start < len(ends):  # Each time as many triangles as have PAIRS grid lines in their bounding boxes.
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS, side="right")))
        count = np.diff(ends[start:stop], prepend=done)
        face = np.repeat(np.arange(start, stop), count)
        within = np.arange(len(face)) - np.repeat(ends[start:stop] - count - done, count)
        line = low[face] + np.stack([within // size[face, 1], within % size[face, 1]], axis=1)
        away = line - a[face, :2]
        s = (away[:, 0] * v[face, 1] - away[:, 1] * v[face, 0]) / area[face]
        t = (u[face, 0] * away[:, 1] - u[face, 1] * away[:, 0]) / area[face]
        met = (s >= -SLACK) & (t >= -SLACK) & (s + t <= 1 + SLACK)
        face, line = face[met], line[met]
        height = np.floor(a[face, 2] + s[met] * u[face, 2] + t[met] * v[face, 2])
        for x in (0, -1):
            for y in (0, -1):
                _mark(voxels, np.column_stack([line[:, 0] + x, line[:, 1] + y, height]))
        start = stop


def _filled(surface: np.ndarray) -> np.ndarray:
    """The surface and what it encloses: free voxels that are not connected to the grid's border through sides."""
    parts, _ = ndimage.label(~surface)
    outside = np.zeros(parts.max() + 1, dtype=bool)
    for axis in range(3):
        outside[parts.take([0, -1], axis=axis)] = True
    outside[0] = False  # the surface itself
    return ~outside[parts]

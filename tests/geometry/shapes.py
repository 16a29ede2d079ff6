"""Shapes whose measures are known."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from torch import Tensor


def tensors(mesh: trimesh.Trimesh) -> tuple[Tensor, Tensor]:
    """Vertices (V, 3) float64 and faces (F, 3)."""
    return torch.tensor(np.array(mesh.vertices)), torch.tensor(np.array(mesh.faces))


def cube() -> tuple[Tensor, Tensor]:
    """The unit cube of 12 faces that PyTorch3D's test of normal consistency has."""
    vertices = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [1, 1, 1], [1, 0, 1], [0, 0, 1]]
    faces = [[0, 2, 1], [0, 3, 2], [2, 3, 4], [2, 4, 5], [1, 2, 5], [1, 5, 6]]
    faces += [[0, 7, 4], [0, 4, 3], [5, 4, 7], [5, 7, 6], [0, 6, 7], [0, 1, 6]]
    return torch.tensor(vertices, dtype=torch.float64), torch.tensor(faces)


def icosahedron() -> tuple[Tensor, Tensor]:
    """Vertices on the unit sphere."""
    return tensors(trimesh.creation.icosphere(0))


def sphere(subdivisions: int = 3) -> tuple[Tensor, Tensor]:
    """Vertices on the unit sphere."""
    return tensors(trimesh.creation.icosphere(subdivisions))


def plane(side: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices and faces of a grid in z = 0 that is uneven within, and whether (V,) a vertex is at its boundary."""
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + side], 1), np.stack([corner + 1, corner + side + 1, corner + side], 1)]
    )
    vertices = np.stack([x.ravel(), y.ravel(), np.zeros(side**2)], axis=1)
    edge = (vertices[:, :2] == 0).any(axis=1) | (vertices[:, :2] == side - 1).any(axis=1)
    vertices[~edge, :2] += np.random.default_rng(0).uniform(-0.2, 0.2, ((~edge).sum(), 2))
    return torch.tensor(vertices), torch.tensor(faces), torch.tensor(edge)


def fins(*degrees: float) -> tuple[Tensor, Tensor]:
    """Faces that share the edge from 0 to 1, along x, and stand at these angles around it."""
    angles = np.radians(degrees)
    tips = np.stack([np.full(len(angles), 0.4), np.cos(angles), np.sin(angles)], axis=1)
    vertices = np.concatenate([[[0, 0, 0], [1, 0, 0]], tips])
    faces = [[0, 1, 2 + k] for k in range(len(angles))]
    return torch.tensor(vertices), torch.tensor(faces)


def rough(seed: int = 0, size: float = 0.15) -> tuple[Tensor, Tensor]:
    """A small sphere with noise: no symmetry hides a mistake."""
    vertices, faces = sphere(1)
    noise = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return vertices + size * noise, faces


def rotation(seed: int) -> Tensor:
    """(3, 3)."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return torch.tensor(q * np.linalg.det(q))

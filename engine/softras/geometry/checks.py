"""What the functions on meshes and points accept."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..raster import transforms
from ..tensors import as_tensor


def mesh_tensors(vertices: Tensor | np.ndarray, faces: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    """Vertices (..., V, 3) and faces (F, 3) int64 as tensors on the vertices' device.

    Raises InputError if they are not those of a mesh. Indices on a GPU are not checked, since that would have to wait
    for the GPU.
    """
    vertices = vertex_tensor(vertices)
    faces = face_tensor(faces, vertices.device)
    if not faces.is_cuda and faces.numel() and int(faces.max()) >= vertices.shape[-2]:
        raise InputError(f"faces name vertices outside 0..{vertices.shape[-2] - 1}; give the vertices they belong to.")
    return vertices, faces


def vertex_tensor(vertices: Tensor | np.ndarray) -> Tensor:
    """Vertices (..., V, 3) as a float32 or float64 tensor, or InputError."""
    vertices = as_tensor("vertices", vertices)
    if vertices.dim() < 2 or vertices.shape[-1] != 3:
        raise InputError(f"vertices must have shape (V, 3) or (N, V, 3), not {tuple(vertices.shape)}.")
    return floating("vertices", vertices)


def face_tensor(faces: Tensor | np.ndarray, device: torch.device | str | None = None) -> Tensor:
    """Faces (F, 3) as an int64 tensor, or InputError."""
    faces = as_tensor("faces", faces, device=device)
    if faces.dim() != 2 or faces.shape[1] != 3:
        raise InputError(f"faces must have shape (F, 3), not {tuple(faces.shape)}.")
    if faces.is_floating_point() or faces.is_complex() or faces.dtype == torch.bool:
        raise InputError(f"faces must be whole numbers, not {faces.dtype}; convert them to int64.")
    if not faces.is_cuda and faces.numel() and int(faces.min()) < 0:
        raise InputError("faces name vertices below 0; they count from 0.")
    return faces.long()


def point_tensor(name: str, points: Tensor | np.ndarray) -> Tensor:
    """Points (P, 3), at least one and all finite, as a float32 or float64 tensor, or InputError."""
    points = floating(name, as_tensor(name, points))
    if points.dim() != 2 or points.shape[1] != 3 or not len(points):
        raise InputError(f"{name} must have shape (P, 3) with at least one point, not {tuple(points.shape)}.")
    if not transforms.batched(points) and not torch.isfinite(points.detach()).all():
        raise InputError(f"{name} hold NaN or infinite numbers.")
    return points


def floating(name: str, values: Tensor) -> Tensor:
    """The values as they are. Raises InputError unless they are float32 or float64."""
    if values.dtype not in (torch.float32, torch.float64):
        raise InputError(f"{name} must be float32 or float64, not {values.dtype}.")
    return values

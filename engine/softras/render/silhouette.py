"""Silhouettes of a mesh in cameras of type `softras.Camera`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..camera import Camera
from ..errors import InputError, shown
from ..raster.coverage.ops import covers_centres
from ..raster.silhouettes.ops import silhouettes
from ..tensors import as_tensor


def camera_tensors(cameras: Sequence[Camera], dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """The tensors K (N, 3, 3), world_to_camera (N, 4, 4), orthographic (N,) and near (N,) of cameras, by name."""
    return {
        "K": torch.tensor([c.K.tolist() for c in cameras], dtype=dtype, device=device),
        "world_to_camera": torch.tensor([c.world_to_camera.tolist() for c in cameras], dtype=dtype, device=device),
        "orthographic": torch.tensor([c.orthographic for c in cameras], dtype=torch.bool, device=device),
        "near": torch.tensor([c.near for c in cameras], dtype=torch.float64, device=device),
    }


def scene_of(
    vertices: Tensor | np.ndarray, faces: Tensor | np.ndarray, cameras: Camera | Sequence[Camera]
) -> dict[str, Any]:
    """The keyword arguments that `softras.silhouettes` and `softras.images` have in common.

    NumPy arrays become tensors; a single camera may stand for a list of one. Raises InputError if there is no camera or
    if image sizes differ.
    """
    vertices = as_tensor("vertices", vertices)
    if isinstance(cameras, Camera):
        cameras = [cameras]
    if not isinstance(cameras, Iterable):
        raise InputError(f"cameras must be softras.Camera objects, not {shown(cameras)}.")
    cameras = list(cameras)
    if not cameras:
        raise InputError("there are no cameras; give at least one.")
    for camera in cameras:
        if not isinstance(camera, Camera):
            raise InputError(f"cameras must be softras.Camera objects, not {type(camera).__name__}.")
    sizes = {(c.height, c.width) for c in cameras}
    if len(sizes) != 1:
        raise InputError(f"all cameras of one call must have one image size, not {sorted(sizes)}")
    (height, width) = sizes.pop()
    return {
        "vertices": vertices,
        "faces": as_tensor("faces", faces, device=vertices.device),
        "height": height,
        "width": width,
        **camera_tensors(cameras, vertices.dtype, vertices.device),
    }


def render_silhouettes(
    vertices: Tensor | np.ndarray,
    faces: Tensor | np.ndarray,
    cameras: Camera | Sequence[Camera],
    *,
    sigma: float = 1e-5,
    cull: bool = False,
) -> Tensor:
    """Soft silhouettes (N, H, W) of a mesh in N cameras of one image size; differentiable with respect to `vertices`.

    Arguments and errors are those of `softras.silhouettes`, which also has gradients to cameras. NumPy arrays become
    tensors; a single camera may stand for a list of one.
    """
    return silhouettes(**scene_of(vertices, faces, cameras), sigma=sigma, cull=cull)


def hard_silhouettes(
    vertices: Tensor | np.ndarray, faces: Tensor | np.ndarray, cameras: Camera | Sequence[Camera]
) -> Tensor:
    """(N, H, W) bool, whether a face covers the pixel's centre; no gradient. Arguments as for `render_silhouettes`."""
    return covers_centres(**scene_of(vertices, faces, cameras))

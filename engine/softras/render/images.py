"""Images of a mesh in cameras of type `softras.Camera`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..camera import Camera
from ..raster.images.ops import Rendering, images
from .silhouette import scene_of

_MAY_BE_ARRAYS = ("attributes", "attribute_faces", "texture", "background")  # settings of `images` that are tensors


def render_images(
    vertices: Tensor | np.ndarray, faces: Tensor | np.ndarray, cameras: Camera | Sequence[Camera], **settings: Any
) -> Rendering:
    """Alpha (N, H, W) and images (N, C, H, W) of a mesh in N cameras of one image size.

    Args:
        vertices, faces: (V, 3) or (N, V, 3), and (F, 3).
        cameras: one or several. What is nearer than their `near` is clipped away; a `near` among the settings replaces
            theirs.
        settings: the keyword arguments of `softras.images`. NumPy arrays become tensors; arrays of floats get the
            vertices' dtype.

    Raises:
        ValueError: as `softras.images`; no cameras, or cameras of several image sizes. For gradients to cameras use
            `softras.images`.
    """
    scene = scene_of(vertices, faces, cameras)
    dtype, device = scene["vertices"].dtype, scene["vertices"].device
    for name in _MAY_BE_ARRAYS:
        if isinstance(array := settings.get(name), np.ndarray):
            tensor = torch.as_tensor(array, device=device)
            settings[name] = tensor.to(dtype) if name != "attribute_faces" else tensor
    return images(**(scene | settings))

"""Images of a mesh seen by cameras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..camera import Camera
from ..raster.images.ops import Rendering, images
from .silhouette import scene_of

_LOOK = ("attributes", "attribute_faces", "texture", "background")  # what may be an array as well


def render_images(
    vertices: Tensor | np.ndarray, faces: Tensor | np.ndarray, cameras: Camera | Sequence[Camera], **settings: Any
) -> Rendering:
    """Alpha (N, H, W) and images (N, C, H, W) of a mesh in N cameras of one image size.

    Args:
        vertices, faces: (V, 3) or (N, V, 3), and (F, 3).
        cameras: one or several; what is nearer than their `near` is clipped away, unless `near` is among the settings.
        settings: the keyword arguments of :func:`softras.images`. Arrays of numpy become tensors, of floats with the
            vertices' dtype.

    Raises:
        ValueError: as :func:`softras.images`, which also differentiates cameras; no cameras, or of several sizes.
    """
    scene = scene_of(vertices, faces, cameras)
    dtype, device = scene["vertices"].dtype, scene["vertices"].device
    for name in _LOOK:
        if isinstance(array := settings.get(name), np.ndarray):
            tensor = torch.as_tensor(array, device=device)
            settings[name] = tensor.to(dtype) if name != "attribute_faces" else tensor
    return images(**(scene | settings))

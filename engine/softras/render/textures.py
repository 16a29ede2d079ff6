"""Surface textures from images or from colours of vertices."""

from __future__ import annotations

import torch
from torch import Tensor

from ..raster import sums
from ..raster.images.textures import mip_chain, sample_chain, texel_barycentrics


def surface_texture_from_image(
    texture: Tensor, uv: Tensor, uv_faces: Tensor, resolution: int, *, wrap: str = "repeat", levels: int | None = None
) -> Tensor:
    """(F, R^2, C) surface texture: a UV texture read at the middle of each texel of each face; differentiable.

    Where a texel covers several of the image's, it is their mean, by the mip chain. `levels=1` reads the image alone,
    as SoftRas's load_textures does.

    Args:
        texture: (H, W, C), row 0 on top. uv: (T, 2), v up. uv_faces: (F, 3) rows of uv.
        resolution: R. wrap: one of softras.raster.images.textures.WRAPS. levels: of the mip chain, default all.
    """
    corners = sums.rows(uv, uv_faces.long())
    sides = (corners[:, 1:] - corners[:, :1]) * uv.new_tensor([texture.shape[1], texture.shape[0]])
    texels = torch.linalg.det(sides).abs() / (2 * resolution**2)  # of the image that one of the face covers
    level = 0.5 * texels.clamp(min=1).log2()[:, None].expand(-1, resolution**2)
    return sample_chain(mip_chain(texture, levels), _in_texels(corners, resolution), level, wrap)


def surface_texture_from_vertices(colors: Tensor, faces: Tensor, resolution: int) -> Tensor:
    """(F, R^2, C) surface texture: colours (V, C) of vertices at the middle of each texel; differentiable."""
    return _in_texels(sums.rows(colors, faces.long()), resolution)


def _in_texels(corners: Tensor, resolution: int) -> Tensor:
    """(F, R^2, C) at the middle of each texel of each face what its corners (F, 3, C) have."""
    centres = texel_barycentrics(resolution, dtype=corners.dtype, device=corners.device)
    each = sums.spread(corners, 1, len(centres))
    return (centres[..., None] * each).sum(-2)

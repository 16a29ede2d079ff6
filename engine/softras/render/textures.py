"""Surface textures from images or from colours of vertices."""

from __future__ import annotations

import torch
from torch import Tensor

from ..raster import sums
from ..raster.images.textures import mip_chain, sample_chain, texel_barycentrics


def surface_texture_from_image(
    texture: Tensor, uv: Tensor, uv_faces: Tensor, resolution: int, *, wrap: str = "repeat", levels: int | None = None
) -> Tensor:
    """(F, R^2, C) surface texture: a UV texture read at the centre of each texel of each face; differentiable.

    A texel that covers several texels of the image is their mean, by the mip chain. `levels=1` reads the image alone,
    as SoftRas's load_textures does.

    Args:
        texture: (H, W, C), row 0 on top.
        uv: (T, 2), v up.
        uv_faces: (F, 3) the rows of uv at the corners.
        resolution: R.
        wrap: "repeat", "clamp" or "mirror".
        levels: of the mip chain, default all.
    """
    corners = sums.rows(uv, uv_faces.long())
    sides = (corners[:, 1:] - corners[:, :1]) * uv.new_tensor([texture.shape[1], texture.shape[0]])
    texels = torch.linalg.det(sides).abs() / (2 * resolution**2)  # texels of the image in a texel of the face
    level = 0.5 * texels.clamp(min=1).log2()[:, None].expand(-1, resolution**2)
    return sample_chain(mip_chain(texture, levels), _in_texels(corners, resolution), level, wrap)


def surface_texture_from_vertices(colors: Tensor, faces: Tensor, resolution: int) -> Tensor:
    """(F, R^2, C) surface texture: colours (V, C) of vertices at the centres of texels; differentiable."""
    return _in_texels(sums.rows(colors, faces.long()), resolution)


def _in_texels(corners: Tensor, resolution: int) -> Tensor:
    """(F, R^2, C) values at the corners of faces, (F, 3, C), interpolated at the centres of their texels."""
    centres = texel_barycentrics(resolution, dtype=corners.dtype, device=corners.device)
    each = sums.spread(corners, 1, len(centres))
    return (centres[..., None] * each).sum(-2)

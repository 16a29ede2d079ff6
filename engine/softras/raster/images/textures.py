"""The definition of texture lookup, in plain torch. The kernels of csrc/softras_texture.h are tested against it.

There are two kinds of texture. A *surface texture* gives each face its own R^2 texels, which barycentrics address
(SoftRas). A *UV texture* is one image for the whole mesh: u runs right and v runs up, as in OBJ files, so that (0, 1)
is the top-left corner of the image, whose row 0 is on top; texel centres lie at half integers. It is read bilinearly in
a mip chain, in the level that follows from the area of a pixel in the texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ... import checks
from ...errors import InputError
from .. import sums

SURFACE, CHAIN = 1, 2  # the kinds of texture by number, as in csrc/softras.h; 0 is no texture
WRAPS = ("repeat", "clamp", "mirror")  # what u and v outside 0..1 show: the image again, its border, its mirror image
MOST_LEVELS = 16  # the levels of a side of 65535 texels down to 1; kMostLevels of csrc/softras_texture.h
FLAT = 128.0  # the level of a face without area on the image; -FLAT is that of one without area in the texture


# Surface textures


def surface_texel(barycentrics: Tensor, resolution: int) -> Tensor:
    """The texel of a face's surface texture at barycentrics (..., 3): (...) int64 in 0..R^2 - 1.

    SoftRas cuts the face into R^2 congruent triangles: cell (i, j) = floor(R b0), floor(R b1) has a lower one, texel
    j R + i, and beyond its diagonal an upper one, texel (R-1-j) R + (R-1-i). A point on the border of the face belongs
    to the triangle inside the face that touches it (in SoftRas's own code the index leaves the row there).
    """
    a, b = barycentrics[..., 0] * resolution, barycentrics[..., 1] * resolution
    i = a.floor().long().clamp(0, resolution - 1)
    j = torch.minimum(b.floor().long().clamp(min=0), resolution - 1 - i)
    upper = (a + b - (i + j) > 1) & (i + j < resolution - 1)
    return torch.where(upper, (resolution - 1 - j) * resolution + (resolution - 1 - i), j * resolution + i)


def texel_barycentrics(
    resolution: int, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Tensor:
    """(R^2, 3) the barycentrics of the centres of a surface texture's texels, in the order of the texels."""
    resolution = checks.whole("the resolution of a surface texture", resolution, 1, 1 << 14)
    j, i = torch.meshgrid(*[torch.arange(resolution, device=device)] * 2, indexing="ij")
    upper = i + j >= resolution
    ij = torch.stack([i, j], -1).to(dtype)
    b = torch.where(upper[..., None], resolution - 1 - ij + 2 / 3, ij + 1 / 3) / resolution
    return torch.cat([b, 1 - b.sum(-1, keepdim=True)], -1).reshape(-1, 3)


def sample_surface_texture(texture: Tensor, face: Tensor, barycentrics: Tensor) -> Tensor:
    """Colours (..., C) of a surface texture (F, R^2, C) on faces (...) at barycentrics (..., 3): the nearest texel.

    Differentiable to the texels; piecewise constant in the barycentrics.
    """
    texel = face * texture.shape[1] + surface_texel(barycentrics, surface_resolution(texture))
    return sums.rows(texture.flatten(0, 1), texel)


def surface_resolution(texture: Tensor) -> int:
    """R of a surface texture (F, R^2, C) or (N, F, R^2, C). Raises InputError for any other shape."""
    resolution = round(texture.shape[-2] ** 0.5) if texture.dim() in (3, 4) else 0
    if resolution < 1 or resolution**2 != texture.shape[-2]:
        raise InputError(f"a surface texture must have shape (F, R * R, C), not {tuple(texture.shape)}")
    return resolution


# UV textures


@dataclass(frozen=True, eq=False)
class MipChain:
    """A mip chain: an image, level 0, and smaller ones, each with half the rows and columns of the one before it.

    texels: (T, C) of all levels, one level after another and each row by row.
    height, width: of level 0. Level l has max(1, height >> l) rows and max(1, width >> l) columns.
    levels: how many there are.
    """

    texels: Tensor
    height: int
    width: int
    levels: int

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """The rows and columns of each level."""
        return [(max(1, self.height >> level), max(1, self.width >> level)) for level in range(self.levels)]

    @property
    def offsets(self) -> list[int]:
        """The index of the first texel of each level."""
        offsets = [0]
        for height, width in self.sizes[:-1]:
            offsets.append(offsets[-1] + height * width)
        return offsets

    def check(self) -> None:
        """Raise InputError unless the sizes are valid and the number of texels fits them."""
        height, width = (checks.whole(f"{x} of a mip chain", getattr(self, x), 1, 1 << 20) for x in ("height", "width"))
        levels = checks.whole("levels of a mip chain", self.levels, 1, MOST_LEVELS)
        if levels > max(height, width).bit_length():
            raise InputError(f"a texture of {width} x {height} texels has no {levels} levels")
        if not isinstance(self.texels, Tensor):
            raise InputError(f"texture must be a tensor, not {type(self.texels).__name__}")
        count = self.offsets[-1] + self.sizes[-1][0] * self.sizes[-1][1]
        if self.texels.dim() != 2 or len(self.texels) != count:
            raise InputError(
                f"a mip chain of {width} x {height} texels and {levels} levels has texels ({count}, C), "
                f"not {tuple(self.texels.shape)}; make it by softras.mip_chain"
            )

    def image(self, level: int) -> Tensor:
        """(H, W, C) the image of one level."""
        height, width = self.sizes[level]
        return self.texels[self.offsets[level] :][: height * width].reshape(height, width, -1)


def mip_chain(texture: Tensor, levels: int | None = None) -> MipChain:
    """The mip chain of a texture (H, W, C) of any size, differentiable with respect to it.

    Each level has half the rows and columns of the level before it, rounded down but at least 1. A texel is the mean of
    the area that it covers: of 2 x 2 texels, and along an odd side of 3 texels, two of them in part (Guthe and
    Heckbert, Non-power-of-two mipmap creation, 2005). So every level has the mean of the texture, and none is shifted.

    Args:
        texture: (H, W, C), row 0 on top.
        levels: how many; default all, down to 1 x 1. 1 makes lookups bilinear.
    """
    if not isinstance(texture, Tensor) or not texture.is_floating_point():
        raise InputError("a texture must be a tensor of float32 or float64; divide what has 0 to 255 by 255")
    if texture.dim() != 3 or min(texture.shape) < 1:
        raise InputError(f"a texture must have shape (H, W, C), not {tuple(texture.shape)}")
    height, width = texture.shape[:2]
    most = min(max(height, width).bit_length(), MOST_LEVELS)
    levels = most if levels is None else checks.whole("levels", levels, 1)
    if levels > most:
        raise InputError(f"a texture of {width} x {height} texels has 1 to {most} levels, not {levels}")
    images = [texture]
    for _ in range(levels - 1):
        images.append(_halved(_halved(images[-1], 0), 1))
    texels = torch.cat([image.reshape(-1, texture.shape[2]) for image in images])
    return MipChain(texels, height, width, len(images))


def _halved(image: Tensor, axis: int) -> Tensor:
    size = image.shape[axis]
    half = size // 2
    if half == 0:
        return image
    x = image.movedim(axis, 0)
    if size % 2 == 0:
        return ((x[0::2] + x[1::2]) / 2).movedim(0, axis)
    # Texel k of the smaller image covers the texels from k size/half to (k + 1) size/half.
    k = torch.arange(half, dtype=image.dtype, device=image.device)[:, None, None]
    return (((half - k) * x[0:-1:2] + half * x[1::2] + (k + 1) * x[2::2]) / size).movedim(0, axis)


def sample_chain(chain: MipChain, uv: Tensor, level: Tensor, wrap: str = "repeat") -> Tensor:
    """Colours (..., C) of a UV texture at uv (..., 2) and level (...): bilinear in a level, linear between levels.

    The level is clamped to 0..levels - 1. Differentiable with respect to the texels, uv and the level, except on the
    border between texels.
    """
    index, weight = texel_weights(chain, uv, level, wrap)
    return (weight[..., None] * sums.rows(chain.texels, index)).sum(-2)


def texel_weights(chain: MipChain, uv: Tensor, level: Tensor, wrap: str = "repeat") -> tuple[Tensor, Tensor]:
    """The indices of the texels that a lookup reads, (..., 8) int64, and their weights (..., 8), which sum to 1.

    Four texels are of the finer level and four of the coarser one, in each the upper row first. A chain of one level
    gives (..., 4).
    """
    if wrap not in WRAPS:
        raise InputError(f"there is no wrap mode '{wrap}'; choose one of {', '.join(WRAPS)}.")
    level = level.clamp(0, chain.levels - 1)
    lower = level.detach().floor().long().clamp(max=max(0, chain.levels - 2))
    above = level - lower
    sizes = torch.tensor(chain.sizes, device=uv.device)
    offsets = torch.tensor(chain.offsets, device=uv.device)
    parts = []
    for step, share in ((0, 1 - above), (1, above)) if chain.levels > 1 else ((0, torch.ones_like(level)),):
        size = sizes[lower + step]
        columns, wx = _neighbours(uv[..., 0], size[..., 1], wrap)
        rows, wy = _neighbours(1 - uv[..., 1], size[..., 0], wrap)
        index = (
            offsets[lower + step][..., None, None]
            + rows[..., :, None] * size[..., 1, None, None]
            + columns[..., None, :]
        )
        weight = share[..., None, None] * wy[..., :, None] * wx[..., None, :]
        parts.append((index.flatten(-2), weight.flatten(-2)))
    index, weight = (torch.cat(x, -1) for x in zip(*parts, strict=True))
    return index, weight


def _neighbours(t: Tensor, size: Tensor, wrap: str) -> tuple[Tensor, Tensor]:
    """The two texels (..., 2) about the coordinate t (...) of a row of `size` (...), and their weights (..., 2).

    t is 0 at the row's start and 1 at its end.
    """
    if wrap == "repeat":  # t is brought to 0..1 first, so that nothing overflows however large it is
        t = t - t.detach().floor()
    elif wrap == "mirror":
        t = t - 2 * (t.detach() / 2).floor()
    else:
        t = t.clamp(-1, 2)
    x = t * size - 0.5
    low = x.detach().floor()
    texel = low.long()[..., None] + torch.arange(2, device=t.device)
    size = size[..., None]
    if wrap == "repeat":
        texel = texel % size
    elif wrap == "mirror":
        texel = torch.minimum(texel, 2 * size - 1 - texel)
    return torch.minimum(texel.clamp(min=0), size - 1), torch.stack([1 - (x - low), x - low], -1)


def face_levels(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    uv: Tensor,
    uv_faces: Tensor,
    height: int,
    width: int,
    orthographic: Tensor | None = None,
) -> Tensor:
    """(N, F) the part of the mip level that is the same all over a face; `pixel_level` adds the part of the depth.

    The level is 0.5 log2 of the area of a pixel in texels. Let X have the corners of a face in the camera as columns
    and T the columns (t_k, 1) with their texel coordinates t_k, and let A be K with the last row 0 0 1. A pixel p at
    depth z then has texel coordinates t with (t, 1) / z = T (A X)^-1 (p, 1). The Jacobian determinant of a projective
    map H is det H / (last row of H p)^3, so the area is c z^3 with c = |det T / (det A det X)|. This is exact at every
    pixel, and corners may be behind the camera. Without perspective, c is the ratio of the face's areas in texels and
    in pixels, and there is no z^3. Where a pixel is stretched in the texture, the level is that of a square of the same
    area. Differentiable with respect to vertices, K, world_to_camera and uv.

    Args:
        vertices, faces, K, world_to_camera, orthographic: as for `softras.silhouettes`.
        uv: (T, 2) or (N, T, 2) texture coordinates, shared by all views or not.
        uv_faces: (F, 3) int, the row of uv at each corner.
        height, width: of the texture, in texels.

    Returns:
        (N, F); FLAT where the face has no area on the image, -FLAT where it has none in the texture.
    """
    n = len(K)
    vertices = sums.spread(vertices, 0, n) if vertices.dim() == 2 else vertices
    X = sums.rows(sums.transformed(vertices, world_to_camera[:, :3]), faces.long(), 1)  # (N, F, corner, xyz)
    a, b = X[:, :, 1] - X[:, :, 0], X[:, :, 2] - X[:, :, 0]
    normal = torch.linalg.cross(a, b)
    on_image = (X[:, :, 0] * normal).sum(-1)  # det X; without perspective twice the area
    if orthographic is not None:
        on_image = torch.where(orthographic.to(on_image.device)[:, None], normal[..., 2], on_image)
    on_image = on_image * sums.spread(K[:, 0, 0] * K[:, 1, 1] - K[:, 0, 1] * K[:, 1, 0], 1, len(faces))
    corners = sums.rows(uv, uv_faces.long(), uv.dim() - 2)
    e, f = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    in_texture = (e[..., 0] * f[..., 1] - e[..., 1] * f[..., 0]) * (height * width)
    in_texture, on_image = (in_texture if uv.dim() == 3 else sums.spread(in_texture, 0, n)).abs(), on_image.abs()
    tiny = torch.finfo(on_image.dtype).tiny
    has_area = (in_texture > tiny) & (on_image > tiny)
    one = torch.ones_like(on_image)
    level = 0.5 * (torch.where(has_area, in_texture, one).log2() - torch.where(has_area, on_image, one).log2())
    return torch.where(has_area, level, torch.where(in_texture > tiny, FLAT * one, -FLAT * one))


def pixel_level(face_level: Tensor, depth: Tensor, orthographic: bool | Tensor = False) -> Tensor:
    """The mip level (...) at depth z > 0 (...): the face's level + 1.5 log2 z, or the face's alone if orthographic."""
    depth = torch.where(torch.as_tensor(orthographic, device=depth.device), torch.ones_like(depth), depth)
    return face_level + 1.5 * depth.log2()

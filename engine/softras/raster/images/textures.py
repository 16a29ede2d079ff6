"""The definition of texture lookup, in plain torch: what the kernels of csrc/softras_texture.h must match.

Two kinds of texture. A *surface texture* gives each face its own R^2 texels, addressed by barycentrics (SoftRas). A
*UV texture* is one image for the mesh: u runs right, v runs up as in OBJ files, so that (0, 1) is the top-left corner
of the image, whose row 0 is on top; texel centres lie at half integers. It is read bilinearly in a mip chain, whose
level comes from the area that a pixel covers in the texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ... import checks
from ...errors import InputError
from .. import sums

SURFACE, CHAIN = 1, 2  # the kinds of textures by number, as csrc/softras.h has them; 0 is none
WRAPS = ("repeat", "clamp", "mirror")  # what lies outside 0..1: the image again, its border, its mirror image
MOST_LEVELS = 16  # kMostLevels of csrc/softras_texture.h: down to 1 texel for a side of up to 65535
FLAT = 128.0  # a face without area has this level where the pixel sees too much of the texture, minus it for too little


# Surface textures


def surface_texel(barycentrics: Tensor, resolution: int) -> Tensor:
    """The texel of a face's surface texture at barycentrics (..., 3): (...) int64 in 0..R^2 - 1.

    SoftRas cuts the face into R^2 congruent triangles: cell (i, j) = floor(R b0), floor(R b1) has a lower one, texel
    j R + i, and beyond its diagonal an upper one, texel (R-1-j) R + (R-1-i). A point on the border of the face belongs
    to the triangle it borders on (in SoftRas's own code the index leaves the row there).
    """
    a, b = barycentrics[..., 0] * resolution, barycentrics[..., 1] * resolution
    i = a.floor().long().clamp(0, resolution - 1)
    j = torch.minimum(b.floor().long().clamp(min=0), resolution - 1 - i)
    upper = (a + b - (i + j) > 1) & (i + j < resolution - 1)
    return torch.where(upper, (resolution - 1 - j) * resolution + (resolution - 1 - i), j * resolution + i)


def texel_barycentrics(
    resolution: int, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Tensor:
    """(R^2, 3) barycentrics of the centres of a surface texture's texels, in their order."""
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
    """R of a surface texture (F, R^2, C) or (N, F, R^2, C). Raises InputError when it is none."""
    resolution = round(texture.shape[-2] ** 0.5) if texture.dim() in (3, 4) else 0
    if resolution < 1 or resolution**2 != texture.shape[-2]:
        raise InputError(f"a surface texture must have shape (F, R * R, C), not {tuple(texture.shape)}")
    return resolution


# UV textures


@dataclass(frozen=True, eq=False)
class MipChain:
    """An image and its halvings, packed. Level l has max(1, size >> l) rows and columns.

    texels: (T, C), level after level, each row by row; height, width: those of level 0; levels: how many there are.
    """

    texels: Tensor
    height: int
    width: int
    levels: int

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Rows and columns of each level."""
        return [(max(1, self.height >> level), max(1, self.width >> level)) for level in range(self.levels)]

    @property
    def offsets(self) -> list[int]:
        """The first texel of each level."""
        offsets = [0]
        for height, width in self.sizes[:-1]:
            offsets.append(offsets[-1] + height * width)
        return offsets

    def check(self) -> None:
        """Raises InputError unless the texels are those of the levels."""
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
        """(H, W, C) one level."""
        height, width = self.sizes[level]
        return self.texels[self.offsets[level] :][: height * width].reshape(height, width, -1)


def mip_chain(texture: Tensor, levels: int | None = None) -> MipChain:
    """The mip chain of a texture (H, W, C) of any size, differentiable to it.

    Each level has half the rows and columns of the one before, rounded down but at least 1; its texels are the means
    of the area they cover: of 2 x 2 texels, and where the size is odd of 3 with fractions at the ends (Guthe and
    Heckbert, Non-power-of-two mipmap creation, 2005). So every level has the mean of the texture and is in its place.

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
    k = torch.arange(half, dtype=image.dtype, device=image.device)[
        :, None, None
    ]  # covers k size/half .. (k+1) size/half
    return (((half - k) * x[0:-1:2] + half * x[1::2] + (k + 1) * x[2::2]) / size).movedim(0, axis)


def sample_chain(chain: MipChain, uv: Tensor, level: Tensor, wrap: str = "repeat") -> Tensor:
    """Colours (..., C) of a UV texture at uv (..., 2) and level (...): bilinear in a level, linear between levels.

    The level is clamped to 0..levels - 1. Differentiable to the texels, uv and level, except where they leave one
    texel for the next.
    """
    index, weight = texel_weights(chain, uv, level, wrap)
    return (weight[..., None] * sums.rows(chain.texels, index)).sum(-2)


def texel_weights(chain: MipChain, uv: Tensor, level: Tensor, wrap: str = "repeat") -> tuple[Tensor, Tensor]:
    """Which texels a lookup reads, (..., 8) int64, and their weights (..., 8), which sum to 1.

    Four of the level below, then four of the one above; of each, the top row first. With one level, (..., 4).
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
    if wrap == "repeat":  # brought near the image first: no overflow, however far t is
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
    """(N, F) the constant part of the mip level of each face in each camera; :func:`pixel_level` adds the depth's.

    The level is 0.5 log2 of the area, in texels, that a pixel covers. With corners X_k in the camera, texel coordinates
    t_k, and depth z, a pixel p has (t, 1) / z = T (A X)^-1 (p, 1), where T has columns (t_k, 1), X columns X_k and A is
    K with last row 0 0 1. The Jacobian determinant of a projective map H is det H / (last row of H p)^3, so the area is
    c z^3 with c = |det T / (det A det X)|: exact at every pixel, and corners may be behind the camera. Without
    perspective, c is the ratio of the areas in texels and in pixels, and there is no z^3. Where the footprint is
    stretched, the level is that of a square of the same area. Differentiable to vertices, K, world_to_camera and uv.

    Args:
        vertices, faces, K, world_to_camera, orthographic: as for :func:`softras.silhouettes`.
        uv: (T, 2) or (N, T, 2) texture coordinates, shared by all views or not.
        uv_faces: (F, 3) int, the row of uv at each corner.
        height, width: of the texture, in texels.

    Returns:
        (N, F); FLAT where the face is seen edge-on, -FLAT where it has no area in the texture.
    """
    n = len(K)
    vertices = sums.spread(vertices, 0, n) if vertices.dim() == 2 else vertices
    X = sums.rows(sums.transformed(vertices, world_to_camera[:, :3]), faces.long(), 1)  # (N, F, corner, xyz)
    a, b = X[:, :, 1] - X[:, :, 0], X[:, :, 2] - X[:, :, 0]
    normal = torch.linalg.cross(a, b)
    seen = (X[:, :, 0] * normal).sum(-1)  # det X
    if orthographic is not None:
        seen = torch.where(orthographic.to(seen.device)[:, None], normal[..., 2], seen)
    seen = seen * sums.spread(K[:, 0, 0] * K[:, 1, 1] - K[:, 0, 1] * K[:, 1, 0], 1, len(faces))
    corners = sums.rows(uv, uv_faces.long(), uv.dim() - 2)
    e, f = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    covered = (e[..., 0] * f[..., 1] - e[..., 1] * f[..., 0]) * (height * width)
    covered, seen = (covered if uv.dim() == 3 else sums.spread(covered, 0, n)).abs(), seen.abs()
    tiny = torch.finfo(seen.dtype).tiny
    has_area = (covered > tiny) & (seen > tiny)
    one = torch.ones_like(seen)
    level = 0.5 * (torch.where(has_area, covered, one).log2() - torch.where(has_area, seen, one).log2())
    return torch.where(has_area, level, torch.where(covered > tiny, FLAT * one, -FLAT * one))


def pixel_level(face_level: Tensor, depth: Tensor, orthographic: bool | Tensor = False) -> Tensor:
    """The mip level (...) at depth z > 0 (...) on a face: its own + 1.5 log2 z; without perspective just its own."""
    depth = torch.where(torch.as_tensor(orthographic, device=depth.device), torch.ones_like(depth), depth)
    return face_level + 1.5 * depth.log2()

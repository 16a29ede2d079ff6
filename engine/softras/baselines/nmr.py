"""The Neural 3D Mesh Renderer: a hard image whose gradient comes from moving edges over to other pixels.

Kato, Ushiku and Harada, CVPR 2018, as their public kernels compute it. Every row and column of pixels that an edge of a
face crosses is treated alone. For each pixel outside the face, the loss is compared with what it would be if the pixel
had the colour just inside the edge; for each pixel of the face, with what it would be with the colour just outside.
Where the loss would fall, the edge is pulled towards the pixel, the more the nearer it is; where the loss would rise,
nothing happens. So the gradient is not linear in the gradient of the loss, pixels up to the image's border contribute,
and it is tens of times longer than the true gradient. docs/gradients.md compares it with others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..raster import arguments
from .zbuffer import HardImages, zbuffer

EPSILON = 1e-4  # NDC; added to every distance from an edge, so that none is 0
ENTRIES = 1 << 22  # pairs of a crossing and a pixel of its column that are in memory at the same time


def nmr(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    *,
    attributes: Tensor | None = None,
    background: float = 0.0,
    anti_aliasing: bool = True,
    near: Tensor | float = 0.1,
    far: Tensor | float = 100.0,
    orthographic: Tensor | None = None,
) -> HardImages:
    """Alpha and image with the gradients of the Neural 3D Mesh Renderer.

    Faces show both sides (its `fill_back`). Gradients to vertices and cameras go through the vertices' pixels;
    attributes have the gradients of the hard image.

    Args:
        vertices, faces, K, world_to_camera, height, width, orthographic: as for `softras.silhouettes`.
        attributes: (V, C) or (N, V, C) of the vertices, or None.
        anti_aliasing: draw at twice the size and take the mean of 2 x 2 pixels, as its default is.
        near, far: scene units.

    Raises:
        ValueError: as `softras.images`.
    """
    scene = arguments.scene(vertices, faces, K, world_to_camera, height, width, orthographic, near, False)
    if anti_aliasing:
        finer = scene.K * torch.tensor([2.0, 2.0, 1.0], dtype=K.dtype, device=K.device)[:, None]
        scene = scene._replace(K=finer, height=2 * scene.height, width=2 * scene.width)
    buffer = zbuffer(scene, attributes, background, far)
    layers = _Pull.apply(buffer.pixels, buffer.layers, faces, buffer.nearest)
    found = HardImages(layers[:, 0], layers[:, 1:])
    if not anti_aliasing:
        return found
    return HardImages(*(x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).mean((-1, -3)) for x in found))


class _Pull(torch.autograd.Function):
    """The layers unchanged, with a gradient to the vertices' pixels."""

    @staticmethod
    def forward(ctx, pixels: Tensor, layers: Tensor, faces: Tensor, nearest: Tensor) -> Tensor:
        ctx.save_for_backward(pixels, layers, faces, nearest)
        return layers.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        pixels, layers, faces, nearest = ctx.saved_tensors
        found = torch.zeros_like(pixels)
        for n in range(len(pixels)):
            for axis in range(2):
                image, upstream, face = layers[n], gradient[n], nearest[n]
                points = pixels[n] - 0.5
                if axis == 1:  # x, along rows
                    image, upstream, face = (x.transpose(-1, -2) for x in (image, upstream, face))
                    points = points.flip(1)
                size = min(face.shape)
                found[n, :, 1 - axis] = _gradient_along_columns(points, faces.long(), image, upstream, face, size)
        return found, gradient, None, None


def _gradient_along_columns(
    points: Tensor, faces: Tensor, image: Tensor, upstream: Tensor, nearest: Tensor, size: int
) -> Tensor:
    """(V,) the gradient to the y of the vertices, in pixels.

    Args:
        points: (V, 2) the vertices in pixels, with pixel centres at whole numbers.
        image, upstream: (C, H, W) the image and the gradient to it.
        nearest: (H, W) the nearest faces.
        size: the shorter side of the image, which spans 2 in NDC.
    """
    height, width = nearest.shape
    result = points.new_zeros(len(points))
    face, start, end, third, column = _crossings(points, faces, width)
    (x0, y0), (x1, y1) = points[start].unbind(1), points[end].unbind(1)
    crossing = y0 + (column - x0) / (x1 - x0) * (y1 - y0)
    beside = y0 + (points[third, 0] - x0) / (x1 - x0) * (y1 - y0)
    inwards = torch.where(
        points[third, 1] > beside, 1, -1
    )  # the direction along the column from the edge into the face
    inside = torch.where(inwards > 0, crossing.ceil(), crossing.floor()).long()
    outside = inside - inwards
    kept = (inside >= 0) & (inside < height) & (outside >= 0) & (outside < height) & (points[third, 1] != beside)
    rows = torch.arange(height, device=points.device)
    for part in kept.nonzero()[:, 0].split(max(1, ENTRIES // height)):
        f, c, i, o, s = (x[part, None] for x in (face, column, inside, outside, inwards))
        column_of = nearest[rows, c]  # (M, H)
        shown, wanted = image[:, rows, c], upstream[:, rows, c]  # (C, M, H)
        outwards = ((rows - o) * s <= 0) & (nearest[i, c] == f)
        own = ((rows - i) * s >= 0) & (column_of == f)
        instead = torch.where(outwards, image[:, i, c], image[:, o, c])
        change = ((shown - instead) * wanted).sum(0)
        change = torch.where((outwards | own) & (change > 0), change, 0)
        way = (rows - crossing[part, None]) * (x1 - x0)[part, None]
        for vertex, lever in ((start, (x1[part] - column[part])[:, None]), (end, (column[part] - x0[part])[:, None])):
            # How far this vertex alone must move, in NDC, for the edge to cross the column at the pixel.
            move = way / torch.where(lever == 0, 1, lever) * (2 / size)
            move = move + EPSILON * torch.where(move < 0, -1, 1)
            result.index_add_(0, vertex[part], torch.where(lever == 0, 0, -change / move).sum(1) * (2 / size))
    return result


def _crossings(points: Tensor, faces: Tensor, width: int) -> tuple[Tensor, ...]:
    """For every crossing of an edge and a column of pixels: face, the edge's two vertices, the third vertex, column."""
    face = torch.arange(len(faces), device=points.device).repeat(3)
    start, end, third = (torch.cat([faces[:, (k + j) % 3] for k in range(3)]) for j in range(3))
    low, high = points[start, 0].minimum(points[end, 0]), points[start, 0].maximum(points[end, 0])
    first, last = low.ceil().clamp(min=0).long(), high.floor().clamp(max=width - 1).long()
    count = torch.where(low < high, (last - first + 1).clamp(min=0), 0)
    edge = torch.arange(len(face), device=points.device).repeat_interleave(count)
    offset = torch.arange(len(edge), device=points.device) - (count.cumsum(0) - count)[edge]
    return face[edge], start[edge], end[edge], third[edge], first[edge] + offset

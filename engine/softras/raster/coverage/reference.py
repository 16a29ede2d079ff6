"""The definition of exact coverage, in plain torch.

The silhouette is the union of all projected faces. The coverage of a pixel is the area of the silhouette inside the
pixel's square: what a camera's sensor measures, and what supersampling converges to. Every row of pixels is cut into
slabs at the corners of the polygons and at the crossings of their edges. Inside a slab the order of the edges does not
change, so the union is a set of trapezoids. The area of a trapezoid left of a column's border is a polynomial of its
corners, which autograd differentiates. The borders of the slabs may be constants, since what a slab loses by a motion
of its border its neighbour gains.

This file visits every pair of edges, so it suits tens of faces and small images. The backends are tested against it.
Wu and Jiang, arXiv 1906.07870, define a pixel in the same way, and approximate it by an average of samples.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..scene import Scene
from ..silhouettes.reference import clip_near, doubled_area, project


def coverage(scene: Scene) -> Tensor:
    """(N, H, W) the area of the silhouette in each pixel."""
    views = []
    for n in range(scene.K.shape[0]):
        corners, _ = clip_near(scene.in_camera(n)[scene.faces.long()], scene.near[n])
        polygons = project(corners, scene.K[n], bool(scene.orthographic[n]))
        area2 = doubled_area(polygons)
        views.append(areas(polygons[(area2 < 0) if scene.cull else (area2 != 0)], scene.height, scene.width))
    return torch.stack(views) if views else scene.vertices.new_zeros(scene.size)


def areas(polygons: Tensor, height: int, width: int) -> Tensor:
    """(G, 4, 2) convex polygons in pixels -> (H, W) the area of their union in each pixel."""
    total = polygons.new_zeros(height, width) + 0 * polygons.sum()
    if not len(polygons):
        return total
    start, end = polygons.flatten(0, 1), polygons.roll(-1, 1).flatten(0, 1)
    owner = torch.arange(len(polygons), device=polygons.device).repeat_interleave(4)
    cuts = _heights(start.detach(), end.detach(), height)
    rows = []
    for row in range(height):
        inner = cuts[(cuts > row) & (cuts < row + 1)]
        borders = torch.cat([inner.new_tensor([row]), inner, inner.new_tensor([row + 1])])
        slabs = [_slab(start, end, owner, a, b, width) for a, b in pairwise(borders)]
        rows.append(torch.stack(slabs).sum(0))
    return total + torch.stack(rows)


def _heights(start: Tensor, end: Tensor, height: int) -> Tensor:
    """The y of all corners and of all crossings of two edges, ascending."""
    d = end - start
    denominator = d[:, None, 0] * d[None, :, 1] - d[:, None, 1] * d[None, :, 0]
    offset = start[None] - start[:, None]
    t = (offset[..., 0] * d[None, :, 1] - offset[..., 1] * d[None, :, 0]) / denominator
    crossings = start[:, None, 1] + t * d[:, None, 1]
    found = torch.cat([start[:, 1], crossings[(t > 0) & (t < 1)]])
    return torch.unique(found[(found > 0) & (found < height)])


def _slab(start: Tensor, end: Tensor, owner: Tensor, top: Tensor, bottom: Tensor, width: int) -> Tensor:
    """(W,) the area of the union between two heights in each pixel of a row."""
    row = start.new_zeros(width)
    middle = (top + bottom) / 2
    crosses = ((start[:, 1] < middle) != (end[:, 1] < middle)).nonzero()[:, 0]
    if bottom - top <= 0 or not len(crosses):
        return row
    a, b = start[crosses], end[crosses]
    slope = (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1])
    x = a[:, 0] + (middle - a[:, 1]) * slope
    pairs = torch.argsort(owner[crosses], stable=True).reshape(-1, 2)  # a convex polygon that is there has two
    left = torch.where(x[pairs[:, 0]] <= x[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    right = pairs.sum(1) - left
    upper, lower = a[:, 0] + (top - a[:, 1]) * slope, a[:, 0] + (bottom - a[:, 1]) * slope
    reached = -torch.inf
    last = -1
    for i in torch.argsort(x[left]).tolist():  # the union of intervals, from left to right
        if x[left[i]] > reached:
            if last >= 0:
                row = row - _area_right_of(upper[last], lower[last], bottom - top, width)
            row = row + _area_right_of(upper[left[i]], lower[left[i]], bottom - top, width)
        if x[right[i]] > reached:
            reached, last = float(x[right[i]].detach()), int(right[i])
    return row - _area_right_of(upper[last], lower[last], bottom - top, width)


def _area_right_of(upper: Tensor, lower: Tensor, height: Tensor, width: int) -> Tensor:
    """(W,) the area, in each column of pixels, to the right of the line from (upper, 0) to (lower, height)."""
    column = torch.arange(width, dtype=upper.dtype, device=upper.device)

    def integral(x: Tensor) -> Tensor:  # an antiderivative of clamp(column + 1 - x, 0, 1) by x
        left, within = column - x, (column + 1 - x).clamp(0, 1)
        return torch.where(left > 0, x - column - 0.5, -0.5 * within.square())

    if float((upper - lower).detach().abs()) < 1e-9:
        return height * (column + 1 - (upper + lower) / 2).clamp(0, 1)
    return height * (integral(lower) - integral(upper)) / (lower - upper)

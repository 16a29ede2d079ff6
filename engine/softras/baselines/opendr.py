"""OpenDR: a hard image whose gradient comes from the differences between neighbouring pixels.

Loper and Black, ECCV 2014. The colour of a covered pixel is taken to slide along with its face: its derivative by a
vertex is minus the slope of the image times the barycentric coordinate of that vertex. The outline, where the image
jumps, is drawn over the image as silhouette edges one pixel wide, which enlarges the shape by about half a pixel; the
jump across such an edge is its slope. The gradient is linear in the gradient of the loss, and pixels two or more away
from the outline do not move it. docs/gradients.md compares it with others.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..raster import arguments
from ..raster.coverage.topology import EdgeTopology
from .zbuffer import HardImages, ZBuffer, screen_barycentrics, zbuffer

TOLERANCE = 1e-3  # relative to its depth: so far behind the nearest face may an edge lie and still be drawn


def opendr(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    *,
    attributes: Tensor | None = None,
    background: float = 0.0,
    near: Tensor | float = 0.1,
    far: Tensor | float = 100.0,
    orthographic: Tensor | None = None,
) -> HardImages:
    """Alpha and image with the gradients of OpenDR, silhouette edges drawn over them (its `overdraw`).

    Arguments and errors as `softras.baselines.nmr`.
    """
    scene = arguments.scene(vertices, faces, K, world_to_camera, height, width, orthographic, near, False)
    buffer = zbuffer(scene, attributes, background, far)
    layers = []
    for n in range(len(K)):
        colours = None if attributes is None else attributes if attributes.dim() == 2 else attributes[n]
        layers.append(_view(buffer, n, colours))
    drawn = torch.stack(layers) if layers else buffer.layers
    return HardImages(drawn[:, 0], drawn[:, 1:])


def _view(buffer: ZBuffer, n: int, attributes: Tensor | None) -> Tensor:
    """(1 + C, H, W) alpha and image of one view."""
    faces, pixels, layers, nearest = buffer.scene.faces, buffer.pixels[n], buffer.layers[n], buffer.nearest[n]
    at = pixels.detach()
    # The three vertices with which each pixel slides, and their barycentric coordinates.
    rows, columns = (nearest >= 0).nonzero(as_tuple=True)
    owners = faces[nearest[rows, columns]].long()
    centres = torch.stack([columns, rows], 1) + 0.5
    shares = screen_barycentrics(at[owners], centres.to(at.dtype))
    border = torch.zeros_like(nearest, dtype=torch.bool)
    line = _silhouette_lines(buffer, n)
    if len(line[0]):
        y, x, start, end, t = line
        border[y, x] = True
        kept = ~border[rows, columns]
        rows, columns = torch.cat([rows[kept], y]), torch.cat([columns[kept], x])
        owners = torch.cat([owners[kept], torch.stack([start, end, end], 1)])
        shares = torch.cat([shares[kept], torch.stack([1 - t, t, torch.zeros_like(t)], 1)])
        shown = [layers.new_ones(1, len(y))]
        if attributes is not None:
            shown.append(((1 - t)[:, None] * attributes[start] + t[:, None] * attributes[end]).T)
        layers = _put(layers, y, x, torch.cat(shown))
    return _Slide.apply(pixels, layers, rows, columns, owners, shares, border)


def _put(layers: Tensor, y: Tensor, x: Tensor, values: Tensor) -> Tensor:
    """The layers with new values at some pixels."""
    height, width = layers.shape[1:]
    return layers.flatten(1).index_copy(1, y * width + x, values).view(-1, height, width)


def _silhouette_lines(buffer: ZBuffer, n: int) -> tuple[Tensor, ...]:
    """The pixels under silhouette edges, each once: row, column, the edge's two vertices, and the position along it."""
    at, depth, nearest = buffer.pixels[n].detach(), buffer.depth[n], buffer.nearest[n]
    vertices, faces = buffer.scene.vertices, buffer.scene.faces
    height, width = nearest.shape
    topology = EdgeTopology.of(faces.cpu(), (vertices if vertices.dim() == 2 else vertices[n]).cpu())
    a, b, c = at[faces.long()].unbind(1)
    sign = torch.sign((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    one, other = torch.as_tensor(topology.pair_faces, device=at.device).long().unbind(1)
    edges = torch.as_tensor(topology.pair_vertices, device=at.device).long()[sign[one] * sign[other] <= 0]
    edges = torch.cat([edges, torch.as_tensor(topology.other_edges, device=at.device).long()])
    start, end = edges.unbind(1)
    way = (at[end] - at[start]).abs().amax(1)
    in_front = (depth[start] > 0) & (depth[end] > 0)
    count = torch.where(in_front, way.clamp(max=4.0 * (height + width)).ceil().long() + 1, 0)
    edge = torch.arange(len(edges), device=at.device).repeat_interleave(count)
    step = torch.arange(len(edge), device=at.device) - (count.cumsum(0) - count)[edge]
    t = (step.to(at.dtype) + 0.5) / count[edge]
    start, end = start[edge], end[edge]
    point = at[start] + t[:, None] * (at[end] - at[start])
    x, y = point.floor().long().unbind(1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y, t, start, end, edge = (v[inside] for v in (x, y, t, start, end, edge))
    z = 1 / ((1 - t) / depth[start] + t / depth[end])
    face = nearest[y, x]
    behind = depth[faces[face.clamp(min=0)].long()].amin(1)  # the depth of the nearest corner of that face
    visible = (face < 0) | (z <= behind * (1 + TOLERANCE)) | _touches(faces, face, start, end)
    order = torch.argsort(z[visible])  # of several edges at a pixel the nearest is drawn
    x, y, t, start, end = (v[visible][order] for v in (x, y, t, start, end))
    _, first = np.unique((y * width + x).cpu().numpy(), return_index=True)
    keep = torch.as_tensor(first, device=at.device)
    return y[keep], x[keep], start[keep], end[keep], t[keep]


def _touches(faces: Tensor, face: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Whether an edge belongs to a face."""
    corners = faces[face.clamp(min=0)].long()
    return (corners == start[:, None]).any(1) & (corners == end[:, None]).any(1)


class _Slide(torch.autograd.Function):
    """The layers unchanged, with a gradient to the vertices' pixels: dI / d(pixel of k) = -w_k (I_x, I_y)."""

    @staticmethod
    def forward(
        ctx,
        pixels: Tensor,
        layers: Tensor,
        rows: Tensor,
        columns: Tensor,
        owners: Tensor,
        shares: Tensor,
        border: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(layers, rows, columns, owners, shares, border)
        ctx.vertices = pixels.shape
        return layers.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        layers, rows, columns, owners, shares, border = ctx.saved_tensors
        result = gradient.new_zeros(ctx.vertices)
        for axis, dim in ((0, 2), (1, 1)):
            slope = (differences(layers, border, dim) * gradient).sum(0)[rows, columns]
            result[:, axis].index_add_(0, owners.flatten(), (-shares * slope[:, None]).flatten())
        return result, gradient, None, None, None, None, None


def differences(layers: Tensor, border: Tensor, dim: int) -> Tensor:
    """(C, H, W) the slope of the image along a dimension.

    border: (H, W) bool, the pixels of silhouette edges. There the slope is twice the central difference, since the
    jump extends over two pixels. Elsewhere it is the mean of the differences to the neighbours that are not on the
    border, or the difference to the one that is not; at the edge of the image it is the one-sided difference.
    """
    size = layers.shape[dim]
    ahead, back = torch.zeros_like(layers), torch.zeros_like(layers)
    step = layers.diff(dim=dim)
    ahead.narrow(dim, 0, size - 1).copy_(step)
    back.narrow(dim, 1, size - 1).copy_(step)
    edge = dim - 1
    has_ahead, has_back = torch.ones_like(border), torch.ones_like(border)
    has_ahead.narrow(edge, size - 1, 1).fill_(False)
    has_back.narrow(edge, 0, 1).fill_(False)
    next_on, last_on = torch.zeros_like(border), torch.zeros_like(border)
    next_on.narrow(edge, 0, size - 1).copy_(border.narrow(edge, 1, size - 1))
    last_on.narrow(edge, 1, size - 1).copy_(border.narrow(edge, 0, size - 1))
    use_ahead, use_back = has_ahead & ~next_on, has_back & ~last_on
    count = (use_ahead.int() + use_back.int()).clamp(min=1)
    smooth = (torch.where(use_ahead, ahead, 0) + torch.where(use_back, back, 0)) / count
    across = ahead + back
    return torch.where(border | ~(use_ahead | use_back), across, smooth)

"""The definition of the soft silhouette, in plain torch.

Every backend is tested against this file, which also renders where no native library loads. It visits every pair of a
face and a pixel, so it is slow. It works on blocks of pixels and computes them again in the backward pass, so that its
memory stays bounded. Gradients come from autograd.

For a pixel centre p and a face whose projection (clipped at the near plane) is the convex polygon Q, with d the
distance from p to the nearest edge of Q, SoftRas (Liu et al., ICCV 2019, eq. 1 to 3) defines

    D = sigmoid(s d^2 / sigma),  s = +1 inside Q and -1 outside            (its coverage)
    alpha = 1 - prod_faces (1 - D)                                         (the silhouette)

with d in NDC, which spans [-1, 1] over the shorter image side. A face counts where it covers the pixel or where
d^2 < CUTOFF sigma, that is D > 1e-4 (its `dist_eps`). Faces whose projection has no area count nowhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from ..scene import Scene, Tangents

CUTOFF = math.log(1 / 1e-4 - 1)  # the d^2 / sigma at which D is 1e-4
DEGENERATE = 1e-8  # a polygon counts as one without area if its doubled area is at most DEGENERATE extent^2
SHORT = 1e-9  # an edge shorter than SHORT extent is left out: clipping makes such edges
PAIRS = 1 << 20  # pairs of a face and a pixel that are in memory at the same time


def silhouettes(scene: Scene, sigma: float) -> Tensor:
    """(N, H, W) soft silhouettes."""
    views = []
    for n in range(scene.K.shape[0]):
        corners, _ = clip_near(scene.in_camera(n)[scene.faces.long()], scene.near[n])
        polygons = project(corners, scene.K[n], bool(scene.orthographic[n]))
        polygons = polygons[visible(polygons, scene.cull)]
        in_pixels = sigma * (min(scene.height, scene.width) / 2) ** 2
        views.append(coverage(polygons, scene.height, scene.width, in_pixels))
    return torch.stack(views) if views else nothing(scene)


def nothing(scene: Scene) -> Tensor:
    """(0, H, W) the silhouettes of a scene without cameras, from which all tensors of the scene get zero gradients."""
    of_all = scene.vertices.sum() + scene.K.sum() + scene.world_to_camera.sum()
    return scene.vertices.new_zeros(scene.size) + 0 * of_all


def silhouettes_jacobian(scene: Scene, sigma: float, pixels: Tensor, tangents: Tangents) -> Tensor:
    """(M, P) derivatives of alpha at M pixels, by torch's forward mode, one parameter after another."""
    moving = (scene.vertices, scene.K, scene.world_to_camera)
    rows = scene.vertices.new_zeros(len(pixels), tangents.parameters)
    for p in range(tangents.parameters):
        with forward_ad.dual_level():
            v, k, w = (
                x if d is None else forward_ad.make_dual(x, d[..., p].contiguous())
                for x, d in zip(moving, tangents, strict=True)
            )
            alpha = silhouettes(scene._replace(vertices=v, K=k, world_to_camera=w), sigma)
            column = forward_ad.unpack_dual(alpha).tangent
            if column is not None:  # else no face counts anywhere
                rows[:, p] = column.flatten()[pixels]
    return rows


def clip_near(triangles: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """(F, 3, 3) camera-space triangles -> (G, 4, 3) polygons in front of z = near, and (G,) the triangles they are of.

    A triangle in front of the plane keeps its corners, the first of them twice. A triangle with one corner behind the
    plane becomes a quadrilateral, one with two corners behind it a smaller triangle, and one behind it disappears.
    """
    front = triangles[..., 2] > near
    count = front.sum(1)
    whole = triangles[count == 3][:, [0, 1, 2, 0]]

    def cut(a: Tensor, b: Tensor) -> Tensor:
        s = (near - a[:, 2]) / (b[:, 2] - a[:, 2])
        return a + s[:, None] * (b - a)

    def rolled(which: Tensor, lone: Tensor) -> tuple[Tensor, ...]:
        order = (lone.long().argmax(1)[:, None] + torch.arange(3, device=lone.device)) % 3
        return triangles[which].gather(1, order[..., None].expand(-1, -1, 3)).unbind(1)

    a, b, c = rolled(count == 1, front[count == 1])  # a alone in front
    ab, ac = cut(a, b), cut(a, c)
    one = torch.stack([a, ab, ac, a], 1)
    a, b, c = rolled(count == 2, ~front[count == 2])  # a alone behind
    two = torch.stack([b, c, cut(c, a), cut(b, a)], 1)
    return torch.cat([whole, one, two]), torch.cat([(count == n).nonzero()[:, 0] for n in (3, 1, 2)])


def project(points: Tensor, K: Tensor, orthographic: bool) -> Tensor:
    """(..., 3) camera-space points -> (..., 2) pixels."""
    xy = points[..., :2] if orthographic else points[..., :2] / points[..., 2:]
    return xy @ K[:2, :2].T + K[:2, 2]


def visible(polygons: Tensor, cull: bool) -> Tensor:
    """(G,) bool: which polygons have an area and, with cull, show their front: their corners go counter-clockwise."""
    area2 = doubled_area(polygons)
    extent = (polygons.amax(1) - polygons.amin(1)).amax(1)
    has_area = area2.abs() > DEGENERATE * extent**2
    return has_area & (area2 < 0) if cull else has_area


def doubled_area(polygons: Tensor) -> Tensor:
    """(G, 4, 2) -> (G,) twice the signed area: the cross product of the diagonals."""
    d, e = (polygons[:, 2] - polygons[:, 0]), (polygons[:, 3] - polygons[:, 1])
    return d[:, 0] * e[:, 1] - d[:, 1] * e[:, 0]


def coverage(polygons: Tensor, height: int, width: int, sigma: float) -> Tensor:
    """(G, 4, 2) polygons in pixels -> (H, W) alpha; sigma in squared pixels."""
    step = max(1, PAIRS // max(1, len(polygons)))
    pixels = pixel_centres(height, width, polygons).split(step)
    blocks = [checkpoint(_alpha, polygons, block, sigma, use_reentrant=False) for block in pixels]
    return torch.cat(blocks).reshape(height, width)


def pixel_centres(height: int, width: int, like: Tensor) -> Tensor:
    """(H W, 2), row by row."""
    ys, xs = torch.meshgrid(
        torch.arange(height, dtype=like.dtype, device=like.device) + 0.5,
        torch.arange(width, dtype=like.dtype, device=like.device) + 0.5,
        indexing="ij",
    )
    return torch.stack([xs, ys], -1).reshape(-1, 2)


def _alpha(polygons: Tensor, pixels: Tensor, sigma: float) -> Tensor:
    x, counts = exponents(polygons, pixels, sigma)
    log_transmittance = torch.where(counts, -torch.nn.functional.softplus(x), torch.zeros_like(x)).sum(1)
    return -torch.expm1(log_transmittance)


def exponents(polygons: Tensor, pixels: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """x = s d^2 / sigma of every pixel (P, 2) and polygon (G, 4, 2), and whether the polygon counts there: (P, G)."""
    distance2, inside = edge_distances(polygons, pixels)
    nearest = distance2.min(2).values
    x = torch.where(inside, nearest, -nearest) / sigma
    return x, x > -CUTOFF


def edge_distances(polygons: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances of pixels from the edges of polygons (P, G, 4), infinite for edges left out; inside (P, G)."""
    start, end = polygons, polygons.roll(-1, 1)
    edge = end - start  # (G, 4, 2)
    length2 = (edge**2).sum(-1)
    extent = (polygons.amax(1) - polygons.amin(1)).amax(1)
    short = length2 <= (SHORT * extent[:, None]) ** 2
    offset = pixels[:, None, None] - start  # (P, G, 4, 2)
    t = ((offset * edge).sum(-1) / torch.where(short, torch.ones_like(length2), length2)).clamp(0, 1)
    distance2 = ((offset - t[..., None] * edge) ** 2).sum(-1)
    side = (edge[..., 0] * offset[..., 1] - edge[..., 1] * offset[..., 0]) * doubled_area(polygons).sign()[:, None]
    inside = ((side > 0) | short).all(2)
    return torch.where(short, torch.full_like(distance2, torch.inf), distance2), inside


def barycentric_distance(polygons: Tensor, pixels: Tensor) -> Tensor:
    """(P, G) the least distance of each pixel from the lines through a polygon's edges, positive inside.

    Each distance is relative to the largest distance of the polygon's corners from the same line. For a triangle this
    is the least barycentric coordinate.
    """
    start = polygons
    edge = polygons.roll(-1, 1) - start  # (G, 4, 2)
    extent = (polygons.amax(1) - polygons.amin(1)).amax(1)
    short = (edge**2).sum(-1) <= (SHORT * extent[:, None]) ** 2
    sign = doubled_area(polygons).sign()[:, None]
    normal = torch.stack([-edge[..., 1], edge[..., 0]], -1) * sign[..., None]
    depth = (normal[:, :, None] * (polygons[:, None] - start[:, :, None])).sum(-1).amax(2)  # (G, 4)
    across = (normal * (pixels[:, None, None] - start)).sum(-1) / torch.where(short, torch.ones_like(depth), depth)
    return torch.where(short, torch.full_like(across, torch.inf), across).amin(2)

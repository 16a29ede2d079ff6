"""The definition of images, in plain torch: attributes and textures of all faces, blended by depth.

It visits every pair of a face and a pixel, as the definition of silhouettes does, from which it takes clipping,
projection and distances.

A *fragment* is a face at a pixel. With h_k = (w u, w v, w) the homogeneous pixel of corner k (w its depth z_k in a
perspective camera, 1 in an orthographic one) and G = [h_0 h_1 h_2]^-1, the vector g = G (x, y, 1) is linear in the
pixel and, inside the face, its perspective-correct barycentrics divided by depth (Olano and Greer, Triangle scan
conversion using 2D homogeneous coordinates, 1997): no corner needs to be in front of the camera. Outside the face,
negative parts are left out, as SoftRas does, so that a fragment shows a point of its face's border:

    b_k = max(g_k, 0) / sum_k max(g_k, 0),   z = sum_k b_k z_k,   C = what the face shows at b

A fragment whose z is beyond `far` does not count. The others are blended (Liu et al., ICCV 2019, eq. 4 and 5) by

    I = sum_j W_j C_j + W_b B,   W_j ~ D_j exp(z'_j / gamma),   W_b ~ exp(eps / gamma),   z' = (far - z) / (far - near)

over all faces j and the background B: the background is like a face that covers the pixel at depth
far - eps (far - near). Only differences of depths enter the exponential, so no gamma is too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .. import sums
from ..scene import Scene
from ..silhouettes import reference
from . import conorms, distributions
from .appearance import Appearance
from .modes import Modes


def images(scene: Scene, appearance: Appearance, modes: Modes) -> tuple[Tensor, Tensor, Tensor]:
    """Alpha (N, H, W), images (N, C, H, W) and nearest faces (N, H, W).

    The nearest face is the first that covers the pixel's centre, -1 where none does.
    """
    faces, height, width = scene.faces, scene.height, scene.width
    views = []
    for n in range(scene.K.shape[0]):
        K, flat, near = scene.K[n], bool(scene.orthographic[n]), scene.near[n]
        corners = scene.in_camera(n)[faces.long()]
        clipped, face = reference.clip_near(corners, near)
        polygons = reference.project(clipped, K, flat)
        order = reference.visible(polygons, scene.cull).nonzero()[:, 0]
        order = order[face[order].argsort()]
        polygons, face = polygons[order], face[order]
        view = _View(
            polygons,
            face,
            torch.linalg.inv(homogeneous_pixels(corners[face], K, flat)),
            corners[face, :, 2],
            appearance.of_view(n),
            modes,
            flat,
            float(near),
            float(appearance.far[n]),
            len(faces),
            min(height, width) / 2,
        )
        pixels = reference.pixel_centres(height, width, scene.vertices)
        step = max(1, reference.PAIRS // max(1, len(polygons)))
        blocks = [checkpoint(_render, view, block, use_reentrant=False) for block in pixels.split(step)]
        alpha, image, nearest = (torch.cat(x) for x in zip(*blocks, strict=True))
        views.append((alpha.view(height, width), image.T.reshape(-1, height, width), nearest.view(height, width)))
    return stacked(scene, appearance, views)


def stacked(
    scene: Scene, appearance: Appearance, views: Sequence[tuple[Tensor, Tensor, Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Alpha, image and nearest faces of all cameras, of which there may be none."""
    if not views:
        nothing = reference.nothing(scene)
        return nothing, nothing[:, None].expand(-1, appearance.background.shape[-1], -1, -1), nothing.int()
    alpha, image, nearest = (torch.stack(x) for x in zip(*views, strict=True))
    return alpha, image, nearest


def homogeneous_pixels(corners: Tensor, K: Tensor, orthographic: bool) -> Tensor:
    """(F, 3, 3) matrices with the columns h_k, see above, of camera-space corners (F, 3, 3)."""
    last = K.new_tensor([0.0, 0.0, 1.0])
    if orthographic:
        corners = torch.cat([corners[..., :2], torch.ones_like(corners[..., 2:])], -1)
    pixels = sums.transformed(corners.reshape(-1, 3), torch.cat([K[:2], last[None]]))
    return pixels.reshape(corners.shape).transpose(1, 2)


@dataclass(frozen=True, eq=False)
class _View:
    """The visible polygons of one camera and how they are drawn.

    polygons: (G, 4, 2) in pixels. face: (G,) the face of each. inverse: (G, 3, 3) the matrix G above. depths: (G, 3) of
    the faces' corners. faces: how many the mesh has. half: pixels of one unit of NDC.
    """

    polygons: Tensor
    face: Tensor
    inverse: Tensor
    depths: Tensor
    appearance: Appearance
    modes: Modes
    orthographic: bool
    near: float
    far: float
    faces: int
    half: float


def _render(view: _View, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Alpha (P,), image (P, C) and nearest faces (P,) at pixel centres (P, 2)."""
    modes = view.modes
    covered, clear, counts, inside = coverages(view.polygons, pixels, modes, view.half)
    g = (pixels @ view.inverse[:, :, :2].transpose(1, 2) + view.inverse[:, None, :, 2]).transpose(0, 1)  # (P, G, 3)
    positive = g.clamp_min(0)
    total = positive.sum(-1, keepdim=True)
    shown = total[..., 0] > 0  # false beyond the horizon of a face with corners behind the camera
    barycentrics = positive / torch.where(total > 0, total, 1)
    z = torch.where(shown, (barycentrics * view.depths).sum(-1), view.near).clamp_min(view.near)
    inside = inside & (z <= view.far)
    counts = counts & (z <= view.far)
    alpha = conorms.fold(
        torch.where(counts, covered, 0),
        torch.where(counts, clear, 1),
        modes.conorm,
        modes.power if conorms.CONORMS[modes.conorm].domain else None,
        faces=view.faces,
    )
    depth = view.far - view.near
    background = view.far - modes.eps * depth
    log_weight = (background - z) / (modes.gamma * depth) + torch.where(counts, covered, 1).log()
    log_weight = torch.where(counts & shown, log_weight, -torch.inf)
    weight = torch.cat([log_weight, log_weight.new_zeros(len(pixels), 1)], 1).softmax(1)
    shown_colours = view.appearance.shown(view.face.expand_as(z), barycentrics, z, view.orthographic)
    colours = torch.cat([shown_colours, view.appearance.background.expand(len(pixels), 1, -1)], 1)
    nearest = torch.where(inside, z.detach(), torch.inf)
    face = view.face.expand_as(nearest)
    first = torch.where(nearest == nearest.amin(1, keepdim=True), face, view.faces).amin(1) if len(view.face) else None
    covers = inside.any(1)
    ids = torch.full_like(covers, -1, dtype=torch.int32) if first is None else torch.where(covers, first, -1).int()
    return alpha, (weight[..., None] * colours).sum(1), ids


def coverages(polygons: Tensor, pixels: Tensor, modes: Modes, half: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """D, 1 - D, whether the face counts, and whether it covers the pixel's centre; each (P, G)."""
    distance2, inside = reference.edge_distances(polygons, pixels)
    if modes.distance == "hard":
        covered = inside.to(pixels)
        return covered, 1 - covered, inside, inside
    if modes.distance == "barycentric":
        m = reference.barycentric_distance(polygons, pixels)
        u = m.abs() * m if modes.squared else m
    else:
        nearest = distance2.min(2).values
        u = torch.where(inside, nearest, -nearest) / half**2
        if not modes.squared:
            # On the outline itself the root has an infinite derivative: its gradient is zero there.
            root = torch.where(nearest > 0, nearest, 1).sqrt()
            u = torch.where(nearest > 0, torch.where(inside, root, -root), 0) / half
    u = u / modes.sigma
    covered, clear = distributions.coverage(u, modes.distribution, shape=modes.shape, shift=modes.shift)
    return covered, clear, u > modes.cutoff, inside

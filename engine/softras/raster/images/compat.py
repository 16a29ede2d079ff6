"""Images as SoftRas's public code makes them, quirks included, to compare with published results. In plain torch.

SoftRas's public code is the one published with Liu et al., Soft Rasterizer, ICCV 2019. It differs from `softras.images`
as follows:

- Nothing is clipped. A face outside [near, far], even behind the camera, contributes to alpha, without a gradient.
- Colours and texels are taken at the affine barycentrics w of the picture, clipped to 0..1 and divided by their sum.
  Depths are 1 / sum_k w_k / z_k, in orthographic cameras too.
- The weight of the background is exp(2 eps / gamma), computed from exp(eps / gamma): in float32, a gamma below
  eps / 88.7 (1.13e-5 by default) overflows, and all images are NaN.
- A face without area is not left out: its doubled area, in NDC, is taken for 1e-10. That moves its barycentrics, and
  with them the pixel, towards the middle of the image. If it lies on a line through the middle it covers its bounding
  box by one half.
- Culling removes the colours of a face, but not its alpha.
- The gradient of colours holds w fixed, both in the colours and in the depths. The gradient of "hard" alpha is that of
  the sum of all D. The gradient of "prod" divides by 1 - D, or by 1e-6 if that is less.
- With barycentric distances, too, a face counts only within the Euclidean cut-off distance of its bounding box.

SoftRas's memory errors are not reproduced: there, gradients of textures are added to wrong texels, and on the border of
a face the index of a texel leaves its row. Here both are as in `softras.images`. Images need not be square. As there, a
vertex at depth 0 gives NaN, and faces far smaller than the image are inexact in float32; compare in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..scene import Scene
from ..silhouettes import reference
from . import textures
from .appearance import Appearance
from .modes import Modes
from .reference import stacked

LEAST_AREA = 1e-10  # the least doubled area of a face, in squared NDC
LEAST_SUM = 1e-5  # the least sum by which clipped barycentrics are divided
LEAST_CLEAR = 1e-6  # the least 1 - D by which the gradient of a product divides
CONORMS = ("probabilistic", "sum", "hard")  # what SoftRas calls prod, sum and hard

NEAR, FAR = 1.0, 100.0  # SoftRas's default depths of the near and far planes, in scene units


def check(modes: Modes, appearance: Appearance) -> None:
    """Raise ValueError for modes and textures that SoftRas does not have."""
    lacks = {
        "UV textures": appearance.choices.texture == textures.CHAIN,
        "light beside a texture": bool(appearance.choices.lit),
        "unsquared distances": not modes.squared,
        f"distribution '{modes.distribution}'": modes.distribution != "logistic",
        "shift of the distribution": modes.shift != 0,
        f"aggregation '{modes.conorm}'": modes.conorm not in CONORMS,
    }
    for what, asked in lacks.items():
        if asked:
            raise ValueError(f"SoftRas has no {what}; leave it out, or softras_compat")


def images(scene: Scene, appearance: Appearance, modes: Modes, colour: str) -> tuple[Tensor, Tensor, Tensor]:
    """Alpha (N, H, W), images (N, C, H, W) and nearest faces (N, H, W). Differentiable once.

    The nearest face is the first that covers the pixel's centre, -1 where none does. With cull, back faces are those
    that show their back in space, also where K mirrors the picture, as K of SoftRas's own cameras does.
    """
    check(modes, appearance)
    faces, height, width = scene.faces, scene.height, scene.width
    views = []
    pixels = _ndc(reference.pixel_centres(height, width, scene.vertices), height, width)
    for n in range(scene.K.shape[0]):
        K = scene.K[n]
        corners = scene.in_camera(n)[faces.long()]
        xy = _ndc(reference.project(corners, K, bool(scene.orthographic[n])), height, width)
        view = _View(
            xy,
            corners[..., 2],
            _inverse(xy.detach()),
            _area(xy.detach()) * torch.linalg.det(K[:2, :2].detach()) > 0,
            appearance.of_view(n),
            modes,
            colour == "hard",
            float(scene.near[n]),
            float(appearance.far[n]),
            scene.cull,
        )
        blocks = pixels.split(max(1, reference.PAIRS // max(1, len(faces))))
        parts = [checkpoint(_render, view, block, use_reentrant=False) for block in blocks]
        alpha, image, nearest = (torch.cat(x) for x in zip(*parts, strict=True))
        views.append((alpha.view(height, width), image.T.reshape(-1, height, width), nearest.view(height, width)))
    return stacked(scene, appearance, views)


def _ndc(pixels: Tensor, height: int, width: int) -> Tensor:
    """NDC, y up, of pixels (..., 2)."""
    scale = 2 / min(height, width)
    return (pixels - pixels.new_tensor([width / 2, height / 2])) * pixels.new_tensor([scale, -scale])


def _area(xy: Tensor) -> Tensor:
    """(F,) twice the signed area of triangles (F, 3, 2), positive counter-clockwise in y-up NDC."""
    a, b = xy[:, 1] - xy[:, 0], xy[:, 2] - xy[:, 0]
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _inverse(xy: Tensor) -> Tensor:
    """(F, 3, 3) matrices from (x, y, 1) to barycentrics of triangles (F, 3, 2): the adjugate over the doubled area."""
    following, last = xy.roll(-1, 1), xy.roll(-2, 1)
    constant = following[..., 0] * last[..., 1] - last[..., 0] * following[..., 1]
    adjugate = torch.stack([following[..., 1] - last[..., 1], last[..., 0] - following[..., 0], constant], -1)
    area = _area(xy)
    bounded = torch.where(area > 0, area.clamp_min(LEAST_AREA), area.clamp_max(-LEAST_AREA))
    return adjugate / bounded[:, None, None]


@dataclass(frozen=True, eq=False)
class _View:
    """The faces of one camera and how they are drawn.

    xy: (F, 3, 2) in NDC. depths: (F, 3) of the corners. inverse: (F, 3, 3) from pixels to barycentrics. front: (F,)
    whether the face shows its front. hard: colour "hard".
    """

    xy: Tensor
    depths: Tensor
    inverse: Tensor
    front: Tensor
    appearance: Appearance
    modes: Modes
    hard: bool
    near: float
    far: float
    cull: bool


class _Coverage(NamedTuple):
    """Of each pixel and face (P, F): D, whether the face counts, and whether it covers the pixel's centre."""

    covered: Tensor
    counts: Tensor
    inside: Tensor


def _render(view: _View, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Alpha (P,), image (P, C) and nearest faces (P,) at pixel centres (P, 2) in NDC."""
    w = (pixels @ view.inverse[:, :, :2].transpose(1, 2) + view.inverse[:, None, :, 2]).transpose(0, 1)  # (P, F, 3)
    covered, counts, inside = _coverages(view, pixels, w)
    clipped = w.clamp(0, 1)
    clipped = clipped / clipped.sum(-1, keepdim=True).clamp_min(LEAST_SUM)
    inverse_depth = (clipped / view.depths).sum(-1)
    z = 1 / inverse_depth.detach()
    between = (z >= view.near) & (z <= view.far)
    alpha = _alpha(torch.where(counts, torch.where(between, covered, covered.detach()), 0), view.modes.conorm)

    shows = counts & between & (view.front if view.cull else True)
    depth = torch.cat([torch.where(shows & inside, z, torch.inf), z.new_full((len(z), 1), torch.inf)], 1)
    least, first = depth.amin(1, keepdim=True), torch.arange(depth.shape[1], device=z.device)
    first = torch.where(depth == least, first, depth.shape[1]).amin(1)
    nearest = torch.where(least[:, 0] < torch.inf, first, -1)
    if view.hard:
        image = view.appearance.background.expand(len(pixels), -1)
        hit = (nearest >= 0).nonzero()[:, 0]
        face = nearest[hit]
        image = image.index_put((hit,), view.appearance.shown(face, clipped[hit, face], z[hit, face], False))
        return alpha, image, nearest.int()

    modes, length = view.modes, view.far - view.near
    closeness = (view.far - 1 / torch.where(shows, inverse_depth, 1)) / length
    background = z.new_full((len(z), 1), modes.eps)
    top = torch.cat([torch.where(shows, closeness.detach(), modes.eps), background], 1).amax(1, keepdim=True)
    weight = torch.where(shows, covered * ((torch.where(shows, closeness, top) - top) / modes.gamma).exp(), 0)
    behind = z.new_tensor(modes.eps / modes.gamma).exp() * ((background - top) / modes.gamma).exp()
    faces = torch.arange(len(view.xy), device=z.device).expand_as(z)
    colours = (weight[..., None] * view.appearance.shown(faces, clipped, z, False)).sum(1)
    image = (colours + behind * view.appearance.background) / (weight.sum(1, keepdim=True) + behind)
    return alpha, image, nearest.int()


def _coverages(view: _View, pixels: Tensor, w: Tensor) -> _Coverage:
    """The coverages at pixels (P, 2) in NDC with barycentrics w (P, F, 3); only D has a gradient."""
    inside = ((w >= 0) & (w <= 1)).all(2)
    if view.modes.distance == "hard":
        return _Coverage(inside.to(w), inside, inside)
    if view.modes.distance == "barycentric":
        least, index = w.min(2)
        # A motion of the corners changes w as the opposite motion of the pixel would.
        motion = (w[..., None] * (view.xy - view.xy.detach())).sum(2)
        slope = view.inverse[torch.arange(len(view.xy), device=w.device), index, :2]
        m = least - (slope * motion).sum(2)
        distance2, within = m * m, least > 0
    else:
        within = ((w > 0) & (w < 1)).all(2)
        distance2 = _edge_distance(view.xy, w)
    signed = torch.where(within, distance2, -distance2) / view.modes.sigma
    radius = view.modes.radius
    low, high = view.xy.detach().amin(1) - radius, view.xy.detach().amax(1) + radius
    boxed = ((pixels[:, None] >= low) & (pixels[:, None] <= high)).all(2)
    return _Coverage(torch.sigmoid(signed), boxed & (signed > view.modes.cutoff), inside)


def _edge_distance(xy: Tensor, w: Tensor) -> Tensor:
    """(P, F) squared distance of points with barycentrics w (P, F, 3) from the nearest edge of triangles (F, 3, 2)."""
    start = xy.detach()
    edge = start.roll(-1, 1) - start
    point = (w[..., None] * start).sum(2)  # the pixel itself, unless the face has no area
    length2 = (edge**2).sum(2)
    t = ((point[:, :, None] - start) * edge).sum(3) / torch.where(length2 > 0, length2, 1)
    t = t.clamp(0, 1)
    nearest = ((start + t[..., None] * edge - point[:, :, None]) ** 2).sum(3).argmin(2, keepdim=True)
    t = t.gather(2, nearest)
    foot = torch.zeros_like(w).scatter(2, nearest, 1 - t).scatter(2, (nearest + 1) % 3, t)
    return (((foot[..., None] * xy).sum(2) - point) ** 2).sum(2)


def _alpha(covered: Tensor, conorm: str) -> Tensor:
    """Alpha (P,) of coverages (P, F), with SoftRas's gradients."""
    if conorm == "sum":
        return covered.sum(1) / max(1, covered.shape[1])
    if conorm == "hard":
        return (covered > 0.5).any(1).to(covered) + (covered - covered.detach()).sum(1)
    clear = 1 - covered.detach()
    product = clear.prod(1)
    return 1 - product * (1 - ((covered - covered.detach()) / clear.clamp_min(LEAST_CLEAR)).sum(1))

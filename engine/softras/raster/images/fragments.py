"""The nearest face at each pixel: the point on it at the pixel's centre, and what the face shows there.

Plain torch on the numbers of the nearest faces, which the rasterizer finds. Everything is differentiable but the choice
of the face.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import InputError
from .. import arguments, sums, transforms
from ..scene import Scene
from ..silhouettes import reference
from .appearance import Appearance
from .reference import homogeneous_pixels


class Fragments(NamedTuple):
    """The point of the nearest face at the centre of each pixel.

    nearest: (N, H, W) int32, the face, -1 for none.
    barycentrics: (N, H, W, 3) of the point, perspective-correct; 0 where there is no face.
    depth: (N, H, W) of the point; infinite where there is no face.
    """

    nearest: Tensor
    barycentrics: Tensor
    depth: Tensor


def fragments_of(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    nearest: Tensor | None,
    orthographic: Tensor | None = None,
) -> Fragments:
    """Barycentrics and depths of the pixels' centres on the nearest faces.

    With h_k the homogeneous pixels of the corners (reference.py), the barycentrics of a pixel p are in the ratio of
    (h_l x h_m) . p. That holds for corners behind the camera too.

    Args:
        vertices, faces, K, world_to_camera, orthographic: as for `softras.silhouettes`.
        nearest: (N, H, W) int32, as `softras.images` gives it.
    """
    if nearest is None:
        raise InputError("nearest is missing; ask softras.images for it with nearest=True")
    transforms.refuse_vmap("what the nearest faces show (colour='hard', softras.fragments_of)", vertices, nearest, K)
    n = arguments.mesh_in_cameras(vertices, faces, K, world_to_camera)
    if arguments.tensor("nearest", nearest).dim() != 3 or len(nearest) != n or nearest.is_floating_point():
        raise InputError(f"nearest must be faces' numbers of shape ({n}, H, W), as softras.images gives them")
    height, width = nearest.shape[1:]
    pixels = reference.pixel_centres(height, width, vertices).view(height, width, 2)
    covered = nearest >= 0
    barycentrics, depth = [], []
    for i in range(n):
        world = vertices if vertices.dim() == 2 else vertices[i]
        camera = sums.transformed(world, world_to_camera[i, :3])
        corners = sums.rows(camera, faces[nearest[i][covered[i]].long()].long())  # (M, 3, 3)
        h = homogeneous_pixels(corners, K[i], orthographic is not None and bool(orthographic[i])).transpose(1, 2)
        at = pixels[covered[i]]
        at = torch.cat([at, torch.ones_like(at[:, :1])], 1)
        parts = (torch.linalg.cross(h.roll(-1, 1), h.roll(-2, 1)) * at[:, None]).sum(2)
        parts = parts / parts.sum(1, keepdim=True)
        b, z = vertices.new_zeros(height, width, 3), vertices.new_full((height, width), torch.inf)
        barycentrics.append(b.index_put((covered[i],), parts))
        depth.append(z.index_put((covered[i],), (parts * corners[..., 2]).sum(1)))
    if not n:
        return Fragments(nearest, vertices.new_zeros(*nearest.shape, 3), vertices.new_zeros(nearest.shape))
    return Fragments(nearest, torch.stack(barycentrics), torch.stack(depth))


def shade(scene: Scene, nearest: Tensor, appearance: Appearance) -> Tensor:
    """(N, C, H, W) what the nearest faces show at the pixels' centres; the background where there is no face."""
    moving = scene.vertices, scene.faces, scene.K, scene.world_to_camera
    at = fragments_of(*moving, nearest, scene.orthographic)
    images = []
    for n in range(len(nearest)):
        view, covered = appearance.of_view(n), nearest[n] >= 0
        face, barycentrics, depth = nearest[n][covered].long(), at.barycentrics[n][covered], at.depth[n][covered]
        shown = view.shown(face, barycentrics, depth, bool(scene.orthographic[n]))
        background = sums.spread(view.background, 0, covered.numel()).unflatten(0, covered.shape)
        image = background.index_put((covered,), shown)
        images.append(image.permute(2, 0, 1))
    if not images:
        return appearance.background.new_zeros(0, appearance.background.shape[1], *nearest.shape[1:])
    return torch.stack(images)

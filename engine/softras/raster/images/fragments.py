"""The nearest face at each pixel, hard and sharp: where on it the pixel looks, and what is seen there.

Plain torch on the face numbers that the rasterizer gives: differentiable with respect to everything but which face is
seen.
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
    """Where each pixel's centre looks.

    nearest: (N, H, W) int32, -1 for none. barycentrics: (N, H, W, 3), perspective-correct, 0 where there is no face.
    depth: (N, H, W), infinite where there is none.
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
    """Barycentrics and depths of pixels on the faces that they see.

    With h_k the homogeneous pixels of the corners, a pixel p has barycentrics in the ratio of (h_l x h_m) . p, which
    holds for corners behind the camera too (reference.py).

    Args:
        vertices, faces, K, world_to_camera, orthographic: as for :func:`softras.silhouettes`.
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
    seen = nearest >= 0
    barycentrics, depth = [], []
    for i in range(n):
        world = vertices if vertices.dim() == 2 else vertices[i]
        camera = sums.transformed(world, world_to_camera[i, :3])
        corners = sums.rows(camera, faces[nearest[i][seen[i]].long()].long())  # (M, 3, 3)
        h = homogeneous_pixels(corners, K[i], orthographic is not None and bool(orthographic[i])).transpose(1, 2)
        at = pixels[seen[i]]
        at = torch.cat([at, torch.ones_like(at[:, :1])], 1)
        parts = (torch.linalg.cross(h.roll(-1, 1), h.roll(-2, 1)) * at[:, None]).sum(2)
        parts = parts / parts.sum(1, keepdim=True)
        b, z = vertices.new_zeros(height, width, 3), vertices.new_full((height, width), torch.inf)
        barycentrics.append(b.index_put((seen[i],), parts))
        depth.append(z.index_put((seen[i],), (parts * corners[..., 2]).sum(1)))
    if not n:
        return Fragments(nearest, vertices.new_zeros(*nearest.shape, 3), vertices.new_zeros(nearest.shape))
    return Fragments(nearest, torch.stack(barycentrics), torch.stack(depth))


def shade(scene: Scene, nearest: Tensor, appearance: Appearance) -> Tensor:
    """(N, C, H, W) what the nearest faces show at the pixels' centres, and the background where there is none."""
    moving = scene.vertices, scene.faces, scene.K, scene.world_to_camera
    at = fragments_of(*moving, nearest, scene.orthographic)
    images = []
    for n in range(len(nearest)):
        view, seen = appearance.of_view(n), nearest[n] >= 0
        face = nearest[n][seen].long()
        shown = view.shown(face, at.barycentrics[n][seen], at.depth[n][seen], bool(scene.orthographic[n]))
        image = sums.spread(view.background, 0, seen.numel()).unflatten(0, seen.shape).index_put((seen,), shown)
        images.append(image.permute(2, 0, 1))
    if not images:
        return appearance.background.new_zeros(0, appearance.background.shape[1], *nearest.shape[1:])
    return torch.stack(images)

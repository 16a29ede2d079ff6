"""Hard images: what the nearest face shows at each pixel's centre."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..raster.images.ops import images
from ..raster.scene import Scene
from ..raster.silhouettes import reference


class HardImages(NamedTuple):
    """alpha: (N, H, W), 1 where a face covers the pixel's centre. image: (N, C, H, W), C = 0 without attributes."""

    alpha: Tensor
    image: Tensor


class ZBuffer(NamedTuple):
    """The nearest faces in the N views of a scene, and the projected vertices.

    pixels: (N, V, 2) of the vertices, differentiable with respect to vertices and cameras.
    depth: (N, V) of the vertices.
    nearest: (N, H, W) int, the nearest face at each pixel's centre, -1 for none.
    layers: (N, 1 + C, H, W) alpha and image, without a gradient to the geometry.
    """

    scene: Scene
    pixels: Tensor
    depth: Tensor
    nearest: Tensor
    layers: Tensor


def zbuffer(scene: Scene, attributes: Tensor | None, background: float, far: Tensor | float) -> ZBuffer:
    """The z-buffer of a scene. attributes: (V, C) or (N, V, C) of the vertices, or None; the rest as in `images`."""
    vertices, K, world_to_camera = scene.vertices, scene.K, scene.world_to_camera
    rendering = images(
        vertices.detach(), scene.faces, K.detach(), world_to_camera.detach(), scene.height, scene.width,
        attributes=attributes, background=background, near=scene.near, far=far, orthographic=scene.orthographic,
        distance="hard", colour="hard", nearest=True,
    )  # fmt: skip
    nearest = rendering.nearest
    assert nearest is not None
    alpha = (nearest >= 0).to(vertices.dtype)
    sets = vertices.expand(len(K), *vertices.shape[-2:])
    camera = sets @ world_to_camera[:, :3, :3].transpose(1, 2) + world_to_camera[:, None, :3, 3]
    orthographic = scene.orthographic.tolist()
    pixels = torch.stack([reference.project(camera[n], K[n], orthographic[n]) for n in range(len(K))])
    layers = torch.cat([alpha[:, None], rendering.image], dim=1) if attributes is not None else alpha[:, None]
    return ZBuffer(scene, pixels, camera[..., 2].detach(), nearest.long(), layers)


def screen_barycentrics(corners: Tensor, points: Tensor) -> Tensor:
    """(M, 3) affine coordinates of points (M, 2) in triangles (M, 3, 2)."""
    a, b, c = corners.unbind(1)

    def cross(u: Tensor, v: Tensor) -> Tensor:
        return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]

    parts = torch.stack(
        [cross(b - points, c - points), cross(c - points, a - points), cross(a - points, b - points)], 1
    )
    return parts / parts.sum(1, keepdim=True)


__all__ = ["HardImages", "ZBuffer", "screen_barycentrics", "zbuffer"]

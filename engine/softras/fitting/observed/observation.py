"""What views show of an object at one resolution: square crops around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...camera import Camera
from ...errors import InputError
from ...render.silhouette import camera_tensors
from ...views import View
from .observed_view import Box, images_of
from .renderer import Cameras, Renderer
from .unit import UnitSpace

MARGIN = 0.06  # The crop goes beyond the object by this share of the object's longer side, on each side,
MARGIN_PIXELS = 2.0  # and by so many pixels of the image more.
MAX_ENLARGEMENT = 2.0  # A pixel of the mask becomes at most so many pixels of the crop each way.
MIN_RESOLUTION = 16  # pixels of a side of a crop, however small the masks are


@dataclass(frozen=True, eq=False)
class Observation:
    """What N views show, at S x S pixels.

    Attributes:
        views: the views.
        boxes: the box of pixels of each view's image that its crop shows.
        masks: (N, 2, S, S): the mask where it is known, and how much of the pixel is known (not ignored and inside
            the image), 0..1.
        cameras: the cameras of the crops, in unit space, as a `Renderer` takes them.
    """

    views: Sequence[View]
    boxes: Sequence[Box]
    masks: Tensor
    cameras: Cameras

    @property
    def resolution(self) -> int:
        """Side of a crop in pixels."""
        return self.masks.shape[-1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a crop in pixels."""
        return self.resolution, self.resolution

    @cached_property
    def photos(self) -> Tensor:
        """(N, 3, S, S) colours of the photographs in 0..1, black outside the images; read when first asked for.

        Raises InputError where a view has no photograph, or one that cannot be read.
        """
        for view in self.views:
            if view.photo is None:
                raise InputError(f"view '{view.name}' has no photograph, which a term of this fit looks at; give one.")
        colours = [images_of(v).mean_photo(box, self.resolution) for v, box in zip(self.views, self.boxes, strict=True)]
        return torch.as_tensor(np.stack(colours), dtype=self.masks.dtype, device=self.masks.device)

    def render(
        self, renderer: Renderer, vertices: Tensor, faces: Tensor, views: Tensor, *, blur: float, cull: bool
    ) -> Tensor:
        """(B, S, S) silhouettes in the views of the given indices (B,)."""
        cameras = {name: rows[views.to(rows.device)] for name, rows in self.cameras.items()}
        return renderer.alpha(vertices, faces, cameras, self.size, blur=blur, cull=cull)

    def masks_of(self, views: Tensor) -> list[Tensor]:
        """(2, S, S) of each view of the given indices, without copying."""
        return [self.masks[i] for i in views.tolist()]


def observe(
    views: Sequence[View], vertices: np.ndarray, unit: UnitSpace, resolution: int, device: torch.device
) -> Observation:
    """Crops that hold the mask and the visible part of the object; `vertices` (V, 3) are world points.

    The resolution is lowered to MAX_ENLARGEMENT pixels per mask pixel where the masks are coarser than that.
    """
    boxes = [crop_box(view, vertices) for view in views]
    side = max(box[2] - box[0] for box in boxes)
    resolution = max(MIN_RESOLUTION, min(resolution, int(np.ceil(MAX_ENLARGEMENT * side))))
    masks = np.empty((len(views), 2, resolution, resolution), np.float32)
    for out, view, box in zip(masks, views, boxes, strict=True):
        mean, out[1] = images_of(view).mean_mask(box, resolution)
        out[0] = mean * out[1]
    cameras = [
        unit.camera(view.camera).crop(*box, resolution, resolution) for view, box in zip(views, boxes, strict=True)
    ]
    tensors = camera_tensors(cameras, torch.float32, device)
    return Observation(views, boxes, torch.as_tensor(masks, device=device), tensors)


def crop_box(view: View, vertices: np.ndarray | None = None) -> Box:
    """The square around the mask and what the image shows of (V, 3) world points, with a margin."""
    low, high = images_of(view).bounds
    if vertices is not None:
        pixels = visible_pixels(view.camera, vertices)
        if len(pixels):
            image = (view.camera.width, view.camera.height)
            low = np.minimum(low, np.clip(pixels.min(axis=0), 0, image))
            high = np.maximum(high, np.clip(pixels.max(axis=0), 0, image))
    centre, half = (low + high) / 2, (high - low).max() / 2 * (1 + 2 * MARGIN) + MARGIN_PIXELS
    return (*(centre - half), *(centre + half))


def visible_pixels(camera: Camera, points: np.ndarray) -> np.ndarray:
    """(P, 2) pixels of those (V, 3) world points that are in front of the camera."""
    return camera.project(points[camera.to_camera(points)[:, 2] > camera.near])

"""Square crops of the views around the object, resampled to one resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...camera import Camera
from ...render.silhouette import camera_tensors
from ...views import View
from .observed_view import images_of
from .renderer import Cameras, Renderer
from .unit import UnitSpace

MARGIN = 0.06  # of the object's side, on each side
PIXELS = 2.0  # more on each side
FINEST = 2.0  # crop pixels per mask pixel, at most


@dataclass(frozen=True, eq=False)
class Crops:
    """What N views show, at S x S pixels.

    Attributes:
        masks: (N, 2, S, S): the mask where it is known, and how much of the pixel is known (not ignored and inside
            the image), 0..1.
        cameras: the cameras of the crops, in unit space, as a `Renderer` takes them.
    """

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

    def render(
        self, renderer: Renderer, vertices: Tensor, faces: Tensor, views: Tensor, *, blur: float, cull: bool
    ) -> Tensor:
        """(B, S, S) silhouettes in the views of the given indices (B,)."""
        cameras = {name: rows[views.to(rows.device)] for name, rows in self.cameras.items()}
        return renderer.alpha(vertices, faces, cameras, self.size, blur=blur, cull=cull)

    def masks_of(self, views: Tensor) -> list[Tensor]:
        """(2, S, S) of each view of the given indices, without copying."""
        return [self.masks[i] for i in views.tolist()]


def crop_views(
    views: Sequence[View], vertices: np.ndarray, unit: UnitSpace, resolution: int, device: torch.device
) -> Crops:
    """Crops that hold the mask and the visible part of the object; `vertices` (V, 3) are world points.

    The resolution is lowered to FINEST pixels per mask pixel where the masks are coarser than that.
    """
    boxes = [crop_box(view, vertices) for view in views]
    side = max(box[2] - box[0] for box in boxes)
    resolution = max(16, min(resolution, int(np.ceil(FINEST * side))))
    masks = np.empty((len(views), 2, resolution, resolution), np.float32)
    for out, view, box in zip(masks, views, boxes, strict=True):
        mean, out[1] = resample(view, box, resolution)
        out[0] = mean * out[1]
    cameras = [
        unit.camera(view.camera).crop(*box, resolution, resolution) for view, box in zip(views, boxes, strict=True)
    ]
    return Crops(torch.as_tensor(masks, device=device), camera_tensors(cameras, torch.float32, device))


def crop_box(view: View, vertices: np.ndarray | None = None) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of the square around the mask and what the image shows of (V, 3) world points, with a margin."""
    rows, columns = mask_bounds(view)
    low, high = np.array([columns[0], rows[0]], float), np.array([columns[1], rows[1]], float)
    if vertices is not None:
        pixels = visible_pixels(view.camera, vertices)
        if len(pixels):
            image = (view.camera.width, view.camera.height)
            low = np.minimum(low, np.clip(pixels.min(axis=0), 0, image))
            high = np.maximum(high, np.clip(pixels.max(axis=0), 0, image))
    centre, half = (low + high) / 2, (high - low).max() / 2 * (1 + 2 * MARGIN) + PIXELS
    return (*(centre - half), *(centre + half))


def visible_pixels(camera: Camera, points: np.ndarray) -> np.ndarray:
    """(P, 2) pixels of those (V, 3) world points that are in front of the camera."""
    return camera.project(points[camera.to_camera(points)[:, 2] > camera.near])


def mask_bounds(view: View) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last + 1 row, and column, of the mask's object; of the image where the mask shows none."""
    return images_of(view).bounds


def resample(view: View, box: tuple[float, float, float, float], resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """The mask in a box of pixels, averaged over resolution x resolution cells: see `ViewImages.mean_mask`."""
    return images_of(view).mean_mask(box, resolution)

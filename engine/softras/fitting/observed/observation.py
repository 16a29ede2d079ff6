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
from ...raster.sums import whole
from ...render.silhouette import camera_tensors
from ...views import View
from .comparison import Comparison, compared
from .observed_view import Box, images_of
from .renderer import Cameras, Renderer
from .unit import UnitSpace

MARGIN = 0.06  # On each side, a crop extends beyond the object by this share of the object's longer side,
MARGIN_PIXELS = 2.0  # and by so many further pixels of the image.
MAX_ENLARGEMENT = 2.0  # A crop has at most so many pixels for each pixel of the mask along a side.
MIN_RESOLUTION = 16  # A crop has at least so many pixels a side, however small the masks are.


@dataclass(frozen=True, eq=False)
class Observation:
    """What N views show of an object, in square crops of S x S pixels.

    Attributes:
        views: the N views.
        boxes: for each view the box of its image that the crop shows, in pixels of the image.
        masks: (N, 2, S, S) k t and k for each pixel of a crop: its mask t, and its knownness k, the share of the pixel
            that is neither ignored nor outside the image; both in 0..1.
        cameras: the cameras of the crops, in unit space, as a `Renderer` takes them.
        of_areas: whether the silhouettes are areas, which change with the mesh on the outline alone.
    """

    views: Sequence[View]
    boxes: Sequence[Box]
    masks: Tensor
    cameras: Cameras
    of_areas: bool = False

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
        """(N, 3, S, S) colours of the photographs in 0..1, black outside the images; read at the first use.

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
        """(B, S, S) silhouettes of a mesh in the crops of some views, given by their indices (B,)."""
        cameras = {name: rows[views.to(rows.device)] for name, rows in self.cameras.items()}
        return renderer.alpha(vertices, faces, cameras, self.size, blur=blur, cull=cull)

    def compared(self, alpha: Tensor, views: Tensor) -> Comparison:
        """How silhouettes (B, S, S) in the crops of some views, given by their indices (B,), match the masks there."""
        return compared(alpha, self.masks, views, self.areas, outline=self.of_areas)

    @cached_property
    def areas(self) -> Tensor:
        """(N,) of the known part of each mask, in pixels of the crop."""
        return torch.stack([whole(mask) for mask in self.masks[:, 0]])


def observe(
    views: Sequence[View], vertices: np.ndarray, unit: UnitSpace, resolution: int, renderer: Renderer
) -> Observation:
    """What the views show in crops that hold the mask and the visible part of the object.

    Args:
        vertices: (V, 3) world points of the object.
        unit: the space in which the crops' cameras are.
        resolution: pixels of a side; fewer where the masks are so coarse that MAX_ENLARGEMENT limits it.
        renderer: of the silhouettes that are drawn in the crops. Where it draws areas, a pixel of a crop is a square of
            whole pixels of the image, and the resolution is only about what is asked for.
    """
    boxes, device = [crop_box(view, vertices) for view in views], renderer.device
    if renderer.draws_areas:
        boxes, resolution = _of_whole_pixels(boxes, resolution)
    else:
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
    return Observation(views, boxes, torch.as_tensor(masks, device=device), tensors, renderer.draws_areas)


def crop_box(view: View, vertices: np.ndarray | None = None) -> Box:
    """The square, in pixels of the image, around the mask and around the visible ones of (V, 3) world points.

    It has a margin on all sides.
    """
    low, high = images_of(view).bounds
    if vertices is not None:
        pixels = visible_pixels(view.camera, vertices)
        if len(pixels):
            image = (view.camera.width, view.camera.height)
            low = np.minimum(low, np.clip(pixels.min(axis=0), 0, image))
            high = np.maximum(high, np.clip(pixels.max(axis=0), 0, image))
    centre, half = (low + high) / 2, (high - low).max() / 2 * (1 + 2 * MARGIN) + MARGIN_PIXELS
    return (*(centre - half), *(centre + half))


def _of_whole_pixels(boxes: Sequence[Box], cells: int) -> tuple[list[Box], int]:
    """Larger boxes, and about so many cells a side, of which each is a square of whole pixels.

    A mask tells how much of each of its pixels is covered, not where in the pixel. So its mean over whole pixels is the
    area that a mesh has to cover there, and over parts of pixels it is not.
    """
    sides = np.array([box[2] - box[0] for box in boxes])
    pixels = np.maximum(1, np.round(sides / cells).astype(int))  # along a side of a cell
    cells = max(MIN_RESOLUTION, int(np.ceil(sides / pixels).max()))
    corners = np.round([[(x0 + x1) / 2, (y0 + y1) / 2] for x0, y0, x1, y1 in boxes] - cells * pixels[:, None] / 2)
    ends = corners + cells * pixels[:, None]
    return [(*corner.tolist(), *end.tolist()) for corner, end in zip(corners, ends, strict=True)], cells


def visible_pixels(camera: Camera, points: np.ndarray) -> np.ndarray:
    """(P, 2) pixels of those of (V, 3) world points that are farther from the camera than its near distance."""
    seen = camera.to_camera(points)
    return camera.to_pixels(seen[seen[:, 2] > camera.near])

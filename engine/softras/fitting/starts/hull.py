"""A coarse mesh carved from the masks: the start of a reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
import torch

from ...errors import InputError
from ...mesh import Mesh
from ...raster.algebra import product
from ...views import View
from ..observed.observation import crop_box
from ..observed.observed_view import Box, images_of
from .placement import nearest_point_to_rays, wanted_size

MASK = 384  # pixels a side of the resampled masks, at most
TOLERANCE = 0.35  # mask pixels a mask may be wrong by: parts a pixel thick survive the carving
SEARCH = 40  # voxels a side while the object's bounds are sought


def carve(views: Sequence[View], voxels: int = 96) -> Mesh:
    """The largest piece of the visual hull on a grid with `voxels` along its longest side, as a closed mesh.

    The value at a grid point is the smallest signed distance, over the views, of its image to the mask's outline
    (world lengths, positive inside); the mesh is its zero level by marching cubes. What a view does not see
    (ignored, outside the image, behind the camera) it does not carve, but what fewer than half of them see is no
    object.

    Raises InputError when the views do not bound an object or leave nothing of it.
    """
    from skimage.measure import marching_cubes  # slow to load

    if len(views) < 2:
        raise InputError("reconstruct needs at least 2 views from different directions; add views or give a mesh.")
    outlines = [_Outline.of(view) for view in views]
    low, high = first_bounds(views)
    for _ in range(3):
        field, spacing = _field(outlines, low, high, SEARCH)
        occupied = np.argwhere(_largest(field > -spacing))
        if len(occupied) == 0:
            break
        low, high = low + spacing * (occupied.min(axis=0) - 1.5), low + spacing * (occupied.max(axis=0) + 1.5)
    field, spacing = _field(outlines, low, high, voxels)
    inside = _largest(field > 0)
    if inside.sum() < 8:
        raise InputError(
            "the masks leave nothing of the object when carved together; check that the cameras belong to the masks."
        )
    filled = scipy.ndimage.binary_fill_holes(inside)  # a cavity no view sees
    field = np.where(filled, np.maximum(field, 1e-3 * spacing), np.minimum(field, -1e-3 * spacing))
    field = np.pad(field, 1, constant_values=-spacing)
    vertices, faces, _, _ = marching_cubes(field, 0.0, spacing=(spacing,) * 3, gradient_direction="ascent")
    return Mesh(vertices + low - spacing, faces)


@dataclass(frozen=True, eq=False)
class _Outline:
    """Signed pixel distances to a mask's outline in its crop, and what is needed to look them up."""

    view: View
    box: Box
    distance: torch.Tensor  # (1, 1, S, S), positive inside or unknown

    @classmethod
    def of(cls, view: View) -> _Outline:
        box = crop_box(view)
        cells = min(MASK, int(np.ceil(2 * (box[2] - box[0]))))
        mask, known = images_of(view).mean_mask(box, cells)
        background = (known > 0.5) & (mask <= 0.5)
        inside = scipy.ndimage.distance_transform_edt(~background)
        outside = scipy.ndimage.distance_transform_edt(background)
        signed = (inside - outside + np.where(background, 0.5, -0.5)) * (box[2] - box[0]) / cells
        return cls(view, box, torch.as_tensor(signed + TOLERANCE, dtype=torch.float32)[None, None])

    def field(self, points: torch.Tensor, origin: np.ndarray) -> torch.Tensor:
        """(P,) signed world distances at origin + points (P, 3), +inf where the view does not tell."""
        camera = self.view.camera
        R, t = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3] + camera.world_to_camera[:3, :3] @ origin
        x, y, depth = (product(points, torch.tensor(R.T).to(points)) + torch.tensor(t).to(points)).unbind(dim=1)
        divisor = torch.ones_like(depth) if camera.orthographic else depth
        K = camera.K.tolist()
        u = (K[0][0] * x + K[0][1] * y) / divisor + K[0][2]
        v = (K[1][0] * x + K[1][1] * y) / divisor + K[1][2]
        x0, y0, x1, y1 = self.box
        grid = torch.stack([(u - x0) * (2 / (x1 - x0)) - 1, (v - y0) * (2 / (y1 - y0)) - 1], dim=1)
        pixels = torch.nn.functional.grid_sample(
            self.distance, grid[None, None], mode="bilinear", padding_mode="border", align_corners=False
        ).ravel()
        focal = float(np.sqrt(abs(np.linalg.det(camera.K[:2, :2]))))
        told = (depth > camera.near) & (u >= 0) & (u <= camera.width) & (v >= 0) & (v <= camera.height)
        return torch.where(told, pixels * divisor / focal, torch.inf)


def first_bounds(views: Sequence[View]) -> tuple[np.ndarray, np.ndarray]:
    """Corners (3,) of a cube that holds what the masks show, generously."""
    boxes = [images_of(view).bounds for view in views]
    cameras = [view.camera for view in views]
    middle = nearest_point_to_rays(cameras, [box.mean(axis=0) for box in boxes], near=np.zeros(3))
    half = 1.2 * max(wanted_size(camera, middle, box) for camera, box in zip(cameras, boxes, strict=True))
    return middle - half, middle + half


def _field(outlines: list[_Outline], low: np.ndarray, high: np.ndarray, voxels: int) -> tuple[np.ndarray, float]:
    """The signed distance on a grid of cubes from low to high, and the cubes' side."""
    spacing = float((high - low).max()) / (voxels - 1)
    shape = np.ceil((high - low) / spacing).astype(int) + 1
    points = (
        torch.stack(torch.meshgrid(*map(torch.arange, shape.tolist()), indexing="ij"), dim=-1).reshape(-1, 3) * spacing
    )
    field = torch.full((len(points),), torch.inf)
    seen = torch.zeros(len(points))
    for outline in outlines:
        distance = outline.field(points, low)
        seen += torch.isfinite(distance)
        field = torch.minimum(field, distance)
    field[seen < len(outlines) / 2] = -spacing
    return field.reshape(*shape).numpy(), spacing


def _largest(inside: np.ndarray) -> np.ndarray:
    """The largest connected piece of a bool grid."""
    labels, count = scipy.ndimage.label(inside)
    if count < 2:
        return inside
    return labels == 1 + np.bincount(labels.ravel())[1:].argmax()

"""The visual hull of the masks as a mesh: the start of a reconstruction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from ..observed.rays import focal_length, nearest_point_to_rays, wanted_size

MASK = 384  # Masks are averaged to at most so many cells a side before distances to their outlines are computed.
TOLERANCE = 0.35  # Outlines are moved outwards by so many pixels, so that parts one pixel thick survive the carving.
SLAB = 1 << 17  # At most about so many grid points are carved at a time, which bounds the memory.
SEARCH = 40  # The grid that narrows down the object's bounding box has so many voxels along its longest side.


def carve(views: Sequence[View], voxels: int = 96, ended: Callable[[], bool] = lambda: False) -> Mesh:
    """The largest connected piece of the visual hull as a closed mesh, from a grid of points in space.

    Each grid point is projected into every view, and its signed distance to the outline of that view's mask is taken
    (positive inside, as a length in the world at the point's depth). The smallest of these distances is the point's
    value, and marching cubes make a mesh of the zero level. A view says nothing of points that it ignores, that lie
    outside its image or behind its camera; points of which fewer than half of the views say anything count as empty.

    Args:
        voxels: how many grid points there are along the longest side of the hull's bounding box.
        ended: asked again and again whether the time is over; then the mesh is of a grid of some 40 voxels.

    Raises:
        InputError: fewer than two views, or masks that leave nothing of the object.
    """
    from skimage.measure import marching_cubes  # slow to load

    if len(views) < 2:
        raise InputError("reconstruct needs at least 2 views from different directions; add views or give a mesh.")
    outlines = [_Outline.of(view) for view in views]
    low, high = first_bounds(views)
    for _ in range(3):
        sampled = _sampled(outlines, low, high, SEARCH)
        assert sampled is not None, "only a grid that may end early is left out"
        coarse = sampled
        occupied = np.argwhere(_largest(coarse.values > -coarse.spacing))
        if len(occupied) == 0:
            break
        low, high = (coarse.low + coarse.spacing * corner for corner in (occupied.min(0) - 1.5, occupied.max(0) + 1.5))
    grid = _sampled(outlines, low, high, voxels, ended) or coarse
    field, spacing = grid.values, grid.spacing
    inside = _largest(field > 0)
    if inside.sum() < 8:
        raise InputError(
            "the masks leave nothing of the object when carved together; check that the cameras belong to the masks."
        )
    filled = scipy.ndimage.binary_fill_holes(inside)  # No view can see a closed cavity, so there is no evidence of one.
    field = np.where(filled, np.maximum(field, 1e-3 * spacing), np.minimum(field, -1e-3 * spacing))
    field = np.pad(field, 1, constant_values=-spacing)
    vertices, faces, _, _ = marching_cubes(field, 0.0, spacing=(spacing,) * 3, gradient_direction="ascent")
    return Mesh(vertices + grid.low - spacing, faces)


@dataclass(frozen=True, eq=False)
class _Outline:
    """Signed distances to the outline of one view's mask, in a crop around it.

    Attributes:
        view: the view.
        box: the box of the image that the crop shows.
        distance: (1, 1, S, S) distances in pixels of the image; positive inside the mask and where pixels are ignored.
    """

    view: View
    box: Box
    distance: torch.Tensor

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
        """(P,) signed distances in the world at origin + points (P, 3); +inf where the view says nothing of a point."""
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
        in_image = (depth > camera.near) & (u >= 0) & (u <= camera.width) & (v >= 0) & (v <= camera.height)
        return torch.where(in_image, pixels * divisor / focal_length(camera), torch.inf)


def first_bounds(views: Sequence[View]) -> tuple[np.ndarray, np.ndarray]:
    """The low and the high corner (3,) of a cube in the world that generously holds what the masks show."""
    boxes = [images_of(view).bounds for view in views]
    cameras = [view.camera for view in views]
    middle = nearest_point_to_rays(cameras, [box.mean(axis=0) for box in boxes], near=np.zeros(3))
    half = 1.2 * max(wanted_size(camera, middle, box) for camera, box in zip(cameras, boxes, strict=True))
    return middle - half, middle + half


@dataclass(frozen=True, eq=False)
class _Grid:
    """Values at the points of a grid in space.

    Attributes:
        values: (X, Y, Z) float32 values of `carve`.
        low: (3,) the point whose indices are 0.
        spacing: the distance between neighbours along each axis.
    """

    values: np.ndarray
    low: np.ndarray
    spacing: float


def _sampled(
    outlines: list[_Outline], low: np.ndarray, high: np.ndarray, voxels: int, ended: Callable[[], bool] = lambda: False
) -> _Grid | None:
    """The values of `carve` on a grid from corner `low` to corner `high`; None where the time ended on the way."""
    spacing = float((high - low).max()) / (voxels - 1)
    x, y, z = (np.ceil((high - low) / spacing).astype(int) + 1).tolist()
    values = np.empty((x, y, z), dtype=np.float32)
    thickness = max(1, SLAB // (y * z))
    for first in range(0, x, thickness):
        indices = (torch.arange(first, min(first + thickness, x)), torch.arange(y), torch.arange(z))
        points = torch.stack(torch.meshgrid(*indices, indexing="ij"), dim=-1).reshape(-1, 3) * spacing
        nearest = torch.full((len(points),), torch.inf)
        seen_by = torch.zeros(len(points))  # how many views say anything of each point
        for outline in outlines:
            if ended():
                return None
            distance = outline.field(points, low)
            seen_by += torch.isfinite(distance)
            nearest = torch.minimum(nearest, distance)
        nearest[seen_by < len(outlines) / 2] = -spacing
        values[first : first + thickness] = nearest.reshape(-1, y, z).numpy()
    return _Grid(values, low, spacing)


def _largest(inside: np.ndarray) -> np.ndarray:
    """The largest connected piece of a (X, Y, Z) bool grid."""
    labels, count = scipy.ndimage.label(inside)
    if count < 2:
        return inside
    return labels == 1 + np.bincount(labels.ravel())[1:].argmax()

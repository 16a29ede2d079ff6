"""How well a mesh matches its views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...camera import Camera
from ...render.silhouette import camera_tensors
from ...views import View
from .renderer import EXACT_ON_CPU, SOFT_ON_CPU, Cameras, Renderer
from .unit import UnitSpace

PIXELS_AT_ONCE = 1 << 24  # At most so many pixels are rendered in one call, since memory grows with them.
ENOUGH_PIXELS = 1 << 20  # While a fit runs, at most so many pixels of each view are measured.


def evaluate(
    vertices: np.ndarray, faces: np.ndarray, views: Sequence[View], renderer: Renderer = SOFT_ON_CPU
) -> np.ndarray:
    """(N,) intersection over union of the mesh's hard silhouette and each view's mask, at the image's own size.

    A pixel belongs to the silhouette when a face covers its centre, and to the mask when its value is above 0.5.
    Ignored pixels do not count. The IoU with a mask that is empty or full is NaN.

    Args:
        vertices: (V, 3) world points.
        faces: (F, 3) indices of vertices.
        renderer: draws the silhouettes.
    """
    sizes: dict[tuple[int, int], list[int]] = {}
    for i, view in enumerate(views):
        sizes.setdefault(view.mask.shape, []).append(i)
    iou = np.zeros(len(views))
    for (height, width), members in sizes.items():
        many = max(1, PIXELS_AT_ONCE // (height * width))
        for start in range(0, len(members), many):
            part = members[start : start + many]
            silhouettes = covered(vertices, faces, [views[i].camera for i in part], renderer)
            for i, silhouette in zip(part, silhouettes, strict=True):
                iou[i] = intersection_over_union(silhouette, views[i])
    return iou


def covered(
    vertices: np.ndarray, faces: np.ndarray, cameras: Sequence[Camera], renderer: Renderer = SOFT_ON_CPU
) -> np.ndarray:
    """(N, H, W) bool hard silhouettes of a mesh in N cameras of one image size; arguments as of `evaluate`."""
    return renderer.hard(*_scene(vertices, faces, cameras, renderer)).cpu().numpy()


def covered_areas(vertices: np.ndarray, faces: np.ndarray, camera: Camera) -> np.ndarray:
    """(H, W) float32 in 0..1, the share of each pixel's area that a mesh covers: its exact coverage, on the CPU."""
    return EXACT_ON_CPU.alpha(*_scene(vertices, faces, [camera], EXACT_ON_CPU), blur=0, cull=False)[0].numpy()


def _scene(
    vertices: np.ndarray, faces: np.ndarray, cameras: Sequence[Camera], renderer: Renderer
) -> tuple[Tensor, Tensor, Cameras, tuple[int, int]]:
    """What a renderer is given to draw a mesh of the world in cameras of one image size.

    It is drawn in unit space, since far from the world's origin float32 is too coarse for the shape of a mesh.
    """
    unit = UnitSpace.around(np.asarray(vertices))
    points = torch.as_tensor(unit.to_unit(np.asarray(vertices)), dtype=torch.float32, device=renderer.device)
    triangles = torch.as_tensor(np.asarray(faces), dtype=torch.int64, device=renderer.device)
    tensors = camera_tensors([unit.camera(camera) for camera in cameras], torch.float32, renderer.device)
    return points, triangles, tensors, (cameras[0].height, cameras[0].width)


def thinned(view: View) -> View:
    """The view with only every third, fifth, ... row and column, so that it has at most about ENOUGH_PIXELS pixels.

    The step s is odd: the middle one of s x s pixels then has its centre where the pixel of the smaller image has it.
    A view whose mask would become empty or full stays as it is.
    """
    height, width = view.mask.shape
    step = int(np.ceil(np.sqrt(height * width / ENOUGH_PIXELS))) // 2 * 2 + 1
    if height * width <= ENOUGH_PIXELS or step > min(height, width):
        return view
    part = np.s_[step // 2 : height // step * step : step, step // 2 : width // step * step : step]
    mask, ignore = view.mask[part], None if view.ignore is None else view.ignore[part]
    rows, columns = mask.shape
    camera = view.camera.crop(0, 0, columns * step, rows * step, columns, rows)
    smaller = replace(view, camera=camera, mask=mask, ignore=ignore)
    return view if smaller.blank() else smaller


def larger(views: Sequence[View], watched: Sequence[View]) -> float:
    """How many times more pixels the views have than `watched`, the same views thinned."""
    return sum(view.mask.size for view in views) / max(1, sum(view.mask.size for view in watched))


def intersection_over_union(silhouette: np.ndarray, view: View) -> float:
    """IoU of an (H, W) bool silhouette and the view's mask over the pixels that are not ignored.

    NaN for a mask that is empty or full: it shows no outline that a silhouette could match.
    """
    mask = view.mask > 0.5
    known = mask if view.ignore is None else mask[~view.ignore]
    if known.all() or not known.any():
        return float("nan")
    if view.ignore is not None:
        silhouette, mask = silhouette & ~view.ignore, mask & ~view.ignore
    both = int(np.count_nonzero(silhouette & mask))
    either = int(np.count_nonzero(silhouette)) + int(np.count_nonzero(mask)) - both
    return both / max(1, either)


def iou_by_area(areas: np.ndarray, view: View) -> float:
    """IoU of the areas (H, W) in 0..1 that a mesh covers of the pixels, and a view's mask read as such areas.

    sum min(a, t) / sum max(a, t) over the pixels that are not ignored, with the area a of a pixel and its mask value t:
    the Jaccard index of fuzzy sets, also called the weighted Jaccard or Ruzicka index. It is 1 exactly where all areas
    are equal, unlike `softras.silhouette_iou`, the quotient by products, which is below 1 for equal soft edges. Of a
    pixel that mesh and mask cover in part it knows no more than how much, and takes one of the two parts to lie in the
    other. For areas of zeros and ones it is `intersection_over_union`; like that, it is NaN for a mask without outline.
    """
    if view.blank():
        return float("nan")
    both = either = 0.0
    for k, (a, t) in enumerate(zip(areas, view.mask, strict=True)):  # Row by row: the largest images fill gigabytes.
        if view.ignore is not None:
            a, t = a[~view.ignore[k]], t[~view.ignore[k]]
        both += np.minimum(a, t).sum(dtype=np.float64)
        either += np.maximum(a, t).sum(dtype=np.float64)
    return float(both / either)

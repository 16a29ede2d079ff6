"""Which way an object faces, from nothing but its silhouettes: rotations of all kinds, rated by small images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ...mesh import Mesh
from ...render.silhouette import camera_tensors
from ...views import View
from ..observed.observation import visible_pixels
from ..observed.observed_view import Box, images_of
from ..observed.renderer import Renderer
from ..observed.unit import UnitSpace

SIZE = 40  # pixels of a side of the images
BLUR = 0.5  # pixels
MARGIN = 1.1  # times the longer side of the silhouette's box: the side of an image
AT_ONCE = 128  # images
APART = np.radians(15)  # between rotations of which both are worth a try


@dataclass(frozen=True, eq=False)
class Facing:
    """A rotation of an object and how well it looks like the masks then.

    Attributes:
        rotation: (3, 3) about the middle of the mesh's bounds, in the world.
        iou: mean over the views of silhouettes that are moved and scaled so that their boxes are those of the masks.
    """

    rotation: np.ndarray
    iou: float


def facings(
    mesh: Mesh,
    views: Sequence[View],
    rotations: Sequence[Rotation],
    renderer: Renderer,
    ended: Callable[[], bool] = lambda: False,
) -> list[Facing]:
    """All rotations of a mesh, the best first; of one moment's views, whose cameras stay beside one another.

    A camera by itself that turns about the object sees what it would see of the object turned the other way round, so
    that this is the search for its rotation too, and for that of a rig of cameras.

    Args:
        ended: asked between the smallest parts; once it returns True, what is not rated yet is left out.
    """
    points = mesh.vertices[np.unique(mesh.faces)]
    unit, device = UnitSpace.around(points), renderer.device
    corners, faces = unit.to_unit(points), torch.as_tensor(mesh.faces, dtype=torch.int64, device=device)
    vertices = torch.as_tensor(unit.to_unit(mesh.vertices), dtype=torch.float32, device=device)
    targets = []
    for view in views:
        mean, known = images_of(view).mean_mask(_square(*images_of(view).bounds), SIZE)
        targets.append(torch.as_tensor(np.stack([mean, known]), dtype=torch.float32, device=device))
    rated: list[Facing] = []
    weights = np.array([view.weight for view in views])
    for start in range(0, len(rotations), AT_ONCE):
        part = rotations[start : start + AT_ONCE]
        scores = np.zeros((len(views), len(part)))
        for n, (view, target) in enumerate(zip(views, targets, strict=True)):
            if ended():
                return sorted(rated, key=lambda facing: -facing.iou)
            cameras, seen_by = [], unit.camera(view.camera)
            for rotation in part:
                turn = np.eye(4)
                turn[:3, :3] = rotation.as_matrix()
                camera = replace(seen_by, world_to_camera=seen_by.world_to_camera @ turn)
                pixels = visible_pixels(camera, corners)
                ends = (pixels.min(axis=0), pixels.max(axis=0)) if len(pixels) else (np.zeros(2), np.ones(2))
                cameras.append(camera.crop(*_square(*ends), SIZE, SIZE))
            with torch.no_grad():
                seen_from = camera_tensors(cameras, torch.float32, device)
                alpha = renderer.alpha(vertices, faces, seen_from, (SIZE, SIZE), blur=BLUR, cull=False)
            both = (target[1] * torch.minimum(alpha, target[0])).sum(dim=(1, 2))
            either = (target[1] * torch.maximum(alpha, target[0])).sum(dim=(1, 2))
            scores[n] = (both / either.clamp_min(1e-6)).cpu().numpy()
        iou = np.average(scores, axis=0, weights=weights)
        rated += [Facing(rotation.as_matrix(), float(x)) for rotation, x in zip(part, iou, strict=True)]
    return sorted(rated, key=lambda facing: -facing.iou)


def best_apart(rated: Sequence[Facing], count: int) -> list[Facing]:
    """The best ones, of which no two are nearer than APART to one another."""
    found: list[Facing] = []
    for facing in rated:
        if all(angle_between(facing.rotation, other.rotation) >= APART for other in found):
            found.append(facing)
        if len(found) == count:
            break
    return found


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Radians of the rotation from one (3, 3) rotation to the other."""
    return float(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1)))


def rotation_of(matrix: np.ndarray) -> np.ndarray:
    """(3, 3) of a matrix (4, 4) of a rotation, a uniform scale and a translation."""
    return matrix[:3, :3] / np.cbrt(np.linalg.det(matrix[:3, :3]))


def _square(low: np.ndarray, high: np.ndarray) -> Box:
    """x0, y0, x1, y1 around the middle of a box."""
    centre, half = (low + high) / 2, max(float((high - low).max()), 1e-6) / 2 * MARGIN
    return (*(centre - half), *(centre + half))

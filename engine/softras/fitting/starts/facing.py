"""Which way an object faces: many rotations of its mesh, each rated by how small silhouettes of it match the masks."""

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

SIZE = 40  # The silhouettes that rate a rotation are squares of so many pixels a side,
BLUR = 0.5  # softened over so many of these pixels,
MARGIN = 1.1  # and so many times as wide as the longer side of the object's bounding box in the image.
AT_ONCE = 128  # So many silhouettes are rendered in one call, which bounds the memory.
APART = np.radians(15)  # Two rotations closer than this would be refined to the same one, so one of them is enough.


@dataclass(frozen=True, eq=False)
class Facing:
    """A rotation of an object, and how well the object matches the masks when it is rotated so.

    Attributes:
        rotation: (3, 3) rotation in world axes, about the middle of the mesh's bounding box.
        iou: mean over the views of the soft IoU of silhouette and mask, after the silhouette was moved and scaled
            until its bounding box was that of the mask: only the outline's form counts.
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
    """The given rotations of a mesh, each rated in the views of one frame, the best first.

    A camera that circles an object sees the same pictures as a camera that stands still while the object turns the
    other way. The same search therefore finds the rotation of one camera, or of a rigid rig of cameras.

    Args:
        ended: asked before each rendering; once it returns True, rotations that are not rated yet are left out.
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
            cameras, unit_camera = [], unit.camera(view.camera)
            for rotation in part:
                turn = np.eye(4)
                turn[:3, :3] = rotation.as_matrix()
                camera = replace(unit_camera, world_to_camera=unit_camera.world_to_camera @ turn)
                pixels = visible_pixels(camera, corners)
                ends = (pixels.min(axis=0), pixels.max(axis=0)) if len(pixels) else (np.zeros(2), np.ones(2))
                cameras.append(camera.crop(*_square(*ends), SIZE, SIZE))
            with torch.no_grad():
                tensors = camera_tensors(cameras, torch.float32, device)
                alpha = renderer.alpha(vertices, faces, tensors, (SIZE, SIZE), blur=BLUR, cull=False)
            both = (target[1] * torch.minimum(alpha, target[0])).sum(dim=(1, 2))
            either = (target[1] * torch.maximum(alpha, target[0])).sum(dim=(1, 2))
            scores[n] = (both / either.clamp_min(1e-6)).cpu().numpy()
        iou = np.average(scores, axis=0, weights=weights)
        rated += [Facing(rotation.as_matrix(), float(x)) for rotation, x in zip(part, iou, strict=True)]
    return sorted(rated, key=lambda facing: -facing.iou)


def best_apart(rated: Sequence[Facing], count: int) -> list[Facing]:
    """Up to `count` of the rated rotations, the best first, no two of them closer than APART."""
    found: list[Facing] = []
    for facing in rated:
        if all(angle_between(facing.rotation, other.rotation) >= APART for other in found):
            found.append(facing)
        if len(found) == count:
            break
    return found


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """The angle in radians by which two (3, 3) rotations differ."""
    return float(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1)))


def rotation_of(matrix: np.ndarray) -> np.ndarray:
    """The (3, 3) rotation in a (4, 4) matrix that rotates, scales uniformly and translates."""
    return matrix[:3, :3] / np.cbrt(np.linalg.det(matrix[:3, :3]))


def _square(low: np.ndarray, high: np.ndarray) -> Box:
    """The square x0, y0, x1, y1 around the box from `low` (2,) to `high` (2,), MARGIN times as wide as that."""
    centre, half = (low + high) / 2, max(float((high - low).max()), 1e-6) / 2 * MARGIN
    return (*(centre - half), *(centre + half))

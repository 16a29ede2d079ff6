"""Cameras that look elsewhere are turned to the object first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...deform.cameras import COUNT, CameraMoves
from ..observed.crops import mask_bounds, visible_pixels
from ..starts.placement import pixel_ray
from .search import PoseSearch


def aimed(moves: CameraMoves, parts: Sequence[str], search: PoseSearch) -> list[np.ndarray]:
    """Parameters of a camera that turns (or moves) so that it sees the middle of the mesh where its mask's middle is.

    None of a rig of cameras, nor where the camera may do neither.

    Args:
        moves: of one camera, by itself.
        parts: what of it may change.
        search: for it.
    """
    view = search.views[0]
    camera = view.camera
    pixels = visible_pixels(camera, search.mesh.vertices)
    if moves.together or not len(pixels) or not {"rotation", "location"} & set(parts):
        return []
    rows, columns = mask_bounds(view)
    wanted = np.array([sum(columns), sum(rows)]) / 2
    seen = (pixels.min(axis=0) + pixels.max(axis=0)) / 2
    into_camera = camera.world_to_camera[:3, :3]
    now, then = (into_camera @ pixel_ray(camera, pixel)[1] for pixel in (seen, wanted))
    block = np.zeros(COUNT)
    middle = moves.middles[0]
    if "rotation" in parts and not camera.orthographic:
        axis, cosine = np.cross(now, then), now @ then
        block[3:6] = axis / max(np.linalg.norm(axis), 1e-12) * np.arccos(np.clip(cosine, -1, 1))
        # About the eye, whatever the camera turns about.
        block[:3] = moves.turned_about_eye(0, block[3:6])
    elif "location" in parts:
        scale = search.unit.size if camera.orthographic else 1 / max(middle[2], 1e-6)
        shift = np.linalg.solve(camera.K[:2, :2], wanted - seen)
        block[:2] = shift / scale
    return [block]

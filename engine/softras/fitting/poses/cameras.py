"""Cameras that move in a search: in the unit space of a problem, and back in the world."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...camera import Camera
from ...deform.cameras import COUNT, CameraMoves
from ..observed.observation import visible_pixels
from ..observed.observed_view import images_of
from ..observed.unit import UnitSpace
from ..settings import Settings
from ..starts.placement import pixel_ray
from .prepared import Prepared
from .problem import PoseProblem


@dataclass(frozen=True, eq=False)
class MovingCameras:
    """The cameras of N views, of which equal ones move as one.

    Attributes:
        given: where they are when none of their parameters has changed.
        unit: the space of the problem that they move in.
        moves: how their parameters move them there.
    """

    given: Sequence[Camera]
    unit: UnitSpace
    moves: CameraMoves

    @classmethod
    def of(cls, given: Sequence[Camera], unit: UnitSpace, settings: Settings) -> MovingCameras:
        """From where they are, by those of their parts that the settings name."""
        cameras = [unit.camera(camera) for camera in given]
        moves = CameraMoves(
            np.array([camera.world_to_camera for camera in cameras]),
            _owners(cameras),
            settings.camera_parts,
            together=settings.cameras_together,
            middle=np.zeros(3),
        )
        return cls(given, unit, moves)

    def at(self, shared: np.ndarray) -> list[Camera]:
        """Where they are in the world, for their parameters (C,)."""
        unit = self.unit
        scales = [np.diag([unit.size, unit.size, 1.0]) if camera.orthographic else np.eye(3) for camera in self.given]
        K = np.array([camera.K @ scale for camera, scale in zip(self.given, scales, strict=True)])
        K, matrices = self.moves.moved(np.arange(len(K)), K, shared.reshape(-1, COUNT))
        found = []
        for camera, scale, intrinsics, matrix in zip(self.given, scales, K, matrices, strict=True):
            matrix[:3, 3] = unit.size * matrix[:3, 3] - matrix[:3, :3] @ unit.centre
            found.append(replace(camera, K=intrinsics @ np.linalg.inv(scale), world_to_camera=matrix))
        return found


def groups(prepared: Prepared) -> Iterator[list[int]]:
    """The views whose cameras move as one, those that count first; of all groups in which a view counts."""
    if prepared.settings.cameras_together:
        yield prepared.movable
        return
    owners = _owners([view.camera for view in prepared.views])
    for owner in range(owners.max() + 1):
        views = [i for i in prepared.movable if owners[i] == owner]
        if prepared.views[views[0]].weight > 0:
            yield views


def aimed(moves: CameraMoves, parts: Sequence[str], problem: PoseProblem) -> list[np.ndarray]:
    """Parameters of a camera that turns (or moves) so that it sees the middle of the mesh where its mask's middle is.

    None of a rig of cameras, nor where the camera may do neither.

    Args:
        moves: of one camera, by itself.
        parts: what of it may change.
        problem: of its views.
    """
    view = problem.frames[0][0]
    camera = view.camera
    pixels = visible_pixels(camera, problem.mesh.vertices)
    if moves.together or not len(pixels) or not {"rotation", "location"} & set(parts):
        return []
    wanted = images_of(view).bounds.mean(axis=0)
    present = (pixels.min(axis=0) + pixels.max(axis=0)) / 2
    into_camera = camera.world_to_camera[:3, :3]
    now, then = (into_camera @ pixel_ray(camera, pixel)[1] for pixel in (present, wanted))
    block = np.zeros(COUNT)
    middle = moves.middles[0]
    if "rotation" in parts and not camera.orthographic:
        axis, cosine = np.cross(now, then), now @ then
        block[3:6] = axis / max(np.linalg.norm(axis), 1e-12) * np.arccos(np.clip(cosine, -1, 1))
        # About the eye, whatever the camera turns about.
        block[:3] = moves.turned_about_eye(0, block[3:6])
    elif "location" in parts:
        scale = problem.unit.size if camera.orthographic else 1 / max(middle[2], 1e-6)
        shift = np.linalg.solve(camera.K[:2, :2], wanted - present)
        block[:2] = shift / scale
    return [block]


def _owners(cameras: Sequence[Camera]) -> np.ndarray:
    """(N,) which camera each is; equal ones are one."""
    numbers: dict[Camera, int] = {}
    return np.array([numbers.setdefault(camera, len(numbers)) for camera in cameras])

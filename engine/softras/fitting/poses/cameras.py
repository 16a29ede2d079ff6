"""Cameras that move in a search: into the unit space in which they are searched for, and back into the world."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...camera import Camera
from ...deform.cameras import COUNT, CameraMoves
from ..observed.observation import visible_pixels
from ..observed.observed_view import images_of
from ..observed.rays import pixel_ray
from ..observed.unit import UnitSpace
from ..settings import Settings
from .prepared import Prepared
from .problem import PoseProblem


@dataclass(frozen=True, eq=False)
class MovingCameras:
    """The cameras of N views; views whose cameras are equal share one camera, which moves as one.

    Attributes:
        given: the N cameras as given, in the world.
        unit: the space in which they are searched for.
        moves: how their parameters move them, in unit space.
    """

    given: Sequence[Camera]
    unit: UnitSpace
    moves: CameraMoves

    @classmethod
    def of(cls, given: Sequence[Camera], unit: UnitSpace, settings: Settings) -> MovingCameras:
        """The given cameras, free to change in the parts that the settings name (`camera_parts`)."""
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
        """The N cameras in the world, moved by their parameters (C,)."""
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
    """For each set of cameras that move as one, the indices of its views, those of positive weight first.

    Sets without a view of positive weight are left out.
    """
    if prepared.settings.cameras_together:
        yield prepared.movable
        return
    owners = _owners([view.camera for view in prepared.views])
    for owner in range(owners.max() + 1):
        views = [i for i in prepared.movable if owners[i] == owner]
        if prepared.views[views[0]].weight > 0:
            yield views


def aimed(moves: CameraMoves, parts: Sequence[str], problem: PoseProblem) -> list[np.ndarray]:
    """Parameters of one camera, rotated or else moved until it shows the middle of the mesh in the middle of its mask.

    An empty list for a rig of cameras, and for a camera that may neither rotate nor move.

    Args:
        moves: how the camera moves.
        parts: the parts of the camera that may change, as in the setting `camera_parts`.
        problem: a problem of one frame whose views are those of this camera.
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
        # The parameters rotate the camera about another point; this translation makes it a rotation about the eye.
        block[:3] = moves.turned_about_eye(0, block[3:6])
    elif "location" in parts:
        scale = problem.unit.size if camera.orthographic else 1 / max(middle[2], 1e-6)
        shift = np.linalg.solve(camera.K[:2, :2], wanted - present)
        block[:2] = shift / scale
    return [block]


def _owners(cameras: Sequence[Camera]) -> np.ndarray:
    """(N,) a number from 0 for each of N cameras, the same for equal ones."""
    numbers: dict[Camera, int] = {}
    return np.array([numbers.setdefault(camera, len(numbers)) for camera in cameras])

"""The search for the poses of a rig in a sequence of frames."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch

from ..deform.cameras import CameraMoves
from ..deform.posed import PosedRig
from ..mesh import Mesh
from ..raster.ops import silhouettes
from ..views import View
from .crops import crop_views
from .levenberg import LevenbergMarquardt, Parameters
from .pins import Pins
from .pose_objective import FrameViews, PoseObjective, arrays
from .reach import Surface
from .schedule import Stage
from .unit import UnitSpace

HARD = 1e-6  # sigma of silhouettes that are compared with masks pixel by pixel
SLOW = 1e-3  # a step that lowers the cost by less than this share of it is slow; two end a stage

Steps = Generator[None, None, tuple[np.ndarray, float]]


class PoseSearch:
    """Finds the parameters (F, P) of a rig in F frames. What steps is a generator that yields at each step.

    Attributes:
        poses: (F, P) so far.
        costs: (F,) of each frame by itself.
    """

    def __init__(
        self,
        figure: PosedRig,
        mesh: Mesh,
        frames: Sequence[Sequence[View]],
        *,
        cull: bool,
        prior: float,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        """Of a rig whose mesh in the world, as given, is `mesh`; each frame has its views."""
        self.figure, self.mesh, self.frames = figure, mesh, [list(views) for views in frames]
        self.cull, self.prior, self.device = cull, prior, device
        self.unit = UnitSpace.around(mesh.vertices[np.unique(mesh.faces)])
        self.surface = Surface(mesh)
        self.random = np.random.default_rng(seed)
        self.poses = np.zeros((len(self.frames), figure.count))
        self.costs = np.full(len(self.frames), np.inf)
        self.shared = np.zeros(0)
        self.moves: CameraMoves | None = None

    def world(self, pose: np.ndarray) -> np.ndarray:
        """(V, 3) of a pose (P,)."""
        return self.figure.vertices(torch.as_tensor(pose, dtype=torch.float64)).cpu().numpy()

    def objective(
        self, frames: Sequence[int], poses: np.ndarray, stage: Stage, smoothness: float = 0.0
    ) -> PoseObjective:
        """Of some frames, whose crops are around the given poses (K, P)."""
        seen = []
        for f, pose in zip(frames, poses, strict=True):
            views = self.frames[f]
            crops = crop_views(views, self.world(pose), self.unit, stage.resolution, self.device)
            weights = np.array([view.weight for view in views], dtype=float)
            seen.append(FrameViews(crops, weights, np.arange(len(views))))
        sigma = (2 * stage.blur[1] / stage.resolution) ** 2
        return PoseObjective(
            self.figure,
            self.mesh.faces,
            self.unit,
            seen,
            sigma=sigma,
            cull=self.cull,
            prior=self.prior,
            smoothness=smoothness,
            moves=self.moves,
        )

    def minimize(self, objective: PoseObjective, poses: np.ndarray, steps: int, reach: float = 0.0) -> Steps:
        """Poses (K, P) after at most so many steps, and their cost. With reach, pulls of that weight help."""
        search = self._search(poses)
        before, slow = np.inf, 0
        for _ in range(steps):
            yield
            if reach:
                for f in range(len(poses)):
                    objective.pins[f] = self._pulls(objective, f, search.parameters, reach)
            if not search.step(objective.model(search.parameters), objective.cost):
                break
            slow = slow + 1 if search.cost > before * (1 - SLOW) else 0
            if slow >= 2:
                break
            before = search.cost
        objective.pins = [None] * len(poses)
        self.shared = search.parameters.shared
        return search.parameters.frames, objective.cost(search.parameters)

    def _search(self, poses: np.ndarray) -> LevenbergMarquardt:
        low, high = self.figure.bounds.T
        endless = np.full(len(self.shared), np.inf)
        rows = (len(poses), 1)
        return LevenbergMarquardt(
            Parameters(poses, self.shared),
            Parameters(np.tile(low, rows), -endless),
            Parameters(np.tile(high, rows), endless),
            Parameters(np.tile(self.figure.units, rows), np.ones(len(self.shared))),
        )

    def _pulls(self, objective: PoseObjective, f: int, x: Parameters, weight: float) -> Pins | None:
        vertices, cameras = objective.seen(f, x)
        crops = objective.frames[f].crops
        size = crops.resolution
        faces = torch.as_tensor(self.mesh.faces, dtype=torch.int64, device=self.device)
        with torch.no_grad():
            alpha = silhouettes(vertices, faces, height=size, width=size, sigma=HARD, cull=self.cull, **cameras)
        return self.surface.pulls(
            vertices.cpu().numpy().astype(np.float64),
            arrays(cameras),
            crops.masks.cpu().numpy(),
            (alpha > 0.5).cpu().numpy(),
            weight,
            self.random,
        )

    def frame(self, f: int, pose: np.ndarray, stages: Sequence[tuple[Stage, float]]) -> Steps:
        """One frame through stages, each with its reach, from a pose (P,); its pose (1, P) and cost in the last one."""
        poses, cost = pose[None], np.inf
        for stage, reach in stages:
            poses, cost = yield from self.minimize(self.objective([f], poses, stage), poses, stage.steps, reach)
        return poses, cost

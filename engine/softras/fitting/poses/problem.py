"""The problem that a search for poses solves: a rig, its parts that may change, and the views of every frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import torch

from ...deform.cameras import CameraMoves
from ...deform.posed import PosedRig
from ...geometry.normals import face_areas
from ...mesh import Mesh
from ...rig import Rig, mesh_in_world
from ...views import View
from ..observed.observation import observe
from ..observed.renderer import Renderers
from ..observed.unit import UnitSpace
from ..schedule import PoseStage
from ..solvers.chain import Parameters
from ..solvers.levenberg import Limits
from ..terms.landmarks import Pinned
from ..terms.posed import Frames, FrameViews
from .objective import PoseObjective
from .pulls import Surface
from .simplify import simplified

MAX_FACE_RATIO = 0.7  # The merged mesh is used only if it has less than this share of the faces: else it saves little.
MIN_AREA_RATIO = 0.5  # It is used only if it has more than this share of the area: parts thinner than a cell vanish.


@dataclass(frozen=True, eq=False)
class Level:
    """The rig with as much detail as a resolution can show.

    Attributes:
        figure: the simplified rig as a function of its parameters, in float64 on the CPU.
        mesh: the mesh of the simplified rig in the given pose, in the world.
        clusters: (V,) for each vertex of the rig as given, the vertex of this mesh that stands for it.
        surface: the points of the mesh that can be pulled.
    """

    figure: PosedRig
    mesh: Mesh
    clusters: np.ndarray
    surface: Surface

    @classmethod
    def of(cls, rig: Rig, clusters: np.ndarray, optimize: Sequence[str]) -> Level:
        """The level of a simplified rig whose parts `optimize` may change."""
        mesh = mesh_in_world(rig)
        return cls(PosedRig(rig, optimize, dtype=torch.float64), mesh, clusters, Surface(mesh))


@dataclass(frozen=True, eq=False)
class PoseProblem:
    """A rig in F frames, whose poses have P parameters each, and the cameras of its views.

    Attributes:
        given: the rig as given.
        rig: the same rig, in which vertices that coincide in every pose are one vertex.
        optimize: the parts of the rig that may change (see `PosedRig`).
        frames: the views of each frame. Frames without views are not searched.
        unit: the space in which cameras move and silhouettes are drawn.
        weights: the weight of each term, by its name.
        cull: whether faces seen from behind are left out.
        renderers: draw the silhouettes, each stage by its own.
        random: chooses the pixels that pull.
        marks: the vertices of `rig` that landmarks are of, which are never merged.
        pause: called between the smallest parts of the work; an exception that it raises ends the search.
        camera_moves: how the cameras of all views, frame by frame, move in unit space; None where they stay.
        levels: the levels made so far, by the size of the cells in which vertices are merged.
    """

    given: Rig
    rig: Rig
    optimize: tuple[str, ...]
    frames: Sequence[Sequence[View]]
    unit: UnitSpace
    weights: dict[str, float]
    cull: bool
    renderers: Renderers
    random: np.random.Generator
    marks: Sequence[int]
    pause: Callable[[], None] = lambda: None
    camera_moves: CameraMoves | None = None
    levels: dict[float, Level] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rig: Rig,
        optimize: Sequence[str],
        frames: Sequence[Sequence[View]],
        *,
        weights: dict[str, float],
        cull: bool,
        renderers: Renderers,
        seed: int = 0,
        pause: Callable[[], None] = lambda: None,
    ) -> PoseProblem:
        """A problem in which the cameras stay. Raises InputError when nothing in the parts to optimize may change."""
        merged, clusters = simplified(rig)
        whole = Level.of(merged, clusters, optimize)
        unit = UnitSpace.around(whole.mesh.vertices[np.unique(whole.mesh.faces)])
        marks = sorted({int(clusters[landmark.vertex]) for view in chain(*frames) for landmark in view.landmarks})
        return cls(
            rig,
            merged,
            tuple(optimize),
            frames,
            unit,
            weights,
            cull,
            renderers,
            np.random.default_rng(seed),
            marks,
            pause,
            levels={0.0: whole},
        )

    def with_cameras(self, moves: CameraMoves) -> PoseProblem:
        """The same problem with cameras that move."""
        return replace(self, camera_moves=moves)

    @property
    def figure(self) -> PosedRig:
        """The rig in full detail, as a function of its parameters."""
        return self.levels[0.0].figure

    @property
    def mesh(self) -> Mesh:
        """The mesh of the rig in full detail, in the given pose, in the world."""
        return self.levels[0.0].mesh

    def world(self, pose: np.ndarray) -> np.ndarray:
        """(V, 3) vertices of `mesh` in a pose (P,)."""
        return self.figure.vertices(torch.as_tensor(pose, dtype=torch.float64)).cpu().numpy()

    def rig_at(self, pose: np.ndarray) -> Rig:
        """The rig as given, in a pose (P,)."""
        moved = self.figure.rig(torch.as_tensor(pose, dtype=torch.float64))
        armature = self.given.armature
        if armature is not None:
            assert moved.armature is not None
            armature = replace(armature, bones=moved.armature.bones)
        pairs = zip(self.given.shape_keys, moved.shape_keys, strict=True)
        keys = tuple(replace(key, value=found.value) for key, found in pairs)
        return replace(self.given, transform=moved.transform, armature=armature, shape_keys=keys)

    def level(self, stage: PoseStage) -> Level:
        """The rig, simplified for a stage where that is of use."""
        cell = stage.cell / stage.resolution
        if cell not in self.levels:
            whole = self.levels[0.0]
            rig, clusters = simplified(self.rig, cell, alone=self.marks)
            fewer = len(rig.mesh.faces) < MAX_FACE_RATIO * len(self.rig.mesh.faces)
            there = _area(rig.mesh) > MIN_AREA_RATIO * _area(self.rig.mesh)
            use = fewer and there
            self.levels[cell] = Level.of(rig, clusters[whole.clusters], self.optimize) if use else whole
        return self.levels[cell]

    def objective(self, frames: Sequence[int], poses: np.ndarray, stage: PoseStage) -> PoseObjective:
        """What a stage minimizes over K frames, in crops around the mesh in given poses (K, P)."""
        level, renderer = self.level(stage), self.renderers[stage.renderer]
        first = np.cumsum([0, *map(len, self.frames)])  # The index of each frame's first view among all views.
        observed = []
        for f, pose in zip(frames, poses, strict=True):
            self.pause()
            views = self.frames[f]
            observation = observe(views, self.world(pose), self.unit, stage.resolution, renderer)
            observed.append(FrameViews(views, observation, first[f] + np.arange(len(views))))
        of_stage = Frames(
            observed,
            stage,
            level.figure,
            torch.as_tensor(level.mesh.faces, dtype=torch.int64, device=renderer.device),
            level.clusters,
            self.unit,
            renderer,
            self.cull,
            self.camera_moves,
        )
        return PoseObjective(of_stage, self.weights, pause=self.pause)

    def pulls(self, objective: PoseObjective, x: Parameters, stage: PoseStage) -> Pinned:
        """The pulls in every frame of an objective, at parameters x (see `Surface.pulls`)."""
        found = []
        for k in range(len(objective.frames.views)):
            posed = objective.posed(k, x)
            found.append(
                self.level(stage).surface.pulls(
                    posed.points,
                    posed.camera_arrays,
                    posed.views.observation.masks.cpu().numpy(),
                    posed.alpha.cpu().numpy() > 0.5,
                    stage.pull,
                    self.random,
                )
            )
        return Pinned(found)

    def limits(self, poses: np.ndarray, shared: np.ndarray, held: np.ndarray | None = None) -> Limits:
        """The bounds and the units of the parameters of K frames and of the cameras.

        Args:
            poses: (K, P) parameters of the frames.
            shared: (C,) parameters of the cameras.
            held: (K, P) bool, True for parameters that stay as in `poses`.
        """
        low, high = self.figure.bounds.T
        low, high = np.tile(low, (len(poses), 1)), np.tile(high, (len(poses), 1))
        if held is not None:
            low[held] = high[held] = poses[held]
        end, units = np.full(len(shared), np.inf), np.ones(len(shared))
        if self.camera_moves is not None:
            end[self.camera_moves.held.ravel()] = 0
            units = self.camera_moves.units.ravel()
        own = np.tile(self.figure.units, (len(poses), 1))
        pairs = ((low, -end), (high, end), (own, units))
        return Limits(*(Parameters.of(frames, cameras).vector for frames, cameras in pairs))


def _area(mesh: Mesh) -> float:
    return float(face_areas(mesh.vertices, mesh.faces).numpy().sum())

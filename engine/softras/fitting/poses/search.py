"""The search for the poses of a rig, and for its cameras, in a sequence of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from ...deform.cameras import CameraMoves
from ...deform.posed import PosedRig
from ...mesh import Mesh
from ...rig import Rig
from ...views import View
from ..observed.crops import Crops, crop_views
from ..observed.renderer import Renderer
from ..observed.unit import UnitSpace
from ..schedule import PoseStage
from ..solvers.levenberg import LevenbergMarquardt, Parameters
from .landmarks import Pins
from .objective import FrameViews, PoseObjective, arrays
from .pulls import Surface
from .simplify import simplified

SLOW = 1e-3  # a step that lowers the cost by less than this share of it is slow; two end a stage
BETTER = 0.98  # of the cost: what another start must reach to be taken
FEW = 3  # frames
SUSPECT = 1.3  # times the cost of the better frames: what may be a wrong pose

CELL = 2.0  # crop pixels; finer parts of the mesh are left out
FEWER, THERE = 0.7, 0.5  # share of the faces below which that is worth it, and of their area above which it is right

Moment = tuple[Sequence[int], np.ndarray]  # frames, and their parameters (K, P) after a step


class Level:
    """The rig as detailed as a resolution shows it.

    Attributes:
        figure: float64, on the CPU.
        mesh: in the world, as given.
        place: (V,) which vertex each of the rig as given became.
        surface: points on it.
    """

    def __init__(self, rig: Rig, place: np.ndarray, optimize: Sequence[str]) -> None:
        self.figure = PosedRig(rig, optimize, dtype=torch.float64)
        self.mesh = Mesh(rig.vertices(), rig.mesh.faces)
        self.place = place
        self.surface = Surface(self.mesh)


class PoseSearch:
    """Finds the parameters (F, P) of a rig in F frames, and those that its cameras share.

    What takes steps is an iterator of moments; what it found so far is in `poses`, `shared` and `costs`.

    Attributes:
        poses: (F, P) so far.
        costs: (F,) of each frame at the end of the last stages that it went through by itself.
        shared: (C,) parameters of the cameras.
    """

    def __init__(
        self,
        rig: Rig,
        optimize: Sequence[str],
        frames: Sequence[Sequence[View]],
        *,
        weights: dict[str, float],
        cull: bool,
        renderer: Renderer,
        seed: int = 0,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """Each frame has its views; those without any take their pose from the frames beside them.

        pause: called between the smallest parts of the work; what it raises ends the present iterator of moments.
        """
        self.pause = pause
        self.given, self.optimize = rig, tuple(optimize)
        self.rig, self._place = simplified(rig)
        self._levels = {0.0: Level(self.rig, self._place, self.optimize)}
        self.figure, self.mesh = self._levels[0.0].figure, self._levels[0.0].mesh
        self.unit = UnitSpace.around(self.mesh.vertices[np.unique(self.mesh.faces)])
        self.frames = [list(views) for views in frames]
        self.views = [view for views in self.frames for view in views]
        self._pinned = sorted({int(self._place[mark.vertex]) for view in self.views for mark in view.landmarks})
        self.weights, self.cull, self.renderer = weights, cull, renderer
        self.random = np.random.default_rng(seed)
        self.poses = np.zeros((len(self.frames), self.figure.count))
        self.costs = np.full(len(self.frames), np.inf)
        self.cost = np.inf  # of the last step, or stage: then without what pulls
        self.moves: CameraMoves | None = None
        self.shared = np.zeros(0)
        self._first = np.cumsum([0, *map(len, self.frames)])  # of each frame's views among all

    def move_cameras(self, moves: CameraMoves) -> None:
        """From now on cameras move too: `moves` is of all views' cameras, frame by frame, in unit space."""
        self.moves, self.shared = moves, np.zeros(moves.held.size)

    def world(self, pose: np.ndarray) -> np.ndarray:
        """(V, 3) of a pose (P,), of the welded rig."""
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
        """The rig at the resolution of a stage."""
        cell = CELL / stage.resolution
        if cell not in self._levels:
            rig, place = simplified(self.rig, cell, alone=self._pinned)
            fewer = len(rig.mesh.faces) < FEWER * len(self.rig.mesh.faces)
            there = _area(rig.mesh) > THERE * _area(self.rig.mesh)  # what is thinner than a cell would be lost
            use = fewer and there
            self._levels[cell] = Level(rig, place[self._place], self.optimize) if use else self._levels[0.0]
        return self._levels[cell]

    def objective(self, frames: Sequence[int], poses: np.ndarray, stage: PoseStage, smooth: bool) -> PoseObjective:
        """Of some frames, whose crops are around the given poses (K, P)."""
        level = self.level(stage)
        seen, pins = [], []
        for f, pose in zip(frames, poses, strict=True):
            self.pause()
            views = self.frames[f]
            crops = crop_views(views, self.world(pose), self.unit, stage.resolution, self.renderer.device)
            weights = np.array([view.weight for view in views], dtype=float)
            seen.append(FrameViews(crops, weights, self._first[f] + np.arange(len(views))))
            pins.append(self._landmarks(views, crops, level))
        return PoseObjective(
            level.figure,
            level.mesh.faces,
            self.unit,
            seen,
            renderer=self.renderer,
            blur=stage.blur,
            cull=self.cull,
            prior=stage.prior * self.weights["prior"],
            smoothness=self.weights["smoothness"] if smooth else 0.0,
            camera_prior=self.weights["camera_prior"],
            moves=self.moves,
            pins=pins,
            pause=self.pause,
        )

    def minimize(
        self, frames: Sequence[int], poses: np.ndarray, stage: PoseStage, held: np.ndarray | None = None
    ) -> Iterator[Moment]:
        """One stage of some frames, together, from poses (K, P). Its last moment is the result, with `self.cost`.

        held: (K, P) bool, parameters that do not change.
        """
        objective, surface = self.objective(frames, poses, stage, smooth=len(frames) > 1), self.level(stage).surface
        search = self._search(poses, held)
        landmarks = list(objective.pins)
        before, slow = np.inf, 0
        for _ in range(stage.steps):
            if stage.reach:
                for k, fixed in enumerate(landmarks):
                    pulls = self._pulls(surface, objective, k, search.parameters, stage.reach)
                    objective.pins[k] = Pins.joined([fixed, pulls])
            if not search.step(objective.model(search.parameters), objective.cost):
                break
            self.shared, self.cost = search.parameters.shared, search.cost
            yield frames, search.parameters.frames
            slow = slow + 1 if search.cost > before * (1 - SLOW) else 0
            if slow >= 2:
                break
            before = search.cost
        objective.pins = landmarks
        self.cost = objective.cost(search.parameters)
        yield frames, search.parameters.frames

    def through(self, f: int, pose: np.ndarray, stages: Sequence[PoseStage]) -> Iterator[Moment]:
        """One frame by itself from a pose (P,) through stages. As in `minimize`."""
        poses = pose[None]
        for stage in stages:
            for moment in self.minimize([f], poses, stage):
                poses = moment[1]
                yield moment

    def apart(self, frames: Sequence[int], stages: Sequence[PoseStage], tries: int = 1) -> Iterator[Moment]:
        """Every frame by itself from where it is.

        tries: how often the first stage is gone through, each time with other points that the masks pull. Where it ends
        may depend on the last bit of a number, so all ends that are about as good go on, and the best of them is taken.
        """
        for f in frames:
            given = self.poses[f].copy()
            found: list[tuple[float, np.ndarray]] = []
            for attempt in range(tries):
                pose = given
                for moment in self.through(f, given, stages[:1]):
                    pose = moment[1][0]
                    if attempt == 0:  # whoever stops the search here gets what it has
                        self.poses[f] = pose
                    yield moment
                found.append((self.cost, pose))
            found.sort(key=lambda end: end[0])
            ends = []
            for rank, (cost, start) in enumerate(found):
                if cost > SUSPECT * found[0][0]:
                    break
                pose = start
                for moment in self.through(f, start, stages[1:]):
                    pose = moment[1][0]
                    if rank == 0:
                        self.poses[f] = pose
                    yield moment
                ends.append((self.cost if stages[1:] else cost, pose))
            self.costs[f], self.poses[f] = min(ends, key=lambda end: end[0])
            yield [f], self.poses[f][None]

    def onwards(self, known: int, frames: Sequence[int], stages: Sequence[PoseStage]) -> Iterator[Moment]:
        """Every frame from the pose of the one beside it, away from a known one."""
        for _ in self.minimize([known], self.poses[[known]], replace(stages[-1], steps=0)):
            self.costs[known] = self.cost
        after = [f for f in frames if f > known]
        before = [f for f in reversed(frames) if f < known]
        for way in (after, before):
            last = known
            for f in way:
                self.poses[f] = self.poses[last]
                yield from self.apart([f], stages)
                last = f

    def exchange(
        self, frames: Sequence[int], stages: Sequence[PoseStage], sweeps: int, known: int | None = None
    ) -> Iterator[Moment]:
        """Frames that match worse than others try the poses of those beside them, their mean, and their own anew.

        Of a few frames all do, for nothing tells which are worse than they could be.
        """
        for _ in range(sweeps):
            changed = False
            usual = float(np.quantile(self.costs[list(frames)], 0.25)) if len(frames) > FEW else 0.0
            for k in sorted(range(len(frames)), key=lambda k: -self.costs[frames[k]]):
                f = frames[k]
                if self.costs[f] < SUSPECT * usual:
                    break
                if f == known:
                    continue
                beside = [frames[j] for j in (k - 1, k + 1) if 0 <= j < len(frames)]
                starts = [self.poses[g] for g in beside if self.costs[g] < self.costs[f]]
                starts += [self.poses[beside].mean(axis=0)] if len(beside) == 2 else []
                starts += [self.poses[f]] if len(frames) <= FEW else []
                for start in starts:
                    pose = start
                    for _, (pose,) in self.through(f, start, stages):
                        yield [f], pose[None]
                    if self.cost < BETTER * self.costs[f]:
                        self.poses[f], self.costs[f], changed = pose, self.cost, True
            if not changed:
                return

    def together(
        self, frames: Sequence[int], stages: Sequence[PoseStage], known: int | None = None
    ) -> Iterator[Moment]:
        """All frames at once, bound by smoothness, and the cameras with them."""
        held = np.zeros((len(frames), self.figure.count), dtype=bool)
        held[[f == known for f in frames]] = True
        for stage in stages:
            for moment in self.minimize(frames, self.poses[list(frames)], stage, held):
                self.poses[list(frames)] = moment[1]
                yield moment

    def _search(self, poses: np.ndarray, held: np.ndarray | None) -> LevenbergMarquardt:
        low, high = self.figure.bounds.T
        low, high = np.tile(low, (len(poses), 1)), np.tile(high, (len(poses), 1))
        if held is not None:
            low[held] = high[held] = poses[held]
        end, units = np.full(len(self.shared), np.inf), np.ones(len(self.shared))
        if self.moves is not None:
            end[self.moves.held.ravel()] = 0
            units = self.moves.units.ravel()
        return LevenbergMarquardt(
            Parameters(poses, self.shared),
            Parameters(low, -end),
            Parameters(high, end),
            Parameters(np.tile(self.figure.units, (len(poses), 1)), units),
        )

    def _landmarks(self, views: Sequence[View], crops: Crops, level: Level) -> Pins:
        """The landmarks of a frame's views as pins in its crops."""
        found = [(n, landmark) for n, view in enumerate(views) for landmark in view.landmarks]
        if not found:
            return Pins.none()
        given = crops.cameras["K"].cpu().numpy().astype(np.float64)
        targets = []
        for n, landmark in found:
            into_crop = given[n] @ np.linalg.inv(self.unit.camera(views[n].camera).K)
            targets.append((into_crop @ [*landmark.pixel, 1.0])[:2] / crops.resolution)
        vertices = level.place[[landmark.vertex for _, landmark in found]]
        return Pins(
            np.array([n for n, _ in found]),
            np.repeat(vertices[:, None], 3, axis=1),
            np.tile([1.0, 0.0, 0.0], (len(found), 1)),
            np.array(targets),
            self.weights["landmarks"] * np.array([landmark.weight for _, landmark in found]),
        )

    def _pulls(self, surface: Surface, objective: PoseObjective, k: int, x: Parameters, weight: float) -> Pins:
        vertices, cameras = objective.seen(k, x)
        return surface.pulls(
            vertices.cpu().numpy().astype(np.float64),
            arrays(cameras),
            objective.frames[k].crops.masks.cpu().numpy(),
            (objective.silhouettes(k, x) > 0.5).cpu().numpy(),
            weight,
            self.random,
        )


def _area(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())

"""The search for poses: every frame by itself, from its neighbours, or all together.

Each search is a generator. It yields a `Moment` after every step, so that whoever runs it can tell of it and may leave
off at any step with what was found until then, and it returns the poses it ends with. Nothing is kept anywhere else.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..schedule import PoseStage
from ..solvers.chain import Model, Parameters
from ..solvers.levenberg import Cost, Ended, State, descend
from .problem import PoseProblem

FEW_FRAMES = 3  # Up to so many frames, none is left out of a second search: nothing tells which would need it.
SUSPECT = 1.3  # A frame that costs so many times more than the better ones may have a wrong pose.
BETTER = 0.98  # Another pose is taken only where it costs less than this share of the present one.


@dataclass(frozen=True, eq=False)
class Found:
    """What a stage of some frames ended with.

    Attributes:
        x: the frames' poses, and what their cameras share.
        cost: of the last stage there, without pulls; infinite before the first stage.
        ended: why there was no other step; None before the first stage.
    """

    x: Parameters
    cost: float = np.inf
    ended: Ended | None = None


@dataclass(frozen=True, eq=False)
class Poses:
    """What a search has found so far.

    Attributes:
        frames: (F, P) pose of each frame.
        shared: (C,) parameters of the cameras, none where they stay.
        costs: (F,) of each frame at the end of the last stages that it went through by itself.
        cost: of what was searched last.
        rivals: degrees from the rotation of the object to others that match about as well.
    """

    frames: np.ndarray
    shared: np.ndarray
    costs: np.ndarray
    cost: float = np.inf
    rivals: tuple[float, ...] = ()

    @classmethod
    def start(cls, problem: PoseProblem) -> Poses:
        """The rig as given in every frame, and the cameras as given."""
        count = len(problem.frames)
        shared = 0 if problem.moves is None else problem.moves.held.size
        return cls(np.zeros((count, problem.figure.count)), np.zeros(shared), np.full(count, np.inf))

    def of(self, frames: Sequence[int]) -> Parameters:
        """Those of some frames."""
        return Parameters.of(self.frames[list(frames)], self.shared)

    def at(self, frames: Sequence[int], x: Parameters, cost: float) -> Poses:
        """With other poses of some frames, and other cameras."""
        poses = self.frames.copy()
        poses[list(frames)] = x.frames
        return replace(self, frames=poses, shared=x.shared, cost=cost)

    def settled(self, frame: int, found: Found) -> Poses:
        """With the pose, and the cost, that one frame ended with by itself."""
        costs = self.costs.copy()
        costs[frame] = found.cost
        return replace(self.at([frame], found.x, found.cost), costs=costs)

    def all_like(self, frame: int) -> Poses:
        """With the pose of one frame in every frame."""
        return replace(self, frames=np.tile(self.frames[frame], (len(self.frames), 1)))

    def with_cameras(self, problem: PoseProblem) -> Poses:
        """With cameras as given, which move in a problem from now on."""
        return replace(self, shared=Poses.start(problem).shared)

    def with_rivals(self, rivals: Sequence[float]) -> Poses:
        """With what else matches about as well."""
        return replace(self, rivals=tuple(rivals))


@dataclass(frozen=True, eq=False)
class Moment:
    """One step of a search.

    Attributes:
        frames: those whose poses it changed, maybe only to try some that are not taken.
        x: the poses of these frames, and the cameras, after the step.
        cost: there.
        poses: the result of the search if it is left off here.
    """

    frames: Sequence[int]
    x: Parameters
    cost: float
    poses: Poses


Steps = Generator[State, None, Found]
Search = Generator[Moment, None, Poses]


def minimize(
    problem: PoseProblem, frames: Sequence[int], start: Parameters, stage: PoseStage, held: np.ndarray | None = None
) -> Steps:
    """One stage of some frames, together, from K poses.

    Args:
        held: (K, P) bool, parameters that do not change.
    """
    objective = problem.objective(frames, start.frames, stage)

    def squares(x: Parameters) -> tuple[Model, Cost]:
        pulls = (problem.pulls(objective, x, stage),) if stage.pull else ()
        return objective.model(x, pulls), lambda trial: objective.cost(trial, pulls)

    state, ended = yield from descend(start, squares, problem.limits(start.frames, start.shared, held), stage.steps)
    return Found(state.x, objective.cost(state.x), ended)


def through(
    problem: PoseProblem,
    frames: Sequence[int],
    start: Found,
    stages: Sequence[PoseStage],
    held: np.ndarray | None = None,
) -> Steps:
    """Some frames, together, through stages that each begin where the one before ended. As in `minimize`."""
    found = start
    for stage in stages:
        found = yield from minimize(problem, frames, found.x, stage, held)
    return found


def told(steps: Steps, frames: Sequence[int], poses: Poses, *, taken: bool) -> Generator[Moment, None, Found]:
    """The steps of some frames as moments of a search that has found `poses` before.

    Args:
        taken: whether what they lead to counts as found at once; otherwise it is only tried.
    """
    while True:
        try:
            state = next(steps)
        except StopIteration as end:
            return end.value
        yield Moment(frames, state.x, state.cost, poses.at(frames, state.x, state.cost) if taken else poses)


def apart(
    problem: PoseProblem, poses: Poses, frames: Sequence[int], stages: Sequence[PoseStage], tries: int = 1
) -> Search:
    """Every frame by itself from where it is.

    tries: how often the first stage is gone through, each time with other points that the masks pull. Where it ends
        may depend on the last bit of a number, so all ends that are about as good go on, and the best of them is taken.
    """
    for f in frames:
        start, begun = Found(poses.of([f])), []
        for attempt in range(tries):
            first = attempt == 0
            found = yield from told(through(problem, [f], start, stages[:1]), [f], poses, taken=first)
            poses = poses.at([f], found.x, found.cost) if first else poses
            begun.append(found)
        begun.sort(key=_cost)
        ends = []
        for rank, start in enumerate(begun):
            if start.cost > SUSPECT * begun[0].cost:
                break
            first = rank == 0
            found = yield from told(through(problem, [f], start, stages[1:]), [f], poses, taken=first)
            poses = poses.at([f], found.x, found.cost) if first else poses
            ends.append(found)
        poses = poses.settled(f, min(ends, key=_cost))
    return poses


def onwards(
    problem: PoseProblem, poses: Poses, known: int, frames: Sequence[int], stages: Sequence[PoseStage]
) -> Search:
    """Every frame from the pose of the one beside it, away from a known one."""
    x = poses.of([known])
    cost = problem.objective([known], x.frames, stages[-1]).cost(x)
    poses = poses.settled(known, Found(x, cost))
    later = [f for f in frames if f > known]
    earlier = [f for f in reversed(frames) if f < known]
    for way in (later, earlier):
        last = known
        for f in way:
            begun = poses.at([f], poses.of([last]), poses.cost)
            poses = yield from apart(problem, begun, [f], stages)
            last = f
    return poses


def exchange(
    problem: PoseProblem,
    poses: Poses,
    frames: Sequence[int],
    stages: Sequence[PoseStage],
    sweeps: int,
    known: int | None = None,
) -> Search:
    """Frames that match worse than others try the poses of those beside them, their mean, and their own anew.

    Of a few frames all do, for nothing tells which are worse than they could be.
    """
    for _ in range(sweeps):
        changed = False
        usual = float(np.quantile(poses.costs[list(frames)], 0.25)) if len(frames) > FEW_FRAMES else 0.0
        for k in _dearest_first(poses, frames):
            f = frames[k]
            if poses.costs[f] < SUSPECT * usual:
                break
            if f == known:
                continue
            beside = [frames[j] for j in (k - 1, k + 1) if 0 <= j < len(frames)]
            starts: list[np.ndarray | None] = [poses.frames[[g]] for g in beside if poses.costs[g] < poses.costs[f]]
            starts += [poses.frames[beside].mean(axis=0)[None]] if len(beside) == 2 else []
            starts += [None] if len(frames) <= FEW_FRAMES else []  # the frame's own pose, which is what it has by then
            for pose in starts:
                start = poses.of([f]) if pose is None else Parameters.of(pose, poses.shared)
                found = yield from told(through(problem, [f], Found(start), stages), [f], poses, taken=False)
                if found.cost < BETTER * poses.costs[f]:
                    poses, changed = poses.settled(f, found), True
        if not changed:
            break
    return poses


def together(
    problem: PoseProblem, poses: Poses, frames: Sequence[int], stages: Sequence[PoseStage], known: int | None = None
) -> Search:
    """All frames at once, bound by smoothness, and the cameras with them."""
    held = np.zeros((len(frames), problem.figure.count), dtype=bool)
    held[[f == known for f in frames]] = True
    steps = through(problem, frames, Found(poses.of(frames)), stages, held)
    found = yield from told(steps, frames, poses, taken=True)
    return poses.at(frames, found.x, found.cost)


def _cost(found: Found) -> float:
    return found.cost


def _dearest_first(poses: Poses, frames: Sequence[int]) -> list[int]:
    """Places in `frames`, that with the greatest cost first."""
    return sorted(range(len(frames)), key=lambda k: -poses.costs[frames[k]])

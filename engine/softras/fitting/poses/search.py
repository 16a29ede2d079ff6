"""Searches for poses: every frame by itself, from the pose of the frame beside it, or all frames together.

A search is a generator. It yields a `Moment` after every step and returns the poses it ends with. Whoever runs it can
report each step, and can leave off after any of them with the poses found until then. Nothing is kept anywhere else.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..schedule import PoseStage
from ..solvers.chain import Model, Parameters
from ..solvers.levenberg import Cost, Ended, State, descend
from .problem import PoseProblem

FEW_FRAMES = 3  # Of up to so many frames, each is searched again: they are too few to tell which one is unusual.
SUSPECT = 1.3  # A frame that costs at least so many times as much as the better frames may have a wrong pose.
BETTER = 0.98  # Another pose is taken only if it costs less than this share of what the present pose costs.
HOPELESS = 1.15  # A search is left off after a stage at whose end it costs more than so many times the present pose.


@dataclass(frozen=True, eq=False)
class Found:
    """What some frames ended a stage with.

    Attributes:
        x: the poses of the frames, and the parameters of the cameras.
        cost: the stage's cost of x, without pulls; infinite before the first stage.
        ended: why the stage ended; None before the first stage.
    """

    x: Parameters
    cost: float = np.inf
    ended: Ended | None = None


@dataclass(frozen=True, eq=False)
class Poses:
    """What a search has found so far.

    Attributes:
        frames: (F, P) the pose of each frame.
        shared: (C,) the parameters of the cameras; C is 0 where they stay.
        costs: (F,) the cost of each frame when it was last searched by itself; infinite before.
        cost: the cost of the frames that were searched last.
        rivals: the angles in degrees from the object's rotation to other rotations that match about as well.
    """

    frames: np.ndarray
    shared: np.ndarray
    costs: np.ndarray
    cost: float = np.inf
    rivals: tuple[float, ...] = ()

    @classmethod
    def start(cls, problem: PoseProblem) -> Poses:
        """The rig as given in every frame, and the cameras as given: all parameters are 0."""
        count = len(problem.frames)
        shared = 0 if problem.camera_moves is None else problem.camera_moves.held.size
        return cls(np.zeros((count, problem.figure.count)), np.zeros(shared), np.full(count, np.inf))

    def of(self, frames: Sequence[int]) -> Parameters:
        """The parameters of some frames, and of the cameras."""
        return Parameters.of(self.frames[list(frames)], self.shared)

    def at(self, frames: Sequence[int], x: Parameters, cost: float) -> Poses:
        """These poses, with those of some frames and the cameras replaced by x."""
        poses = self.frames.copy()
        poses[list(frames)] = x.frames
        return replace(self, frames=poses, shared=x.shared, cost=cost)

    def settled(self, frame: int, found: Found) -> Poses:
        """These poses, with the pose and the cost with which one frame ended a search by itself."""
        costs = self.costs.copy()
        costs[frame] = found.cost
        return replace(self.at([frame], found.x, found.cost), costs=costs)

    def all_like(self, frame: int) -> Poses:
        """These poses, with the pose of one frame in every frame."""
        return replace(self, frames=np.tile(self.frames[frame], (len(self.frames), 1)))

    def with_cameras(self, problem: PoseProblem) -> Poses:
        """These poses, with the parameters (all 0) of the cameras that move in a problem."""
        return replace(self, shared=Poses.start(problem).shared)

    def with_rivals(self, rivals: Sequence[float]) -> Poses:
        """These poses, with other rotations that match about as well, as angles in degrees."""
        return replace(self, rivals=tuple(rivals))


@dataclass(frozen=True, eq=False)
class Moment:
    """One step of a search.

    Attributes:
        frames: the frames whose poses the step changed, maybe only to try poses that will not be taken.
        x: the poses of these frames, and the parameters of the cameras, after the step.
        cost: the cost of x.
        poses: what the search returns if it is left off here.
    """

    frames: Sequence[int]
    x: Parameters
    cost: float
    poses: Poses


Steps = Generator[State, None, Found]
Search = Generator[Moment, None, Poses]


def minimize(
    problem: PoseProblem,
    frames: Sequence[int],
    start: Parameters,
    stage: PoseStage,
    held: np.ndarray | None = None,
    rival: Parameters | None = None,
) -> Steps:
    """Search for the poses of K frames together, in one stage.

    Args:
        start: the poses to start from, and the parameters of the cameras.
        held: (K, P) bool, True for parameters that do not change.
        rival: other poses of these frames. The cost is infinite for a search that has not come near to theirs.
    """
    objective = problem.objective(frames, start.frames, stage)

    def squares(x: Parameters) -> tuple[Model, Cost]:
        pulls = (problem.pulls(objective, x, stage),) if stage.pull else ()
        return objective.model(x, pulls), lambda trial: objective.cost(trial, pulls)

    state, ended = yield from descend(start, squares, problem.limits(start.frames, start.shared, held), stage.steps)
    cost = objective.cost(state.x)
    hopeless = rival is not None and cost > HOPELESS * objective.cost(rival)
    return Found(state.x, np.inf if hopeless else cost, ended)


def through(
    problem: PoseProblem,
    frames: Sequence[int],
    start: Found,
    stages: Sequence[PoseStage],
    held: np.ndarray | None = None,
    rival: Parameters | None = None,
) -> Steps:
    """As `minimize`, through several stages, each of which begins where the one before it ended.

    A stage that ends with an infinite cost is the last.
    """
    found = start
    for stage in stages:
        found = yield from minimize(problem, frames, found.x, stage, held, rival)
        if np.isinf(found.cost):
            break
    return found


def as_moments(steps: Steps, frames: Sequence[int], poses: Poses, *, taken: bool) -> Generator[Moment, None, Found]:
    """The steps of some frames, as moments of a search that had found `poses` before them.

    Args:
        taken: whether the search, left off after a step, returns what the step led to; if not, it returns `poses`.
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
    """Search for every frame by itself, from the pose that it has.

    Args:
        tries: how often the first stage is repeated, each time with other random pulls. Where it ends may depend on the
            last bit of a number, so all ends that are about as good go on to the next stages, and the best is taken.
    """
    for f in frames:
        start, begun = Found(poses.of([f])), []
        for attempt in range(tries):
            first = attempt == 0
            found = yield from as_moments(through(problem, [f], start, stages[:1]), [f], poses, taken=first)
            poses = poses.at([f], found.x, found.cost) if first else poses
            begun.append(found)
        begun.sort(key=_cost)
        ends = []
        for rank, start in enumerate(begun):
            if start.cost > SUSPECT * begun[0].cost:
                break
            first = rank == 0
            found = yield from as_moments(through(problem, [f], start, stages[1:]), [f], poses, taken=first)
            poses = poses.at([f], found.x, found.cost) if first else poses
            ends.append(found)
        poses = poses.settled(f, min(ends, key=_cost))
    return poses


def onwards(
    problem: PoseProblem, poses: Poses, known: int, frames: Sequence[int], stages: Sequence[PoseStage]
) -> Search:
    """Search for every frame from the pose of the frame beside it, beginning at a known frame and going both ways."""
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
    """Search again for frames that match worse than others, from the poses of the frames beside them and their mean.

    Of up to FEW_FRAMES frames, each is searched again, from its own pose too. No frame begins twice at the same pose of
    others: the search would end where it did before, but for its random pulls.

    Args:
        sweeps: how often all frames are gone through, as long as that changes any.
        known: the frame whose pose is known and stays.
    """
    tried: set[tuple[int, bytes]] = set()  # frames with poses of others that they have begun at
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
            starts = [poses.frames[[g]] for g in beside if poses.costs[g] < poses.costs[f]]
            starts += [poses.frames[beside].mean(axis=0)[None]] if len(beside) == 2 else []
            starts = [pose for pose in starts if (f, pose.tobytes()) not in tried]
            tried.update((f, pose.tobytes()) for pose in starts)
            own = [None] if len(frames) <= FEW_FRAMES else []  # None: the pose that the frame has by then.
            for pose in (*starts, *own):
                now = poses.of([f])
                start = Found(now if pose is None else Parameters.of(pose, poses.shared))
                steps = through(problem, [f], start, stages, rival=now)
                found = yield from as_moments(steps, [f], poses, taken=False)
                if found.cost < BETTER * poses.costs[f]:
                    poses, changed = poses.settled(f, found), True
        if not changed:
            break
    return poses


def together(
    problem: PoseProblem, poses: Poses, frames: Sequence[int], stages: Sequence[PoseStage], known: int | None = None
) -> Search:
    """Search for all frames at once, coupled by the smoothness term, and for the cameras with them."""
    held = np.zeros((len(frames), problem.figure.count), dtype=bool)
    held[[f == known for f in frames]] = True
    steps = through(problem, frames, Found(poses.of(frames)), stages, held)
    found = yield from as_moments(steps, frames, poses, taken=True)
    return poses.at(frames, found.x, found.cost)


def _cost(found: Found) -> float:
    return found.cost


def _dearest_first(poses: Poses, frames: Sequence[int]) -> list[int]:
    """The indices in `frames`, that of the frame with the greatest cost first."""
    return sorted(range(len(frames)), key=lambda k: -poses.costs[frames[k]])

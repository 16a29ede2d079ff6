"""The search for bones that are turned far from where they should be, in frames that no other frame can help.

A descent from there ends in a minimum beside the right one, since on the way between them the silhouettes match worse.
So many turns of a bone are tried: first of the bone that carries the whole body, then of one bone after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ..schedule import TURN, PoseStage
from ..solvers.chain import Parameters
from .object_search import spread
from .problem import PoseProblem
from .search import Found, Poses, Search, as_moments, minimize, through

TURNS = 16  # The root bone is tried in so many rotations,
MAX_TURN = np.radians(75)  # which differ from the given one by at most this angle.
KEPT = 3  # So many of them go on after the first stage.
ANGLES = (0.5, -0.5, 1.0, -1.0, 2.0, -2.0)  # Other bones are turned by these angles in radians, about each axis.
DESCENTS = 8  # At so many turned bones, those that match best, descents begin.
BETTER = 0.97  # Another pose is taken only if it costs less than this share of what the present pose costs.
ROUNDS = 6  # Bones are chosen anew so often at most, as long as that changes any.
FAR = 2.0  # In a thorough search, the larger bones are turned by this angle in radians.
LEAST_MOTION = 3e-4  # A bone that moves the mean vertex by less, in object sizes a radian, is too small to be seen,
LIMB_MOTION = 5e-3  # and a bone that moves it by less is not one of the larger.


def turn_root(problem: PoseProblem, poses: Poses, frames: Sequence[int], stages: Sequence[PoseStage]) -> Search:
    """Search for the rotation of the root bone in each of some frames, from the given pose of all other bones.

    The root bone is the one that moves most of the mesh. Nothing happens if it may not rotate freely.
    """
    axes = _root(problem, stages[0])
    if axes is None:
        return poses
    for f in frames:
        begun = []
        for rotation in spread(TURNS, MAX_TURN):
            pose = np.zeros((1, problem.figure.count))
            pose[0, axes] = rotation.as_rotvec()
            steps = minimize(problem, [f], Parameters.of(pose, poses.shared), stages[0])
            begun.append((yield from as_moments(steps, [f], poses, taken=False)))
        for start in sorted(begun, key=lambda found: found.cost)[:KEPT]:
            poses = yield from _better(problem, poses, f, start.x, stages[1:])
    return poses


def turn_bones(problem: PoseProblem, poses: Poses, frames: Sequence[int], stages: Sequence[PoseStage]) -> Search:
    """Search for single bones to turn in each of some frames, until no turn improves the match.

    Args:
        stages: of a descent from a turned bone. The turns are compared in the second one, which is coarse and draws
            areas, so that their silhouettes differ by the turned bone alone.
    """
    for f in frames:
        for _ in range(ROUNDS):
            before = poses
            for turn in _promising(problem, poses.of([f]), f, stages[1])[:DESCENTS]:
                start = turn.of(poses.of([f]), problem)
                if start is not None:
                    poses = yield from _better(problem, poses, f, start, stages)
            if poses is before:
                break
    return poses


def turn_limbs(problem: PoseProblem, poses: Poses, frames: Sequence[int], stages: Sequence[PoseStage]) -> Search:
    """As `turn_bones`, for the larger bones and thoroughly.

    A turned bone may match badly until the bones below it have followed. So a short stage of coarse pixels begins at
    each turn, and the best of them go on.
    """
    for f in frames:
        begun = []
        motion = _motion(problem, stages[0], poses.frames[f])
        for _, number in _rotations(problem):
            for turn in (Turn(number, FAR), Turn(number, -FAR)):
                start = turn.of(poses.of([f]), problem)
                if start is not None and motion[number] >= LIMB_MOTION:
                    begun.append((yield from as_moments(minimize(problem, [f], start, TURN), [f], poses, taken=False)))
        before = poses
        for end in sorted(begun, key=lambda end: end.cost)[:DESCENTS]:
            poses = yield from _better(problem, poses, f, end.x, stages)
            if poses is not before:
                poses = yield from turn_bones(problem, poses, [f], stages)
                break
    return poses


class Turn(NamedTuple):
    """A change of one rotation of a bone: the parameter's number, and an angle in radians."""

    number: int
    angle: float

    def of(self, x: Parameters, problem: PoseProblem) -> Parameters | None:
        """The pose of one frame with the bone turned; None if its limits do not allow that."""
        pose = x.frames.copy()
        pose[0, self.number] += self.angle
        low, high = problem.figure.bounds[self.number]
        return Parameters.of(pose, x.shared) if low <= pose[0, self.number] <= high else None


def _better(problem: PoseProblem, poses: Poses, frame: int, start: Parameters, stages: Sequence[PoseStage]) -> Search:
    """The poses with what a descent of one frame ends with, if that is better."""
    found = yield from as_moments(through(problem, [frame], Found(start), stages), [frame], poses, taken=False)
    return poses.settled(frame, found) if found.cost < BETTER * poses.costs[frame] else poses


def _promising(problem: PoseProblem, x: Parameters, frame: int, stage: PoseStage) -> list[Turn]:
    """Of each bone the turn that matches best; the best of all comes first."""
    objective = problem.objective([frame], x.frames, stage)
    motion = _motion(problem, stage, x.frames[0])
    best: dict[str, tuple[float, Turn]] = {}
    for bone, number in _rotations(problem):
        for turn in [Turn(number, angle) for angle in ANGLES if motion[number] >= LEAST_MOTION]:
            trial = turn.of(x, problem)
            cost = np.inf if trial is None else objective.cost(trial)
            if bone not in best or cost < best[bone][0]:
                best[bone] = cost, turn
    return [turn for _, turn in sorted(best.values())]


def _root(problem: PoseProblem, stage: PoseStage) -> list[int] | None:
    """The three parameters of the root bone's rotation vector; None where it may not rotate freely."""
    motion = _motion(problem, stage, np.zeros(problem.figure.count))
    bones: dict[str, list[int]] = {}
    for bone, number in _rotations(problem):
        bones.setdefault(bone, []).append(number)
    if not bones:
        return None
    axes = max(bones.values(), key=lambda numbers: motion[numbers].sum())
    return axes if len(axes) == 3 and np.isinf(problem.figure.bounds[axes]).all() else None


def _rotations(problem: PoseProblem) -> Iterator[tuple[str, int]]:
    """The bones' names with the numbers of their rotations' parameters."""
    for number, name in enumerate(problem.figure.names):
        bone, is_rotation, _ = name.rpartition(".rotation.")
        if is_rotation and bone != "object":
            yield bone, number


def _motion(problem: PoseProblem, stage: PoseStage, pose: np.ndarray) -> np.ndarray:
    """(P,) by how much each parameter moves the mean vertex, in object sizes."""
    moved = problem.level(stage).figure.jacobian(torch.as_tensor(pose, dtype=torch.float64))
    return moved.norm(dim=1).mean(dim=0).numpy() / problem.unit.size

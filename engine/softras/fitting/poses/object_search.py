"""The rotation of an object that is turned far from where the masks show it: many are tried, the best refined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from ..schedule import PoseStage
from ..solvers.chain import Parameters
from ..starts.facing import APART, angle_between, rotation_of
from .problem import PoseProblem
from .search import Found, Poses, Search, minimize, told

MAX_TURN = np.radians(85)  # The rotations that are tried for an object are at most this far from the given one.
KEPT = (6, 2)  # So many candidates go on after the first stage, and so many after the second.
RIVAL = 1.6  # Another rotation matches about as well where it costs at most so many times as much as the best.


def search_turns(
    problem: PoseProblem, poses: Poses, frame: int, stages: Sequence[PoseStage], turns: Sequence[Rotation]
) -> Search:
    """The object's location, rotation and size in a frame, all else as it is.

    The given rotation, and those that are made before it, go through the first stage, the best of them through the
    second, of those the best through the rest.
    """
    given = poses.of([frame])
    held = np.ones(given.frames.shape, dtype=bool)
    held[:, problem.figure.slices["object"]] = False
    sizes = np.array([[name == "object.scale" for name in problem.figure.names]])
    candidates = [Found(given)]
    candidates += [Found(Parameters.of(x[None], given.shared)) for x in turned(problem, given.frames[0], turns)]
    for number, stage in enumerate(stages):
        if 0 < number <= len(KEPT):
            candidates = sorted(candidates, key=lambda found: found.cost)
            if number == len(KEPT):
                candidates = _distinct(problem, candidates)
            candidates = candidates[: KEPT[number - 1]]
        last = number == len(stages) - 1
        for k, candidate in enumerate(candidates):
            # Coarse pixels bloat what is thin, so that smaller would fit better: the size waits for the last stage.
            still = held if last else held | sizes
            steps = minimize(problem, [frame], candidate.x, stage, still)
            candidates[k] = yield from told(steps, [frame], poses, taken=False)
            if last and candidates[k].cost < poses.costs[frame]:
                poses = poses.settled(frame, candidates[k])
    return poses.with_rivals(_rivals(problem, candidates, poses.frames[frame]))


def _distinct(problem: PoseProblem, candidates: list[Found]) -> list[Found]:
    """The best first, then those that are turned clearly otherwise, then the rest, which would end where it does."""
    best = _rotation(problem, candidates[0].x.frames[0])
    near = [angle_between(best, _rotation(problem, found.x.frames[0])) < APART for found in candidates]
    others = [candidate for candidate, same in zip(candidates, near, strict=True) if not same]
    return candidates[:1] + others + [c for c, same in zip(candidates[1:], near[1:], strict=True) if same]


def _rivals(problem: PoseProblem, ends: Sequence[Found], pose: np.ndarray) -> tuple[float, ...]:
    """Degrees between the rotation of a pose (P,) and others whose ends cost about as much."""
    best = _rotation(problem, pose)
    least = min(end.cost for end in ends)
    others = [_rotation(problem, end.x.frames[0]) for end in ends if end.cost < RIVAL * least]
    angles = [angle_between(best, other) for other in others]
    return tuple(float(np.degrees(angle)) for angle in angles if angle > APART)


def _rotation(problem: PoseProblem, pose: np.ndarray) -> np.ndarray:
    """(3, 3) of the object in a pose (P,)."""
    return rotation_of(problem.rig_at(pose).transform.matrix())


def turned(problem: PoseProblem, given: np.ndarray, turns: Sequence[Rotation]) -> list[np.ndarray]:
    """Parameters (P,) of the object turned about the middle of its mesh, before the rotation that it has."""
    part = problem.figure.slices["object"]
    names = [name.removeprefix("object.") for name in problem.figure.names[part]]
    if not {"rotation.x", "rotation.y", "rotation.z"} <= set(names):
        return []
    transform = problem.rig.transform
    start = transform.matrix()
    back = np.linalg.inv(problem.rig.parent)
    world = problem.world(given)[np.unique(problem.mesh.faces)]
    middle = back[:3, :3] @ ((world.min(axis=0) + world.max(axis=0)) / 2) + back[:3, 3]
    local = np.linalg.solve(start[:3, :3], middle - start[:3, 3])
    found = []
    for rotation in turns:
        pose = given.copy()
        linear = start[:3, :3] / transform.scale @ rotation.as_matrix() * transform.scale
        change = dict(zip(("rotation.x", "rotation.y", "rotation.z"), rotation.as_rotvec(), strict=True))
        # What is free of the location keeps the middle where it was.
        shift = middle - linear @ local - start[:3, 3]
        change |= dict(zip(("location.x", "location.y", "location.z"), shift, strict=True))
        pose[part] = [change.get(name, 0.0) for name in names]
        found.append(pose)
    return found


def spread(count: int, farthest: float = MAX_TURN) -> list[Rotation]:
    """Rotations no farther than that (radians), evenly spread, by a super-Fibonacci spiral (Alexa, CVPR 2022)."""
    phi, psi = np.sqrt(2), 1.533751168755204288118041
    found: list[Rotation] = []
    total = max(1, 4 * count if farthest < np.pi else count)
    while len(found) < count:  # of all rotations a share is near enough
        s = np.arange(total) + 0.5
        r, big = np.sqrt(s / total), np.sqrt(1 - s / total)
        alpha, beta = 2 * np.pi * s / phi, 2 * np.pi * s / psi
        every = Rotation.from_quat(
            np.column_stack([r * np.sin(alpha), r * np.cos(alpha), big * np.sin(beta), big * np.cos(beta)])
        )
        found = list(every[every.magnitude() <= farthest][:count])
        total = total * 5 // 4
    return found[:count]

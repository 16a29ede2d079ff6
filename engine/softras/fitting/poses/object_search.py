"""The search for an object whose rotation may be far off: many rotations are tried, and the best are refined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from ..schedule import PoseStage
from ..solvers.chain import Parameters
from ..starts.facing import APART, angle_between, rotation_of
from .problem import PoseProblem
from .search import Found, Poses, Search, as_moments, minimize

MAX_TURN = np.radians(85)  # Rotations that are tried differ from the given one by at most this angle.
KEPT = (6, 2)  # So many candidates go on after the first stage, and so many after the second.
RIVAL = 1.6  # Another rotation matches about as well as the best if it costs at most so many times as much.


def search_turns(
    problem: PoseProblem, poses: Poses, frame: int, stages: Sequence[PoseStage], turns: Sequence[Rotation]
) -> Search:
    """Search for the object's location, rotation and scale in one frame; all else stays as it is.

    The given rotation, and each of `turns` followed by it, go through the first stage; the best of them go on to the
    second stage, and the best of these to the rest.
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
            # Coarse pixels make thin parts look thick, so that a smaller object would match better there: the scale
            # changes in the last stage only.
            still = held if last else held | sizes
            steps = minimize(problem, [frame], candidate.x, stage, still)
            candidates[k] = yield from as_moments(steps, [frame], poses, taken=False)
            if last and candidates[k].cost < poses.costs[frame]:
                poses = poses.settled(frame, candidates[k])
    return poses.with_rivals(_rivals(problem, candidates, poses.frames[frame]))


def _distinct(problem: PoseProblem, candidates: list[Found]) -> list[Found]:
    """The candidates in another order: the best, then those whose rotation is APART from it, then the rest.

    Those whose rotation is nearly that of the best would most likely end where it ends.
    """
    best = _rotation(problem, candidates[0].x.frames[0])
    near = [angle_between(best, _rotation(problem, found.x.frames[0])) < APART for found in candidates]
    others = [candidate for candidate, same in zip(candidates, near, strict=True) if not same]
    return candidates[:1] + others + [c for c, same in zip(candidates[1:], near[1:], strict=True) if same]


def _rivals(problem: PoseProblem, ends: Sequence[Found], pose: np.ndarray) -> tuple[float, ...]:
    """The angles in degrees from the rotation of a pose (P,) to those among `ends` that match about as well."""
    best = _rotation(problem, pose)
    least = min(end.cost for end in ends)
    others = [_rotation(problem, end.x.frames[0]) for end in ends if end.cost < RIVAL * least]
    angles = [angle_between(best, other) for other in others]
    return tuple(float(np.degrees(angle)) for angle in angles if angle > APART)


def _rotation(problem: PoseProblem, pose: np.ndarray) -> np.ndarray:
    """The (3, 3) rotation of the object in a pose (P,)."""
    return rotation_of(problem.rig_at(pose).transform.matrix())


def turned(problem: PoseProblem, given: np.ndarray, turns: Sequence[Rotation]) -> list[np.ndarray]:
    """For each of `turns`, the pose (P,) of the object rotated by it first, and then by the rotation it has in `given`.

    The middle of the mesh stays where it is. An empty list where the object may not rotate about all axes.
    """
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
        # The location, as far as it is free, makes up for the way that the middle of the mesh would go.
        shift = middle - linear @ local - start[:3, 3]
        change |= dict(zip(("location.x", "location.y", "location.z"), shift, strict=True))
        pose[part] = [change.get(name, 0.0) for name in names]
        found.append(pose)
    return found


def spread(count: int, farthest: float = MAX_TURN) -> list[Rotation]:
    """`count` rotations by at most `farthest` radians, evenly spread: a super-Fibonacci spiral (Alexa, CVPR 2022)."""
    phi, psi = np.sqrt(2), 1.533751168755204288118041
    found: list[Rotation] = []
    total = max(1, 4 * count if farthest < np.pi else count)
    while len(found) < count:  # Only some of all rotations are by so little, so more are made until there are enough.
        s = np.arange(total) + 0.5
        r, big = np.sqrt(s / total), np.sqrt(1 - s / total)
        alpha, beta = 2 * np.pi * s / phi, 2 * np.pi * s / psi
        every = Rotation.from_quat(
            np.column_stack([r * np.sin(alpha), r * np.cos(alpha), big * np.sin(beta), big * np.cos(beta)])
        )
        found = list(every[every.magnitude() <= farthest][:count])
        total = total * 5 // 4
    return found[:count]

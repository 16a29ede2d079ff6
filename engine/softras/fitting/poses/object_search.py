"""The rotation of an object that is turned far from where the masks show it: many are tried, the best refined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from ..schedule import PoseStage
from ..starts.facing import APART, angle_between, rotation_of
from .search import Moment, PoseSearch

FARTHEST = np.radians(85)  # from the given rotation
KEPT = (6, 2)  # candidates after the first stage, and after the second


def search_turns(
    search: PoseSearch,
    frame: int,
    stages: Sequence[PoseStage],
    turns: Sequence[Rotation],
    ends: list[tuple[float, np.ndarray]] | None = None,
) -> Iterator[Moment]:
    """The object's place in a frame, all else as it is: into `search.poses`.

    The given rotation, and those that are made before it, go through the first stage, the best of them through the
    second, of those the best through the rest. Those that went through all, with their costs, are added to `ends`.
    """
    given = search.poses[frame]
    part = search.figure.slices["object"]
    held = np.ones(given.shape, dtype=bool)
    held[part] = False
    sizes = np.array([name == "object.scale" for name in search.figure.names])
    candidates = [(np.inf, given)]
    candidates += [(np.inf, pose) for pose in turned(search, given, turns)]
    for number, stage in enumerate(stages):
        if number <= len(KEPT) and number:
            candidates = sorted(candidates, key=lambda found: found[0])
            if number == len(KEPT):
                candidates = _distinct(search, candidates)
            candidates = candidates[: KEPT[number - 1]]
        for k, (_, pose) in enumerate(candidates):
            # Coarse pixels bloat what is thin, so that smaller would fit better: the size waits for the last stage.
            still = held | sizes if number < len(stages) - 1 else held
            for moment in search.minimize([frame], pose[None], stage, still[None]):
                yield moment
            candidates[k] = search.cost, moment[1][0]
            if number == len(stages) - 1 and search.cost < search.costs[frame]:
                search.costs[frame], search.poses[frame] = candidates[k]
    if ends is not None:
        ends += candidates


def _distinct(search: PoseSearch, candidates: list[tuple[float, np.ndarray]]) -> list[tuple[float, np.ndarray]]:
    """The best first, then those that are turned clearly otherwise, then the rest, which would end where it does."""
    rotations = [rotation_of(search.rig_at(pose).transform.matrix()) for _, pose in candidates]
    near = [angle_between(rotations[0], rotation) < APART for rotation in rotations]
    others = [candidate for candidate, same in zip(candidates, near, strict=True) if not same]
    return candidates[:1] + others + [c for c, same in zip(candidates[1:], near[1:], strict=True) if same]


def turned(search: PoseSearch, given: np.ndarray, turns: Sequence[Rotation]) -> list[np.ndarray]:
    """Parameters (P,) of the object turned about the middle of its mesh, before the rotation that it has."""
    names = [name.removeprefix("object.") for name in search.figure.names[search.figure.slices["object"]]]
    if not {"rotation.x", "rotation.y", "rotation.z"} <= set(names):
        return []
    transform = search.rig.transform
    start = transform.matrix()
    back = np.linalg.inv(search.rig.parent)
    world = search.world(given)[np.unique(search.mesh.faces)]
    middle = back[:3, :3] @ ((world.min(axis=0) + world.max(axis=0)) / 2) + back[:3, 3]
    local = np.linalg.solve(start[:3, :3], middle - start[:3, 3])
    found = []
    for rotation in turns:
        pose = given.copy()
        at = search.figure.slices["object"].start
        linear = start[:3, :3] / transform.scale @ rotation.as_matrix() * transform.scale
        change = dict(zip(("rotation.x", "rotation.y", "rotation.z"), rotation.as_rotvec(), strict=True))
        # What is free of the location keeps the middle where it was.
        shift = middle - linear @ local - start[:3, 3]
        change |= dict(zip(("location.x", "location.y", "location.z"), shift, strict=True))
        for k, name in enumerate(names):
            pose[at + k] = change.get(name, 0.0)
        found.append(pose)
    return found


def spread(count: int, farthest: float = FARTHEST) -> list[Rotation]:
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

"""Rigs made of random numbers."""

from __future__ import annotations

import numpy as np

from softras import Mesh
from softras.rig import INHERIT_SCALE, Armature, Bone, Rig, ShapeKey, Transform
from softras.rotations import ROTATION_MODES

ALL = (True, True, True)


def random_transform(random: np.random.Generator, mode: str, **free: object) -> Transform:
    count = 4 if mode in ("QUATERNION", "AXIS_ANGLE") else 3
    return Transform(random.normal(size=3) * 0.3, random.normal(size=count), random.uniform(0.6, 1.5, 3), mode, **free)


def random_rig(seed: int, inherit: tuple[str, ...] = INHERIT_SCALE) -> Rig:
    """A rig with all rotation modes, ways of inheriting, locks and limits; vertices 0 and 1 have no weight."""
    random = np.random.default_rng(seed)
    bones = []
    for number in range(12):
        rest = random_transform(random, "QUATERNION").matrix()
        rest[:3, :3] /= np.linalg.norm(rest[:3, :3], axis=0)
        free: dict[str, object] = {"free_rotation": ALL}
        if number % 3 == 1:
            free = {"free_rotation": (True, False, True), "free_location": (False, True, False), "free_scale": True}
        elif number % 3 == 2:
            free["limits"] = [(-7, 7), (-7, 7), (-7, 7)]
        pose = random_transform(random, ROTATION_MODES[number % 8], **free)
        if inherit == ("FULL",):
            rotates, scale = True, "FULL"
        else:
            rotates, scale = bool(random.random() < 0.7), str(random.choice(inherit))
        bones.append(
            Bone(f"Bone {number}", max(-1, number - 1 - number % 2), rest, pose, rotates, scale, number % 5 != 3)
        )
    count = 30
    vertices = random.normal(size=(count, 3))
    skin = random.integers(2, count, 80), random.integers(0, 12, 80), random.random(80)
    follows = random_transform(random, "XYZ").matrix()
    return Rig(
        Mesh(vertices, [[0, 1, 2]]),
        random_transform(random, "ZXY", free_location=ALL, free_rotation=ALL, free_scale=True),
        random_transform(random, "XYZ").matrix(),
        random_transform(random, "XYZ").matrix(),
        (
            ShapeKey("Wide", random.normal(size=(count, 3)), 0.3),
            ShapeKey("Held", random.normal(size=(count, 3)), 0.5, free=False),
            ShapeKey("Tall", random.normal(size=(count, 3)), -0.1, low=-1, high=2),
        ),
        Armature(tuple(bones), *skin, follows),
    )

"""A rig as a function of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..raster.algebra import product
from ..rig import LOCKED, PARTS, Rig, Transform
from .shape_keys import ShapeKeys
from .skeleton import Evaluated, Skeleton
from .transforms import Moved, Transforms


class Posture(NamedTuple):
    """A rig at some parameters: its vertices, and what their derivatives follow from.

    Attributes:
        vertices: (V, 3) in the world.
        skinned, rest: (V, 3) in armature space, moved by the bones and before; with the values of the shape keys.
        mover: the transform of the mover; None where it stays.
        world: (4, 4) the matrix from armature space (without an armature, the space of the mover) to the world.
        pose, bones: the transforms of the bones, and where these are; None without an armature.
    """

    vertices: Tensor
    skinned: Tensor
    rest: Tensor
    mover: Moved | None
    world: Tensor
    pose: Moved | None
    bones: Evaluated | None


class PosedRig:
    """A rig whose pose is given by P parameters: changes from the rig as given, which are 0 for the rig as it is.

    `deform.transforms` and `deform.shape_keys` say what each parameter means.

    Attributes:
        count: P.
        slices: by part ("object", "pose", "shape_keys"), the parameters that belong to it.
        names: P labels such as "pose.Arm.rotation.x".
        bounds: (P, 2) the least and the greatest value of each parameter, infinite for none.
        units: (P,) the typical size of each parameter: 1 for radians and logarithms of scales, the object's size for
            locations, the whole range for shape keys.
    """

    def __init__(
        self,
        rig: Rig,
        optimize: Sequence[str] = PARTS,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Raises InputError when nothing of the parts to optimize may change."""
        for part in optimize:
            if part not in PARTS:
                raise InputError(f"a rig has no part '{part}' to optimize; choose from {', '.join(PARTS)}.")

        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, device=device, dtype=dtype)

        self._given = rig
        self._vertices = tensor(rig.mesh.vertices)
        self._parent = tensor(rig.parent)
        count = len(rig.mesh.vertices)
        self._object = Transforms(
            [rig.transform if "object" in optimize else _held(rig.transform)], device=device, dtype=dtype
        )
        keys = [key if "shape_keys" in optimize else replace(key, free=False) for key in rig.shape_keys]
        self._keys = ShapeKeys(keys, count, device=device, dtype=dtype)
        armature = rig.armature
        bones = armature.bones if armature else ()
        poses = [bone.pose if "pose" in optimize else _held(bone.pose) for bone in bones]
        self._pose = Transforms(poses, device=device, dtype=dtype)
        self._skeleton = Skeleton(armature, count, device=device, dtype=dtype) if armature else None
        # The matrices from the mesh's space to armature space, and from armature space to the space of the mover.
        into = armature.follows if armature else np.eye(4)
        self._follows = tensor(np.linalg.inv(into) @ rig.follows)
        self._armature = tensor(into)
        self._still = None
        if not self._object.count:
            self._still = self._placed(self._object.at(tensor(np.zeros(0))).matrices)[0]

        counts = {"object": self._object.count, "pose": self._pose.count, "shape_keys": self._keys.count}
        ends = np.cumsum(list(counts.values()))
        self.slices = {part: slice(int(end) - n, int(end)) for (part, n), end in zip(counts.items(), ends, strict=True)}
        self.count = int(ends[-1])
        if self.count == 0 and optimize:
            raise InputError(f"nothing of {' or '.join(optimize)} may change; unlock something to optimize.")
        channels = [("object", channel) for channel in self._object.channels]
        channels += [
            (f"pose.{bones[owner].name}", channel)
            for owner, channel in zip(self._pose.owners.tolist(), self._pose.channels, strict=True)
        ]
        self.names = [".".join(filter(None, (owner, *channel))) for owner, channel in channels]
        self.names += [f"shape_keys.{name}" for name in self._keys.names]
        self.bounds = np.concatenate([self._object.bounds, self._pose.bounds, self._keys.bounds])
        size = float(np.ptp(rig.vertices(), axis=0).max())
        sizes = {"object": _scale_of(rig.parent), "pose": _scale_of(rig.parent @ rig.transform.matrix() @ into)}
        units = [size / sizes[owner.split(".")[0]] if kind == "location" else 1.0 for owner, (kind, _) in channels]
        self.units = np.concatenate([units, np.ptp(self._keys.bounds, axis=1)])

    def at(self, parameters: Tensor) -> Posture:
        """The rig at parameters (P,)."""
        part = self.slices
        mover = self._object.at(parameters[part["object"]]) if self._still is None else None
        world = self._placed(mover.matrices)[0] if mover is not None else self._still
        assert world is not None
        points = rest = _apply(self._follows, self._keys.apply(parameters[part["shape_keys"]], self._vertices))
        pose = bones = None
        if self._skeleton is not None:
            pose = self._pose.at(parameters[part["pose"]])
            bones = self._skeleton.at(pose.matrices)
            points = self._skeleton.skin(bones.poses, rest)
        return Posture(_apply(world, points), points, rest, mover, world, pose, bones)

    def vertices(self, parameters: Tensor) -> Tensor:
        """(V, 3) vertices in the world for parameters (P,); differentiable, also in forward mode and by vmap."""
        return self.at(parameters).vertices

    def joints(self, parameters: Tensor) -> Tensor:
        """(B, 3) the heads of the bones in the world."""
        posture = self.at(parameters)
        if posture.bones is None:
            return self._vertices.new_zeros(0, 3)
        return _apply(posture.world, posture.bones.poses[:, :3, 3])

    def jacobian(self, parameters: Tensor) -> Tensor:
        """(V, 3, P) the exact derivatives of `vertices` in closed form: many times faster than jacfwd; no vmap."""
        return self.jacobian_at(self.at(parameters))

    def jacobian_at(self, posture: Posture) -> Tensor:
        """As `jacobian`, from what `at` has found."""
        _, points, rest, mover, world, pose, bones = posture
        linear = world[:3, :3]  # From armature space at rest to the world; with an armature, a matrix for each vertex.
        blocks = []
        if mover is not None:
            moved = torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
            tangents = self._placed(self._object.tangents(mover))[:, :3]
            blocks.append(product(moved, tangents.permute(2, 1, 0).flatten(1)).unflatten(1, (3, -1)))
        if self._skeleton is not None and pose is not None and bones is not None:
            if self._pose.count:
                tangents = self._skeleton.pose_tangents(bones, self._pose.tangents(pose), self._pose.owners)
                blocks.append(self._skeleton.skin_tangents(product(world, tangents), rest))
            if self._keys.count:
                linear = product(linear, self._skeleton.blend(bones.poses)[:, :, :3])
        if self._keys.count:
            linear = product(linear, self._follows[:3, :3])
            blocks.append(product(linear, self._keys.offsets.permute(1, 2, 0)))
        return blocks[0] if len(blocks) == 1 else torch.cat([rest.new_zeros(len(rest), 3, 0), *blocks], dim=2)

    def rig(self, parameters: Tensor) -> Rig:
        """The rig in the pose of parameters (P,), with the rotation modes, locks and ranges of the given rig."""
        rig, slices = self._given, self.slices
        (transform,) = self._object.moved(parameters[slices["object"]])
        armature = rig.armature
        if armature is not None:
            poses = self._pose.moved(parameters[slices["pose"]])
            bones = [
                replace(bone, pose=replace(bone.pose, **pose)) for bone, pose in zip(armature.bones, poses, strict=True)
            ]
            armature = replace(armature, bones=tuple(bones))
        keys = [
            replace(key, value=moved.value)
            for key, moved in zip(rig.shape_keys, self._keys.moved(parameters[slices["shape_keys"]]), strict=True)
        ]
        return replace(rig, transform=replace(rig.transform, **transform), armature=armature, shape_keys=tuple(keys))

    def _placed(self, matrices: Tensor) -> Tensor:
        """(..., 4, 4) the matrices from armature space to the world, for matrices (..., 4, 4) of the object."""
        return product(product(self._parent, matrices), self._armature)


def _held(transform: Transform) -> Transform:
    return replace(transform, free_location=LOCKED, free_rotation=LOCKED, free_scale=False, limits=None)


def _apply(matrix: Tensor, points: Tensor) -> Tensor:
    return product(points, matrix[:3, :3].T) + matrix[:3, 3]


def _scale_of(matrix: np.ndarray) -> float:
    """The factor by which a matrix (4, 4) scales lengths, as the cube root of the factor of volumes."""
    return float(np.cbrt(np.abs(np.linalg.det(matrix[:3, :3]))))

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fit of a sequence takes for the same in every frame, and whether it is."""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np

from ..engine.softras import InputError
from ..engine.softras.rig import Rig
from .camera import parent_matrix
from .channels import rotation_property
from .frames import Seen
from .rig import armature_of, mover_of


class Still:
    """The parts of a rig that are not fitted, as they were when the rig was read.

    Attributes:
        objects: what must be known in each frame.
        shapes: that the shapes of meshes play no part.
    """

    shapes = False

    def __init__(self, target: bpy.types.Object, rig: Rig, optimize: Sequence[str]) -> None:
        self._target, self._rig, self._optimize = target, rig, optimize
        self.objects = {target, mover_of(target), armature_of(target)} - {None}
        self._read = self._numbers(lambda owner: owner)

    def check(self, frame: int, seen: Seen) -> None:
        """Raises InputError naming what is different in a frame."""
        now = self._numbers(seen)
        for name, numbers in self._read.items():
            if not np.allclose(now[name], numbers, rtol=1e-4, atol=1e-5):
                raise InputError(
                    f"{name} is different in frame {frame}, and the fit does not change it; remove or mute what "
                    "animates it, or optimize it too."
                )

    def _numbers(self, seen: Seen) -> dict[str, np.ndarray]:
        target, optimize = self._target, self._optimize
        mover, armature = seen(mover_of(target)), armature_of(target)
        world = np.array(mover.matrix_world, dtype=np.float64)
        if "object" in optimize:
            numbers = {f"the parent of '{mover.name}'": parent_matrix(mover)}
        else:
            numbers = {f"the transform of '{mover.name}'": world}
        for ob in {target, armature} - {mover_of(target), None}:
            relative = np.linalg.inv(world) @ np.array(seen(ob).matrix_world, dtype=np.float64)
            numbers[f"the transform of '{ob.name}'"] = relative
        if armature is not None and self._rig.armature is not None:
            bones = seen(armature).pose.bones
            for bone, carries in zip(self._rig.armature.bones, self._rig.armature.carries(), strict=True):
                pose_bone = bones[bone.name]
                if "pose" not in optimize:
                    numbers[f"bone '{bone.name}'"] = np.array(pose_bone.matrix)
                elif carries:
                    held = [np.array(pose_bone.scale)]
                    if not any(bone.pose.free_location) and not pose_bone.bone.use_connect:
                        held.append(np.array(pose_bone.location))
                    if not any(bone.pose.free_rotation):
                        held.append(np.array(getattr(pose_bone, rotation_property(bone.pose.mode))))
                    numbers[f"bone '{bone.name}'"] = np.concatenate(held)
        keys = target.data.shape_keys
        values = {} if keys is None else seen(keys).key_blocks
        for key in self._rig.shape_keys:
            if not key.free:
                numbers[f"shape key '{key.name}'"] = np.array(values[key.name].value)
        return numbers

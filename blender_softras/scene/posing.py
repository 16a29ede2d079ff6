# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses through what Blender shows: how the channels of bones move what is seen, whatever stands between the two.

Constraints, inverse kinematics, drivers, bendy bones and volume-preserving skins cannot be told to the engine. So
each channel is changed a little and the scene evaluated. Near that pose each channel moves the vertices as a shape key
would, and as shape keys the engine fits them. Where that has led the search, the channels are tried again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import NamedTuple

import bpy
import numpy as np

from ..access import pose_bones_of, present
from ..engine.softras import InputError
from ..engine.softras.rig import Rig, ShapeKey
from ..engine.softras.rotations import rotation_matrix, rotation_numbers
from .animation import driven
from .channels import Channel, Remembered, channel_of, read_channel, rotation_property, write_channels
from .rig import ANGLELESS, free_rotation, unlocked
from .shown import shown_mesh, shown_positions
from .target import Target

TURN = 0.2  # A round of the search turns a bone by at most so many radians about each axis,
WAY = 0.1  # and moves it by at most this share of the size of what is shown along each.
NARROWER = 0.4  # After a round that has found nothing better these are multiplied by this,
LEAST_REACH = 0.1  # and the search ends when they have fallen to this share.
STEP = 0.02  # Channels are tried with this share of these.
LEAST_MOTION = 1e-4  # A channel that moves no vertex by this share of the size, at its most, is left alone.
MOST = 150  # With more free channels than these, the artist is asked to select the bones that are meant.


class _Number(NamedTuple):
    """One free number of a bone: along or about which of its axes, in its own frame."""

    channel: Channel
    mode: str  # the rotation mode; empty for a location
    axis: int
    name: str

    def changed(self, value: np.ndarray, by: float) -> np.ndarray:
        """The value of the channel after a change of this number."""
        if self.mode not in ANGLELESS:
            return value + by * np.eye(3)[self.axis]
        turn = rotation_matrix([by, *np.eye(3)[self.axis]], "AXIS_ANGLE")
        return rotation_numbers(rotation_matrix(value, self.mode) @ turn, self.mode, value)


class Posing:
    """The free channels of a target's armatures, and how they move what is seen of it in the scene's current pose.

    Attributes:
        notes: what the artist should know of how the pose is fitted.
        start: the channels as they were when the fit began.
    """

    def __init__(self, target: Target, armatures: list[bpy.types.Object], reason: str) -> None:
        """Remember the pose. Raises InputError where no bone is free, or where there are too many that might be.

        reason: a sentence that says why the engine cannot follow the armatures by itself.
        """
        self._target = target
        self.notes = [
            f"The pose is found by trying the bones, which takes longer ({reason.split(';')[0].rstrip('.')})."
        ]
        bones = [(armature, bone) for armature in armatures for bone in pose_bones_of(armature) if _is_seen(bone)]
        chosen = [(armature, bone) for armature, bone in bones if _flag(bone, "select")] or bones
        if len(chosen) < len(bones):
            self.notes.append(f"Of {len(bones)} bones, only the {len(chosen)} that are selected are fitted.")
        self._numbers = [number for armature, bone in chosen for number in _numbers(armature, bone)]
        names = ", ".join(f"'{armature.name}'" for armature in armatures)
        if not self._numbers:
            raise InputError(f"no bone of {names} that is seen is free to move; unlock or unhide the bones to fit.")
        if len(self._numbers) > MOST:
            raise InputError(
                f"{len(self._numbers)} channels of {names} are free, which are too many to fit; select the bones that "
                "the fit may move in Pose Mode."
            )
        self._original = Remembered([number.channel for number in self._numbers], *target.objects, *armatures)
        self.start = self._at = self.values()
        self._count = 0  # of the vertices that are seen
        self._reach = 1.0  # the share of TURN and of WAY that a round of the search may go
        self._moves: list[tuple[_Number, float]] = []  # the numbers of each shape key, and what a value of 1 changes

    def values(self) -> dict[Channel, np.ndarray]:
        """The channels as the scene has them."""
        return {number.channel: read_channel(number.channel) for number in self._numbers}

    def linearized(self) -> Generator[tuple[int, int], None, Rig]:
        """What is seen as a mesh whose shape keys are the channels, with values from -1 to 1; it stays at 0.

        The generator yields between evaluations how many are done, of how many. The scene has the pose that it had
        whenever it yields.
        """
        self._at = self.values()
        mesh = shown_mesh(self._target)
        base, size = mesh.vertices, float(np.ptp(mesh.vertices, axis=0).max())
        self._count, self._moves, keys = len(base), [], []
        for done, number in enumerate(self._numbers):
            yield done, len(self._numbers)
            most = self._reach * (TURN if number.mode else WAY * size / _scale_of(number))
            offsets = (self._seen_at(number, STEP * most) - base) / STEP
            if np.abs(offsets).max(initial=0.0) > LEAST_MOTION * size * self._reach:
                self._moves.append((number, most))
                keys.append(ShapeKey(number.name, offsets, 0.0, -1.0, 1.0))
        if not keys:
            raise InputError("no free bone moves what is seen; bind the mesh to bones that can move.")
        return Rig(mesh, shape_keys=tuple(keys))

    def narrowed(self) -> bool:
        """Let further rounds go less far. False where they go so far already that no more is to be gained."""
        self._reach *= NARROWER
        return self._reach >= LEAST_REACH

    def channels_of(self, rig: Rig) -> dict[Channel, np.ndarray]:
        """The channels for the values of the shape keys of the last rig."""
        channels = dict(self._at)
        for (number, most), key in zip(self._moves, rig.shape_keys, strict=True):
            channels[number.channel] = number.changed(channels[number.channel], most * key.value)
        return channels

    def problem(self) -> str | None:
        """Why the pose can be neither shown nor put back; None when it can."""
        return self._original.problem()

    def show(self, rig: Rig) -> None:
        """Show the pose of a rig with other values of its shape keys."""
        write_channels(self.channels_of(rig))

    def keys(self, rigs: Mapping[int, Rig]) -> dict[Channel, dict[int, np.ndarray]]:
        """The values of the channels that are shown, for the scene's current frame."""
        frame = present(bpy.context.scene).frame_current
        return {channel: {frame: value} for channel, value in self.values().items()}

    def revert(self) -> None:
        """Give the bones the pose that they had."""
        self._original.put_back()

    def _seen_at(self, number: _Number, by: float) -> np.ndarray:
        """(S, 3) in the world: what is seen with one number changed."""
        now = self._at[number.channel]
        write_channels({number.channel: number.changed(now, by)})
        try:
            found = shown_positions(self._target)
        finally:
            write_channels({number.channel: now})
        if len(found) != self._count:
            raise InputError(
                f"the pose changes which faces are seen ('{number.name}' does); disable the modifier that makes other "
                "faces."
            )
        return found


def halfway(a: Mapping[Channel, np.ndarray], b: Mapping[Channel, np.ndarray]) -> dict[Channel, np.ndarray]:
    """The pose between two poses that differ little."""
    found = {}
    for channel, value in a.items():
        found[channel] = (value + b[channel]) / 2
        if channel[1].endswith("rotation_quaternion"):
            found[channel] *= np.linalg.norm(value) / np.linalg.norm(found[channel])
    return found


def _numbers(armature: bpy.types.Object, bone: bpy.types.PoseBone) -> Iterator[_Number]:
    """The free numbers of a bone.

    A bone that carries vertices keeps its distance from its parent: a limb is not stretched. Controls, which carry
    none, may be moved where they are not connected.
    """
    if driven(armature, f"{bone.path_from_id()}."):
        return
    mode = bone.rotation_mode
    for axis in np.flatnonzero(free_rotation(bone)).tolist():
        channel = channel_of(bone, rotation_property(mode))
        yield _Number(channel, mode, axis, f"{bone.name}, rotation {'xyz'[axis]}")
    if bone.bone.use_connect or (bone.parent is not None and bone.bone.use_deform):
        return
    for axis in np.flatnonzero(unlocked(bone.lock_location)).tolist():
        yield _Number(channel_of(bone, "location"), "", axis, f"{bone.name}, location {'xyz'[axis]}")


def _is_seen(bone: bpy.types.PoseBone) -> bool:
    """Whether the artist sees the bone in Pose Mode."""
    collections = bone.bone.collections
    return not _flag(bone, "hide") and (not collections or any(each.is_visible_effectively for each in collections))


def _flag(bone: bpy.types.PoseBone, name: str) -> bool:
    """A flag that belongs to the bone of a pose since Blender 5.0, and to that of the armature before."""
    return bool(getattr(bone, name) if hasattr(bone, name) else getattr(bone.bone, name))


def _scale_of(number: _Number) -> float:
    """By how much the armature object scales a location."""
    owner = number.channel[0]
    matrix = np.array(getattr(owner, "matrix_world", np.eye(4)), dtype=np.float64)
    return float(np.cbrt(abs(np.linalg.det(matrix[:3, :3])))) or 1.0

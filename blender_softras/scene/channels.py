# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels: the numbers of the scene that a fit sets.

A channel is an ID and the path of a property in it, as F-curves have it. Bones and shape keys are named by such a path
and no reference to them is kept, because Blender frees them together with the ID that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import bpy
import numpy as np

Channel = tuple[bpy.types.ID, str]


def rotation_property(mode: str) -> str:
    """The name of the property in which an object or a bone of this rotation mode has its rotation."""
    return {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}.get(mode, "rotation_euler")


def has_deltas(ob: bpy.types.Object) -> bool:
    """Whether the object has delta transforms, which Blender adds to its channels."""
    added = (ob.delta_location, ob.delta_rotation_euler, np.array(ob.delta_rotation_quaternion)[1:])
    return any(np.any(np.array(numbers)) for numbers in added) or bool(np.any(np.array(ob.delta_scale) != 1))


def channel_of(owner: bpy.types.bpy_struct, name: str) -> Channel:
    """The channel of a property of an ID, or of a part of an ID such as a bone or a shape key."""
    owner_id: Any = owner.id_data
    return owner_id, owner.path_from_id(name)


def read_channel(channel: Channel) -> np.ndarray:
    """The value that the scene has: (n,), or () for a single number."""
    owner, name = _owner(channel)
    return np.array(getattr(owner, name), dtype=np.float64)


def write_channels(values: Mapping[Channel, np.ndarray]) -> None:
    """Set the channels to values (n,), or () for a single number."""
    for channel, value in values.items():
        owner, name = _owner(channel)
        setattr(owner, name, value.tolist())


class Remembered:
    """The values that channels had when a fit began, to be put back."""

    def __init__(self, channels: Iterable[Channel], *others: bpy.types.ID) -> None:
        """Read the channels. The `others` are further IDs without which nothing can be put back."""
        channels = dict.fromkeys(channels)
        # Lists and no dictionaries, because an ID that was deleted cannot be looked up.
        self._values = [(channel, read_channel(channel)) for channel in channels]
        self._names = [(owner, owner.name) for owner in {*others, *(owner for owner, _ in channels)}]

    def problem(self) -> str | None:
        """Why the channels cannot be set any more; None when they can."""
        for owner, name in self._names:
            try:
                owner.name  # noqa: B018
            except ReferenceError:
                return f"'{name}' was deleted while it was being fitted."
        for channel, _ in self._values:
            try:
                read_channel(channel)
            except (ValueError, AttributeError):
                return f"'{channel[0].name}' was edited while it was being fitted."
        return None

    def put_back(self) -> None:
        """Give the channels that still exist the values that they had."""
        for channel, value in self._values:
            try:
                write_channels({channel: value})
            except (ReferenceError, ValueError, AttributeError):
                pass  # the ID, the bone or the shape key is gone


def _owner(channel: Channel) -> tuple[Any, str]:
    """What has the property, an ID or a part of one, and the name of the property."""
    owner, path = channel
    inside, _, name = path.rpartition(".")
    return (owner.path_resolve(inside) if inside else owner), name

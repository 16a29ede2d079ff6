# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers of the scene that a fit sets: a channel is an ID and the path of a property in it, as F-curves have it.

Bones and shape keys are named by path and not held, for Blender frees them with what they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import bpy
import numpy as np

Channel = tuple[bpy.types.ID, str]


def rotation_property(mode: str) -> str:
    """The property of an object or a bone that has the numbers of a rotation mode."""
    return {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}.get(mode, "rotation_euler")


def channel_of(owner: Any, name: str) -> Channel:
    """The channel of a property of an ID or of something in one."""
    return owner.id_data, owner.path_from_id(name)


def read_channel(channel: Channel) -> np.ndarray:
    """What the scene has: (n,), or () for a single number."""
    owner, name = _owner(channel)
    return np.array(getattr(owner, name), dtype=np.float64)


def write_channels(values: Mapping[Channel, np.ndarray]) -> None:
    """Set the properties."""
    for channel, value in values.items():
        owner, name = _owner(channel)
        setattr(owner, name, value.tolist())


class Remembered:
    """Channels as they were, to be put back."""

    def __init__(self, channels: Iterable[Channel], *others: bpy.types.ID) -> None:
        """Read the channels; the others are IDs that must be there, too."""
        channels = dict.fromkeys(channels)
        # Lists, for IDs that are deleted cannot be looked up.
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
        """Set what is still there."""
        for channel, value in self._values:
            try:
                write_channels({channel: value})
            except (ReferenceError, ValueError, AttributeError):
                pass  # it is gone


def _owner(channel: Channel) -> tuple[Any, str]:
    owner, path = channel
    inside, _, name = path.rpartition(".")
    return (owner.path_resolve(inside) if inside else owner), name

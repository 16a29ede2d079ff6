# SPDX-License-Identifier: GPL-3.0-or-later
"""What animates a property, and keyframes: layered actions, which Blender has since 4.4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import bpy
import numpy as np

from .channels import Channel

_NAME = "Softras"


def driven(owner: bpy.types.ID, *beginnings: str) -> bool:
    """Whether a driver sets one of the owner's properties (the beginnings of their paths)."""
    animation = owner.animation_data
    return animation is not None and any(
        not driver.mute and driver.data_path.startswith(beginnings) for driver in animation.drivers
    )


def keyed(owner: bpy.types.ID, *beginnings: str) -> bool:
    """Whether keyframes, in the owner's action or in NLA strips, set one of its properties."""
    animation = owner.animation_data
    if animation is None:
        return False
    strips = [strip for track in animation.nla_tracks if not track.mute for strip in track.strips if not strip.mute]
    return any(
        not curve.mute and curve.data_path.startswith(beginnings)
        for user in (animation, *strips)
        for curve in _curves(user)
    )


def keys_problem(owner: bpy.types.ID) -> str | None:
    """Why keyframes cannot be given to the owner; None when they can."""
    animation = owner.animation_data
    if animation is None:
        return None
    mixed = animation.action_blend_type != "REPLACE" or animation.action_influence < 1
    if animation.use_tweak_mode or (mixed and animation.nla_tracks):
        return (
            f"the action of '{owner.name}' is mixed with its NLA strips; leave Tweak Mode and set the action to "
            "Replace at full influence."
        )
    return None


def write_keys(keys: Mapping[Channel, Mapping[int, np.ndarray]], *, replace: bool) -> None:
    """Give the channels these values, by frame, as keyframes instead of those between the first and the last frame.

    An ID without an action gets one. Where its action already has keyframes of a channel, they go into a copy of it,
    and the action itself is kept with a fake user; with `replace` they go into the action.
    """
    copies: dict[bpy.types.Action, bpy.types.Action] = {}  # IDs that share an action go on sharing one
    for owner in dict.fromkeys(owner for owner, _ in keys):
        own = {path: values for (other, path), values in keys.items() if other == owner}
        bag = _bag(owner, set(own), replace, copies)
        for path, values in own.items():
            frames = np.array(sorted(values), dtype=np.float64)
            numbers = np.array([np.atleast_1d(values[int(frame)]) for frame in frames])
            many = np.ndim(values[int(frames[0])]) > 0
            for index in range(numbers.shape[1]):
                curve = bag.fcurves.find(path, index=index) or _new_curve(bag, path, index, many)
                _set_keys(curve, frames, numbers[:, index])


def _curves(user: Any) -> Iterator[bpy.types.FCurve]:
    """The F-curves that an ID's animation data, or an NLA strip, plays."""
    for layer in user.action.layers if user.action and user.action_slot else ():
        for strip in layer.strips:
            bag = strip.channelbag(user.action_slot)
            yield from bag.fcurves if bag else ()


def _bag(owner: bpy.types.ID, paths: set[str], replace: bool, copies: dict[bpy.types.Action, bpy.types.Action]) -> Any:
    """Where the owner's new F-curves go: its part of its action's first strip."""
    animation: Any = owner.animation_data or owner.animation_data_create()
    action, slot = animation.action, animation.action_slot
    if action is None:
        action, slot = bpy.data.actions.new(f"{_NAME} {owner.name}"), None
    elif action.library or (not replace and any(curve.data_path in paths for curve in _curves(animation))):
        if action not in copies:
            copies[action] = action.copy()
            copies[action].name = f"{_NAME} {action.name.removeprefix(_NAME).strip()}"
            if not action.library:
                action.use_fake_user = True
        action, handle = copies[action], slot.handle if slot else None
        slot = next((slot for slot in action.slots if slot.handle == handle), None)
    animation.action = action
    animation.action_slot = slot or action.slots.new(owner.id_type, owner.name)
    layer = action.layers[0] if action.layers else action.layers.new("Layer")
    strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
    return strip.channelbag(animation.action_slot, ensure=True)


def _new_curve(bag: Any, path: str, index: int, many: bool) -> bpy.types.FCurve:
    """A new F-curve, in the group that Blender would put it in: a bone's own, or that of the object's transforms."""
    curve = bag.fcurves.new(path, index=index)
    if path.startswith('pose.bones["'):
        name = path.split('"]')[0].removeprefix('pose.bones["').replace('\\"', '"')
    elif many:
        name = "Object Transforms"
    else:
        return curve
    curve.group = bag.groups.get(name) or bag.groups.new(name)
    return curve


def _set_keys(curve: bpy.types.FCurve, frames: np.ndarray, values: np.ndarray) -> None:
    """Put keys (n,) into the curve; those from the first to the last of the frames go, the others stay."""
    points = curve.keyframe_points
    for index in reversed(range(len(points))):
        if frames[0] <= points[index].co.x <= frames[-1]:
            points.remove(points[index], fast=True)
    kept = len(points)
    points.add(len(frames))
    places = np.empty(2 * len(points), dtype=np.float32)
    points.foreach_get("co", places)
    places[2 * kept :] = np.column_stack([frames, values]).ravel()
    points.foreach_set("co", places)
    curve.mute = False
    curve.update()  # sorts them, and gives them their handles

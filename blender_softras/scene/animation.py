# SPDX-License-Identifier: GPL-3.0-or-later
"""What animates a property, and keyframes written into layered actions, which Blender has since 4.4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import bpy
import numpy as np

from .channels import Channel

_NAME = "Softras"  # the first word in the names of the actions that a fit makes


def driven(owner: bpy.types.ID, *beginnings: str) -> bool:
    """Whether a driver sets a property of the owner whose path starts with one of the beginnings."""
    animation = _animation_of(owner)
    return animation is not None and any(
        not driver.mute and driver.data_path.startswith(beginnings) for driver in animation.drivers
    )


def keyed(owner: bpy.types.ID, *beginnings: str) -> bool:
    """Whether keyframes, in the owner's action or in NLA strips, set a property whose path starts so."""
    animation = _animation_of(owner)
    if animation is None:
        return False
    strips = [strip for track in animation.nla_tracks if not track.mute for strip in track.strips if not strip.mute]
    return any(
        not curve.mute and curve.data_path.startswith(beginnings)
        for curve in (*_curves(animation), *(curve for strip in strips for curve in _curves(strip)))
    )


def keys_problem(owner: bpy.types.ID) -> str | None:
    """Why keyframes cannot be given to the owner; None when they can."""
    animation = _animation_of(owner)
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
    """Give the channels keyframes with these values, by frame.

    Keyframes that a channel has from the first to the last of the frames are replaced; others stay. An ID without an
    action gets one. Where its action already has keyframes of one of the channels, the new keyframes go into a copy of
    the action, and the action itself is kept with a fake user; with `replace` they go into the action.
    """
    copies: dict[bpy.types.Action, bpy.types.Action] = {}  # so that IDs that share an action share its copy, too
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


def _animation_of(owner: bpy.types.ID) -> bpy.types.AnimData | None:
    return cast(Any, owner).animation_data  # the stubs do not know it for an ID whose kind is open


def _curves(user: bpy.types.AnimData | bpy.types.NlaStrip) -> Iterator[bpy.types.FCurve]:
    """The F-curves that an ID's animation data, or an NLA strip, plays."""
    for layer in user.action.layers if user.action and user.action_slot else ():
        for strip in layer.strips:
            if isinstance(strip, bpy.types.ActionKeyframeStrip) and (bag := strip.channelbag(user.action_slot)):
                yield from bag.fcurves


def _bag(owner: bpy.types.ID, paths: set[str], replace: bool, copies: dict[bpy.types.Action, bpy.types.Action]) -> Any:
    """The channel bag for the owner's new F-curves: the one for the owner in the first strip of its action.

    `paths` are the properties that get keyframes; `copies` are the actions that were copied, and their copies.
    """
    animation: Any = _animation_of(owner) or owner.animation_data_create()
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
    """A new F-curve, in the group where Blender would put it: that of its bone, or that of the object's transforms.

    `many`: the property has several numbers, of which this F-curve sets the one at `index`.
    """
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
    """Give the curve keyframes at ascending `frames` (n,) with `values` (n,), in place of those that it has between."""
    points = curve.keyframe_points
    for index in reversed(range(len(points))):
        if frames[0] <= points[index].co.x <= frames[-1]:
            points.remove(points[index], fast=True)
    kept = len(points)
    points.add(len(frames))
    coordinates = np.empty(2 * len(points), dtype=np.float32)
    points.foreach_get("co", coordinates)
    coordinates[2 * kept :] = np.column_stack([frames, values]).ravel()
    points.foreach_set("co", coordinates)
    curve.mute = False
    curve.update()  # sorts the keyframes and computes their handles

# SPDX-License-Identifier: GPL-3.0-or-later
"""The target object's transform, armature and shape keys as the engine's rig, and a fitted rig back into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import bpy
import numpy as np

from ..engine.softras import InputError, Mesh
from ..engine.softras.rig import LOCKED, Armature, Axes, Bone, Rig, ShapeKey, Transform
from ..engine.softras.rotations import axes_of, rotation_matrix, rotation_numbers
from .animation import driven
from .channels import Channel, channel_of, rotation_property
from .layer import is_enabled
from .mesh import KEY_NAME, group_weights, matrix_of, read_mesh

_ANGLELESS = ("QUATERNION", "AXIS_ANGLE")  # rotation modes whose numbers are not angles about x, y and z
# Constraints of a bone that move bones above it, too.
_CHAINS = {"IK", "SPLINE_IK"}
_MOST_MIDDLE = np.radians(89.5)  # at 90 degrees the other two Euler angles turn about the same axis


def read_rig(target: bpy.types.Object, optimize: Sequence[str]) -> Rig:
    """The target as it is shown without modifiers other than its armature's; the view layer must be up to date.

    What is free: of "object", the mover's unlocked channels; of "pose", the rotations of the bones that carry weight,
    within locks and Limit Rotation constraints, and the locations of those of them that have no parent; of
    "shape_keys", the values of those that are not muted. What is not to be optimized is read as it is shown, whatever
    holds it there.

    Args:
        target: a mesh object.
        optimize: of "object", "pose" and "shape_keys".

    Raises InputError when the target cannot be read or does not move as the engine would move it.
    """
    faces = read_mesh(target).faces  # checks the target, too
    modifier = _armature_modifier(target)
    base, keys = _read_shape_keys(target, optimize)
    mover = mover_of(target)
    if "object" in optimize:
        transform, parent = _read_placement(target, mover)
    else:
        transform, parent = Transform(), matrix_of(mover)
    into_mover = np.linalg.inv(matrix_of(mover))
    armature = None
    if modifier is not None:
        armature = _read_armature(target, modifier.object, into_mover, "pose" in optimize)
    elif "pose" in optimize:
        raise InputError(f"'{target.name}' has no Armature modifier, so it has no pose to fit.")
    return Rig(Mesh(base, faces), transform, parent, into_mover @ matrix_of(target), keys, armature)


def channels_of(target: bpy.types.Object, rig: Rig) -> dict[Channel, np.ndarray]:
    """The free channels of a rig that was read from the target, with the rig's values."""
    channels = _transform_channels(mover_of(target), rig.transform)
    armature = armature_of(target)
    if rig.armature is not None and armature is not None:
        for bone in rig.armature.bones:
            channels |= _transform_channels(armature.pose.bones[bone.name], bone.pose)
    for key in rig.shape_keys:
        if key.free:
            channels[channel_of(target.data.shape_keys.key_blocks[key.name], "value")] = np.array(key.value)
    return channels


def armature_of(target: bpy.types.Object) -> bpy.types.Object | None:
    """The armature object that deforms the target. Raises InputError for what the engine cannot do."""
    modifier = _armature_modifier(target)
    return None if modifier is None else modifier.object


def mover_of(target: bpy.types.Object) -> bpy.types.Object:
    """The object whose transform moves the whole rig: the armature object where the target is below it."""
    armature = armature_of(target)
    return armature if armature is not None and armature in above(target) else target


def left_out(target: bpy.types.Object) -> list[str]:
    """Names of the enabled modifiers that a rig is read without."""
    used = _armature_modifier(target)
    return [modifier.name for modifier in target.modifiers if modifier.show_viewport and modifier != used]


def _transform_channels(owner: Any, transform: Transform) -> dict[Channel, np.ndarray]:
    channels = {}
    if any(transform.free_location):
        channels[channel_of(owner, "location")] = transform.location
    if any(transform.free_rotation):
        channels[channel_of(owner, rotation_property(transform.mode))] = transform.rotation
    if transform.free_scale:
        channels[channel_of(owner, "scale")] = transform.scale
    return channels


def above(ob: bpy.types.Object) -> list[bpy.types.Object]:
    """The object's parents, closest first."""
    above = []
    while ob.parent is not None:
        ob = ob.parent
        above.append(ob)
    return above


def _armature_modifier(target: bpy.types.Object) -> Any:
    """The one armature modifier that deforms the target, or None. Raises InputError for what the engine cannot do."""
    if target.parent is not None and target.parent.type == "ARMATURE" and target.parent_type == "ARMATURE":
        raise InputError(
            f"'{target.name}' is deformed by its parent without a modifier; give it an Armature modifier and parent it "
            "to the armature as an object."
        )
    found = [m for m in target.modifiers if m.type == "ARMATURE" and m.show_viewport and m.object is not None]
    if not found:
        return None
    if len(found) > 1:
        raise InputError(f"'{target.name}' has {len(found)} Armature modifiers; disable all but one of them.")
    (modifier,) = found
    name, armature = modifier.name, modifier.object
    if modifier.use_bone_envelopes or not modifier.use_vertex_groups:
        problem = "binds to bone envelopes; bind it to vertex groups only"
    elif modifier.use_deform_preserve_volume:
        problem = "preserves volume, which cannot be fitted; untick Preserve Volume"
    elif modifier.vertex_group:
        problem = "acts on one vertex group; clear that field"
    elif armature.library is not None:
        problem = f"uses '{armature.name}', which is linked from another file; make it local or override it"
    elif armature.mode == "EDIT" or armature.data.is_editmode:
        problem = f"uses '{armature.name}', which is in Edit Mode; leave Edit Mode there"
    elif armature.data.pose_position == "REST":
        problem = f"uses '{armature.name}', which shows its rest position; switch it to Pose Position"
    elif not is_enabled(armature):
        problem = f"uses '{armature.name}', which is disabled or not in this view layer; enable it in the Outliner"
    else:
        return modifier
    raise InputError(f"modifier '{name}' of '{target.name}' {problem}.")


# The object's transform


def _read_placement(target: bpy.types.Object, mover: bpy.types.Object) -> tuple[Transform, np.ndarray]:
    """The mover's transform and its parent matrix (4, 4). Raises InputError when it does not go where it is put."""
    modifier = _armature_modifier(target)
    if modifier is not None and modifier.object != mover:
        raise InputError(
            f"'{target.name}' would leave its armature '{modifier.object.name}' behind; parent it to the armature to "
            "fit its placement."
        )
    chain = [target, *above(target)]
    for ob in chain[: chain.index(mover) + 1]:
        if any(not constraint.mute for constraint in ob.constraints):
            raise InputError(f"'{ob.name}' is held by constraints; apply or mute them to fit its placement.")
        if driven(ob, "location", "rotation", "scale", "delta_"):
            raise InputError(f"the transform of '{ob.name}' is driven; remove the drivers to fit its placement.")
        if ob != mover and ob.parent_type != "OBJECT":
            raise InputError(
                f"'{ob.name}' is parented to a part of '{ob.parent.name}'; parent it to the whole object instead."
            )
    deltas = (*mover.delta_location, *mover.delta_rotation_euler, *mover.delta_rotation_quaternion[1:])
    if any(deltas) or tuple(mover.delta_scale) != (1, 1, 1):
        raise InputError(f"'{mover.name}' has delta transforms; apply or clear them to fit its placement.")
    _check_goals(mover)
    transform = _named(
        f"'{mover.name}'",
        lambda: _transform(mover, _unlocked(mover.lock_location), _free_rotation(mover), not any(mover.lock_scale)),
    )
    return transform, matrix_of(mover) @ np.linalg.inv(np.array(mover.matrix_basis, dtype=np.float64))


def _check_goals(mover: bpy.types.Object) -> None:
    """Raises InputError when a bone is held by something that does not move along."""
    for bone in mover.pose.bones if mover.pose else ():
        for constraint in bone.constraints:
            for goal in (getattr(constraint, "target", None), getattr(constraint, "pole_target", None)):
                if goal is not None and mover not in (goal, *above(goal)) and not constraint.mute:
                    raise InputError(
                        f"constraint '{constraint.name}' of bone '{bone.name}' holds it to '{goal.name}', which does "
                        f"not move with '{mover.name}'; parent it to that or mute the constraint."
                    )


def _unlocked(locks: Sequence[bool]) -> Axes:
    """What is not locked."""
    x, y, z = (not lock for lock in locks)
    return x, y, z


def _free_rotation(owner: Any) -> Axes:
    """Which angles may turn: a locked number of a quaternion or an axis-angle locks the angle of that axis."""
    if owner.rotation_mode in _ANGLELESS and owner.lock_rotations_4d and owner.lock_rotation_w:
        return LOCKED
    return _unlocked(owner.lock_rotation)


def _transform(
    owner: Any, free_location: Axes, free_rotation: Axes, free_scale: bool, limits: np.ndarray | None = None
) -> Transform:
    """The channels of an object or a pose bone."""
    mode = owner.rotation_mode
    rotation = np.array(getattr(owner, rotation_property(mode)), dtype=np.float64)
    if limits is not None:
        rotation, limits = _limited(rotation, mode, limits)
    location, scale = (np.array(numbers, dtype=np.float64) for numbers in (owner.location, owner.scale))
    return Transform(location, rotation, scale, mode, free_location, free_rotation, free_scale, limits)


def _named(name: str, read: Callable[[], Any]) -> Any:
    """What `read` returns; its InputErrors say of what they are."""
    try:
        return read()
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


# The shape keys


def _read_shape_keys(target: bpy.types.Object, optimize: Sequence[str]) -> tuple[np.ndarray, tuple[ShapeKey, ...]]:
    """(V, 3) the mesh without shape keys, object space, and the keys that are not muted."""
    keys = target.data.shape_keys
    wanted = "shape_keys" in optimize
    if keys is None:
        if wanted:
            raise InputError(f"'{target.name}' has no shape keys to fit.")
        return _coordinates(target.data.vertices), ()
    if target.show_only_shape_key and target.active_shape_key is not None:
        if wanted:
            raise InputError(f"'{target.name}' shows one shape key only; unpin it in the Shape Keys panel to fit them.")
        return _coordinates(target.active_shape_key.points), ()
    read = []
    for key in keys.key_blocks[1:]:
        if key.mute:
            continue
        is_driven = driven(keys, f'key_blocks["{bpy.utils.escape_identifier(key.name)}"].value')
        if is_driven and "pose" in optimize:
            raise InputError(f"shape key '{key.name}' is driven, maybe by the pose; remove or mute its driver.")
        offsets = _coordinates(key.points) - _coordinates(key.relative_key.points)
        if key.vertex_group and (group := target.vertex_groups.get(key.vertex_group)):
            offsets *= group_weights(target, group.index)[:, None]
        moves = bool(offsets.any()) and key.slider_min < key.slider_max
        free = wanted and not is_driven and key.name != KEY_NAME and moves
        read.append(ShapeKey(key.name, offsets, key.value, key.slider_min, key.slider_max, free))
    if wanted and not any(key.free for key in read):
        raise InputError(f"'{target.name}' has no shape keys to fit that are neither muted nor driven.")
    return _coordinates(keys.reference_key.points), tuple(read)


def _coordinates(points: Any) -> np.ndarray:
    """(V, 3) float64 of vertices or of a shape key's points."""
    flat = np.empty(len(points) * 3, dtype=np.float32)
    points.foreach_get("co", flat)
    return flat.reshape(-1, 3).astype(np.float64)


# The bones


def _read_armature(
    target: bpy.types.Object, armature: bpy.types.Object, into_mover: np.ndarray, posable: bool
) -> Armature:
    bones = armature.data.bones
    skin = _read_skin(target, bones)
    follows = into_mover @ matrix_of(armature)
    if not posable:
        return Armature(tuple(_held_bone(pose_bone) for pose_bone in armature.pose.bones), *skin, follows)
    index = {bone.name: number for number, bone in enumerate(bones)}
    rests = [np.array(bone.matrix_local, dtype=np.float64) for bone in bones]
    parents = [-1 if bone.parent is None else index[bone.parent.name] for bone in bones]
    outline = Armature(tuple(Bone(*entry) for entry in zip(index, parents, rests, strict=True)), *skin, follows)
    carries = outline.carries()
    if not carries.any():
        raise InputError(
            f"no bone of '{armature.name}' moves '{target.name}'; weight the mesh to it "
            "(Parent > With Automatic Weights)."
        )
    read = []
    for bone, entry, carried in zip(bones, outline.bones, carries, strict=True):
        pose_bone = armature.pose.bones[bone.name]
        pose = _named(f"bone '{bone.name}'", lambda p=pose_bone, c=carried: _read_pose(armature, p, bool(c)))
        read.append(
            Bone(
                bone.name,
                entry.parent,
                entry.rest,
                pose,
                bone.use_inherit_rotation,
                bone.inherit_scale,
                bone.use_local_location,
            )
        )
    return Armature(tuple(read), *skin, follows)


def _read_skin(target: bpy.types.Object, bones: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) vertices, (n,) bones, (n,) weights: the vertex groups that have the name of a deforming bone."""
    bone_of: dict[int, int] = {}
    for number, bone in enumerate(bones):
        group = target.vertex_groups.get(bone.name)
        if group is not None and bone.use_deform:
            bone_of[group.index] = number
    entries = [
        (number, bone_of[element.group], element.weight)
        for number, vertex in enumerate(target.data.vertices)
        for element in vertex.groups
        if element.group in bone_of
    ]
    vertices, owners, weights = np.array(entries, dtype=np.float64).reshape(-1, 3).T
    for number in np.unique(owners.astype(np.int64)):
        bone = bones[int(number)]
        if bone.bbone_segments > 1:
            raise InputError(f"'{bone.name}' is a bendy bone; set its segments to 1.")
        if bone.use_envelope_multiply:
            raise InputError(f"bone '{bone.name}' multiplies its weights by its envelope; untick Envelope Multiply.")
    return vertices.astype(np.int64), owners.astype(np.int64), weights


def _held_bone(pose_bone: bpy.types.PoseBone) -> Bone:
    """The bone as it is shown, whatever holds it there: without a parent."""
    rest = np.array(pose_bone.bone.matrix_local, dtype=np.float64)
    channel = np.linalg.inv(rest) @ np.array(pose_bone.matrix, dtype=np.float64)
    scale = np.linalg.norm(channel[:3, :3], axis=0)
    if np.linalg.det(channel[:3, :3]) < 0:
        scale = -scale
    rotation = channel[:3, :3] / np.where(scale == 0, 1, scale)
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-4:
        raise InputError(
            f"bone '{pose_bone.name}' is sheared or scaled to nothing; clear its scale and those of the bones above it."
        )
    near = np.array([1.0, 0, 0, 0])
    pose = Transform(channel[:3, 3], rotation_numbers(rotation, "QUATERNION", near), scale)
    return Bone(pose_bone.name, -1, rest, pose)


def _read_pose(armature: bpy.types.Object, pose_bone: bpy.types.PoseBone, carries: bool) -> Transform:
    """A bone's channels. Raises InputError when something else than its channels moves it."""
    limits = None
    for constraint in pose_bone.constraints:
        if constraint.mute or not constraint.enabled or constraint.influence == 0:
            continue
        if not carries and constraint.type not in _CHAINS:
            continue  # it moves nothing that is seen
        limited = constraint.type == "LIMIT_ROTATION" and _read_limits(constraint, pose_bone.rotation_mode)
        if limited is False or limits is not None:
            raise InputError(
                f"constraint '{constraint.name}' holds it; apply or mute it (one Limit Rotation in local space at full "
                "influence may stay)."
            )
        limits = limited
    if not carries:
        return Transform()  # not even a scale of zero matters
    if driven(armature, f'pose.bones["{bpy.utils.escape_identifier(pose_bone.name)}"].'):
        raise InputError("its pose is driven; remove or mute the drivers to fit it.")
    free_location = _unlocked(pose_bone.lock_location) if pose_bone.parent is None else LOCKED
    pose = _transform(pose_bone, free_location, _free_rotation(pose_bone), False, limits)
    if pose_bone.bone.use_connect:  # Blender keeps these at their parents' tails, whatever their locations say
        pose = replace(pose, location=np.zeros(3))
    return pose


def _read_limits(constraint: Any, mode: str) -> np.ndarray | bool:
    """(3, 2) least and greatest angles, infinite where there are none; False when it limits other angles."""
    order = "XYZ" if mode in _ANGLELESS else mode
    if constraint.owner_space != "LOCAL" or constraint.influence < 1 or constraint.euler_order not in ("AUTO", order):
        return False
    return np.array(
        [
            (getattr(constraint, f"min_{axis}"), getattr(constraint, f"max_{axis}"))
            if getattr(constraint, f"use_limit_{axis}")
            else (-np.inf, np.inf)
            for axis in "xyz"
        ]
    )


def _limited(rotation: np.ndarray, mode: str, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotation as a Limit Rotation constraint leaves it, and the limits (3, 2) within which it changes nothing.

    The constraint takes of the two sets of angles that give a rotation the one with the smaller sum of magnitudes: the
    set meant as long as the middle angle is below 90 degrees and all three sum to at most 270.
    """
    order = mode if mode not in _ANGLELESS else "XYZ"
    near_zero = rotation_numbers(rotation_matrix(rotation, mode), order, np.zeros(3))
    angles = np.clip(near_zero, limits[:, 0], limits[:, 1])
    first, middle, last = axes_of(order)
    limits = np.clip(limits, -np.pi, np.pi)
    limits[middle] = np.clip(limits[middle], -_MOST_MIDDLE, _MOST_MIDDLE)
    reach = np.abs(limits).max(axis=1)
    rest = 1.5 * np.pi - reach[middle]  # for the other two: the smaller as it is or both the same
    outer = max(rest / 2, rest - min(reach[first], reach[last]))
    limits[[first, last]] = np.clip(limits[[first, last]], -outer, outer)
    limits = np.column_stack([np.minimum(limits[:, 0], angles), np.maximum(limits[:, 1], angles)])
    if mode in _ANGLELESS:
        return rotation_numbers(rotation_matrix(angles, order), mode, rotation), limits
    return angles, limits

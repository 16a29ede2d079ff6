# SPDX-License-Identifier: GPL-3.0-or-later
"""A target's transform, armature and shape keys as the engine's rig, and a fitted rig as values of their channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

import bpy
import numpy as np

from ..access import pose_bones_of, present, skeleton_of
from ..engine.softras import InputError, Mesh
from ..engine.softras.rig import LOCKED, Armature, Axes, Bone, Rig, ShapeKey, Transform
from ..engine.softras.rotations import axes_of, rotation_matrix, rotation_numbers
from .animation import driven
from .channels import Channel, channel_of, has_deltas, rotation_property
from .mesh import (
    KEY_NAME,
    key_offsets,
    key_positions,
    matrix_of,
    mesh_positions,
    mixed_positions,
    read_mesh,
    transformed,
)
from .shown import joined, shown_mesh
from .stage import Stage
from .target import MeshObject, Target, parents_of

_Moved = bpy.types.Object | bpy.types.PoseBone  # what has a location, a rotation and a scale
_Skin = tuple[np.ndarray, np.ndarray, np.ndarray]  # (n,) vertices, (n,) bones, (n,) weights
ANGLELESS = ("QUATERNION", "AXIS_ANGLE")  # the rotation modes whose numbers are not angles about x, y and z
_CHAINS = {"IK", "SPLINE_IK"}  # the constraints of a bone that move bones above it, too
# The largest angle, in radians, to which a limit may let the middle Euler angle go: at 90 degrees the other two angles
# turn about the same axis.
_MAX_MIDDLE_ANGLE = np.radians(89.5)


def read_cage(target: Target) -> Rig:
    """The target as a mesh that its mover's transform moves as a whole: what else moves its vertices is left to a cage.

    The mesh is that of the object with its shape keys as they are set. Raises InputError as `read_rig` does.
    """
    single = target.single
    faces = read_mesh(single).faces  # refuses coordinates that are not finite, too
    transform, parent = _read_placement(target)
    follows = np.linalg.inv(matrix_of(target.mover)) @ matrix_of(single.object)
    return Rig(Mesh(mixed_positions(single), faces), transform, parent, follows)


def read_shown(target: Target) -> Rig:
    """What is shown of the target, modifiers and pose included, as one mesh that its mover's transform moves.

    Raises InputError as `read_rig` does.
    """
    transform, parent = _read_placement(target)
    shown = shown_mesh(target)
    vertices = transformed(shown.vertices, np.linalg.inv(matrix_of(target.mover)))
    return Rig(Mesh(vertices, shown.faces), transform, parent)


def read_rig(target: Target, optimize: Sequence[str]) -> Rig:
    """The target as its armature and its shape keys move it; the view layer must be up to date.

    Where no vertices and no shape keys are fitted, what is read of the meshes is what their other modifiers make of
    them; otherwise other modifiers are left out (see `is_shaped`).

    Free are, of "object", the unlocked channels of the target's mover; of "pose", the rotations of the bones that
    carry weight, within locks and Limit Rotation constraints, and the locations of those of these bones that have no
    parent; of "shape_keys", the values of the keys that are not muted. What is not to be optimized is read as it is
    shown, whatever holds it there.

    Args:
        target: must have been looked up with its armature (`rigged`).
        optimize: of "object", "pose" and "shape_keys".

    Raises InputError when the target cannot be read or does not move as the engine would move it.
    """
    shaped = is_shaped(target, optimize)
    single = target.meshes[0] if shaped else target.single
    faces = read_mesh(single).faces  # refuses coordinates that are not finite, too
    base, keys = _read_shape_keys(single, optimize)
    if "object" in optimize:
        transform, parent = _read_placement(target)
    else:
        transform, parent = Transform(), matrix_of(target.mover)
    into_mover = np.linalg.inv(matrix_of(target.mover))
    armature = None
    if target.armature is not None and shaped:
        mesh, skin = _read_shapes(target, skeleton_of(target.armature).bones, into_mover)
        armature = _read_armature(single, target.armature, skin, into_mover, "pose" in optimize)
        return Rig(mesh, transform, parent, armature=armature)
    if target.armature is not None:
        skin = _read_skin(single, single.mesh, skeleton_of(target.armature).bones)
        armature = _read_armature(single, target.armature, skin, into_mover, "pose" in optimize)
    elif "pose" in optimize:
        raise InputError(f"'{single.name}' has no Armature modifier, so it has no pose to fit.")
    return Rig(Mesh(base, faces), transform, parent, into_mover @ matrix_of(single.object), keys, armature)


def is_shaped(target: Target, optimize: Sequence[str]) -> bool:
    """Whether what other modifiers make of the target's meshes is read, and then moved by the armature.

    That is exact for modifiers before the armature's, and close to what is shown for most that come after it.
    """
    several = len(target.meshes) > 1 or bool(target.meshes[0].left_out)
    return several and target.armature is not None and not {"vertices", "shape_keys"} & set(optimize)


def _read_shapes(
    target: Target, bones: bpy.types.bpy_prop_collection[bpy.types.Bone], into_mover: np.ndarray
) -> tuple[Mesh, _Skin]:
    """The meshes as one in the mover's space, with all modifiers but the armature's, and their skin.

    `into_mover` (4, 4) leads from the world into the mover's space.
    """
    meshes, skins, count = [], [], 0
    for each in target.meshes:
        matrix = matrix_of(each.object)
        with closing(Stage(present(bpy.context.scene), each)) as stage:
            mesh = stage.mesh_without(each.modifier)
            vertices, owners, weights = _read_skin(each, mesh, bones)
            positions, faces = transformed(mesh_positions(mesh), into_mover @ matrix), stage.triangles()
        if np.linalg.det(matrix[:3, :3]) < 0:
            faces = faces[:, ::-1]  # a mirrored object is drawn inside out unless its faces turn too
        meshes.append(Mesh(positions, faces))
        skins.append((vertices + count, owners, weights))
        count += len(positions)
    vertices, owners, weights = (np.concatenate(parts) for parts in zip(*skins, strict=True))
    return joined(meshes), (vertices, owners, weights)


def channels_of(target: Target, rig: Rig) -> dict[Channel, np.ndarray]:
    """The free channels of a rig that was read from the target, with the rig's values."""
    channels = _transform_channels(target.mover, rig.transform)
    if rig.armature is not None and target.armature is not None:
        pose_bones = pose_bones_of(target.armature)
        for bone in rig.armature.bones:
            channels |= _transform_channels(pose_bones[bone.name], bone.pose)
    free = [key for key in rig.shape_keys if key.free]
    if free:
        blocks = present(target.single.keys).key_blocks
        channels |= {channel_of(blocks[key.name], "value"): np.array(key.value) for key in free}
    return channels


def _transform_channels(owner: _Moved, transform: Transform) -> dict[Channel, np.ndarray]:
    """The free channels of an object's or a pose bone's transform."""
    channels = {}
    if any(transform.free_location):
        channels[channel_of(owner, "location")] = transform.location
    if any(transform.free_rotation):
        channels[channel_of(owner, rotation_property(transform.mode))] = transform.rotation
    if transform.free_scale:
        channels[channel_of(owner, "scale")] = transform.scale
    return channels


# The object's transform


def _read_placement(target: Target) -> tuple[Transform, np.ndarray]:
    """The mover's transform and its parent matrix (4, 4).

    Raises InputError when the mesh, its armature or the mover would not go where the mover's channels put it.
    """
    mover, armature = target.mover, target.armature
    if armature is not None and armature != mover:
        raise InputError(
            f"'{target.single.name}' would leave its armature '{armature.name}' behind; parent it to the armature to "
            "fit its placement."
        )
    chains = ([each.object, *parents_of(each.object)] for each in target.meshes)
    for ob in dict.fromkeys(ob for chain in chains for ob in chain[: chain.index(mover) + 1]):
        if any(not constraint.mute for constraint in ob.constraints):
            raise InputError(f"'{ob.name}' is held by constraints; apply or mute them to fit its placement.")
        if driven(ob, "location", "rotation", "scale", "delta_"):
            raise InputError(f"the transform of '{ob.name}' is driven; remove the drivers to fit its placement.")
        if ob != mover and ob.parent is not None and ob.parent_type != "OBJECT":
            raise InputError(
                f"'{ob.name}' is parented to a part of '{ob.parent.name}'; parent it to the whole object instead."
            )
    if has_deltas(mover):
        raise InputError(f"'{mover.name}' has delta transforms; apply or clear them to fit its placement.")
    _check_goals(mover)
    with _naming(f"'{mover.name}'"):
        transform = _transform(
            mover, unlocked(mover.lock_location), free_rotation(mover), all(unlocked(mover.lock_scale))
        )
    return transform, matrix_of(mover) @ np.linalg.inv(np.array(mover.matrix_basis, dtype=np.float64))


def _check_goals(mover: bpy.types.Object) -> None:
    """Raises InputError when a constraint holds a bone to an object that does not move along with the mover."""
    for bone in mover.pose.bones if mover.pose else ():
        for constraint in bone.constraints:
            for goal in (getattr(constraint, "target", None), getattr(constraint, "pole_target", None)):
                if goal is not None and mover not in (goal, *parents_of(goal)) and not constraint.mute:
                    raise InputError(
                        f"constraint '{constraint.name}' of bone '{bone.name}' holds it to '{goal.name}', which does "
                        f"not move with '{mover.name}'; parent it to that or mute the constraint."
                    )


def unlocked(locks: bpy.types.bpy_prop_array) -> Axes:
    """Which of the three axes are not locked."""
    x, y, z = (not lock for lock in np.array(locks).tolist())
    return x, y, z


def free_rotation(owner: _Moved) -> Axes:
    """Which angles may turn: a locked number of a quaternion or an axis-angle locks the angle of that axis."""
    if owner.rotation_mode in ANGLELESS and owner.lock_rotations_4d and owner.lock_rotation_w:
        return LOCKED
    return unlocked(owner.lock_rotation)


def _transform(
    owner: _Moved, free_location: Axes, free_rotation: Axes, free_scale: bool, limits: np.ndarray | None = None
) -> Transform:
    """The channels of an object or a pose bone, whose angles are clipped to `limits` (3, 2)."""
    mode = owner.rotation_mode
    rotation = np.array(getattr(owner, rotation_property(mode)), dtype=np.float64)
    if limits is not None:
        rotation, limits = _limited(rotation, mode, limits)
    location, scale = (np.array(numbers, dtype=np.float64) for numbers in (owner.location, owner.scale))
    return Transform(location, rotation, scale, mode, free_location, free_rotation, free_scale, limits)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Puts the name of what is read in front of an InputError that is raised inside."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


# The shape keys


def _read_shape_keys(target: MeshObject, optimize: Sequence[str]) -> tuple[np.ndarray, tuple[ShapeKey, ...]]:
    """(V, 3) the vertices without shape keys in object space, and the shape keys that are not muted."""
    keys, ob = target.keys, target.object
    wanted = "shape_keys" in optimize
    if keys is None:
        if wanted:
            raise InputError(f"'{target.name}' has no shape keys to fit.")
        return mesh_positions(target.mesh), ()
    if ob.show_only_shape_key and ob.active_shape_key is not None:
        if wanted:
            raise InputError(f"'{target.name}' shows one shape key only; unpin it in the Shape Keys panel to fit them.")
        return key_positions(ob.active_shape_key), ()
    read = []
    for key in keys.key_blocks[1:]:
        if key.mute:
            continue
        is_driven = driven(*channel_of(key, "value"))
        if is_driven and "pose" in optimize:
            raise InputError(f"shape key '{key.name}' is driven, maybe by the pose; remove or mute its driver.")
        offsets = key_offsets(target, key)
        has_effect = bool(offsets.any()) and key.slider_min < key.slider_max
        free = wanted and not is_driven and key.name != KEY_NAME and has_effect
        read.append(ShapeKey(key.name, offsets, key.value, key.slider_min, key.slider_max, free))
    if wanted and not any(key.free for key in read):
        raise InputError(f"'{target.name}' has no shape keys to fit that are neither muted nor driven.")
    return key_positions(keys.reference_key), tuple(read)


# The bones


def _read_armature(
    target: MeshObject, armature: bpy.types.Object, skin: _Skin, into_mover: np.ndarray, posable: bool
) -> Armature:
    """The armature that deforms the mesh: as it is shown, or where it is `posable` with channels for its bones.

    `into_mover` (4, 4) leads from the world into the mover's space.
    """
    bones, pose_bones = skeleton_of(armature).bones, pose_bones_of(armature)
    follows = into_mover @ matrix_of(armature)
    if not posable:
        return Armature(tuple(_held_bone(pose_bone) for pose_bone in pose_bones), *skin, follows)
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
    for bone, entry, carried in zip(bones, outline.bones, carries.tolist(), strict=True):
        with _naming(f"bone '{bone.name}'"):
            pose = _read_pose(armature, pose_bones[bone.name], carried)
        inherits = (bone.use_inherit_rotation, bone.inherit_scale, bone.use_local_location)
        read.append(Bone(bone.name, entry.parent, entry.rest, pose, *inherits))
    return Armature(tuple(read), *skin, follows)


def _read_skin(target: MeshObject, mesh: bpy.types.Mesh, bones: bpy.types.bpy_prop_collection[bpy.types.Bone]) -> _Skin:
    """The vertex groups that have the name of a deforming bone, in the object's mesh or what modifiers make of it."""
    bone_of: dict[int, int] = {}
    for number, bone in enumerate(bones):
        group = target.object.vertex_groups.get(bone.name)
        if group is not None and bone.use_deform:
            bone_of[group.index] = number
    entries = [
        (number, bone_of[element.group], element.weight)
        for number, vertex in enumerate(mesh.vertices)
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
    """The bone as it is shown, whatever holds it there: its pose is relative to the armature, not to a parent."""
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
    """The channels of a bone. Raises InputError when something else than its channels moves it.

    `carries`: whether the bone, or one below it, moves vertices.
    """
    limits: np.ndarray | None = None
    for constraint in pose_bone.constraints:
        if constraint.mute or not constraint.enabled or constraint.influence == 0:
            continue
        if not carries and constraint.type not in _CHAINS:
            continue  # it moves no vertices
        found = _read_limits(constraint, pose_bone.rotation_mode)
        if found is None or limits is not None:
            raise InputError(
                f"constraint '{constraint.name}' holds it; apply or mute it (one Limit Rotation in local space at full "
                "influence may stay)."
            )
        limits = found
    if not carries:
        return Transform()  # its channels have no effect, not even a scale of zero
    if driven(armature, f"{pose_bone.path_from_id()}."):
        raise InputError("its pose is driven; remove or mute the drivers to fit it.")
    free_location = unlocked(pose_bone.lock_location) if pose_bone.parent is None else LOCKED
    pose = _transform(pose_bone, free_location, free_rotation(pose_bone), False, limits)
    if pose_bone.bone.use_connect:  # Blender keeps such a bone at its parent's tail, whatever its location says
        pose = replace(pose, location=np.zeros(3))
    return pose


def _read_limits(constraint: bpy.types.Constraint, mode: str) -> np.ndarray | None:
    """(3, 2) the least and greatest angles in radians that a Limit Rotation constraint allows, infinite without any.

    None for a constraint of another kind, and for one that limits other angles than those of the rotation mode.
    """
    order = "XYZ" if mode in ANGLELESS else mode
    if not isinstance(constraint, bpy.types.LimitRotationConstraint):
        return None
    if constraint.owner_space != "LOCAL" or constraint.influence < 1 or constraint.euler_order not in ("AUTO", order):
        return None
    return np.array(
        [
            (getattr(constraint, f"min_{axis}"), getattr(constraint, f"max_{axis}"))
            if getattr(constraint, f"use_limit_{axis}")
            else (-np.inf, np.inf)
            for axis in "xyz"
        ]
    )


def _limited(rotation: np.ndarray, mode: str, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotation as a Limit Rotation constraint leaves it, and limits within which the constraint changes nothing.

    Two sets of Euler angles give the same rotation, and the constraint limits the set with the smaller sum of
    magnitudes. The angles of the bone are that set as long as the middle angle stays below 90 degrees and the
    magnitudes of all three sum to at most 270 degrees, so the limits are narrowed to such angles.

    Args:
        rotation: the numbers of the rotation mode.
        mode: the rotation mode.
        limits: (3, 2) the least and greatest angles in radians about x, y and z.
    """
    order = mode if mode not in ANGLELESS else "XYZ"
    near_zero = rotation_numbers(rotation_matrix(rotation, mode), order, np.zeros(3))
    angles = np.clip(near_zero, limits[:, 0], limits[:, 1])
    first, middle, last = axes_of(order)
    limits = np.clip(limits, -np.pi, np.pi)
    limits[middle] = np.clip(limits[middle], -_MAX_MIDDLE_ANGLE, _MAX_MIDDLE_ANGLE)
    widest = np.abs(limits).max(axis=1)
    # The other two angles share what is left of 270 degrees: evenly, or so that the narrower one keeps its limits.
    rest = 1.5 * np.pi - widest[middle]
    outer = max(rest / 2, rest - min(widest[first], widest[last]))
    limits[[first, last]] = np.clip(limits[[first, last]], -outer, outer)
    limits = np.column_stack([np.minimum(limits[:, 0], angles), np.maximum(limits[:, 1], angles)])
    if mode in ANGLELESS:
        return rotation_numbers(rotation_matrix(angles, order), mode, rotation), limits
    return angles, limits

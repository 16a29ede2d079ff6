# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an object can be fitted and what of it is locked, in few words for the panel; cheap enough to draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import bpy
import numpy as np

from ..access import mesh_of, pose_bones_of, skeleton_of
from ..engine.softras import InputError
from ..props import SOFTRAS_PG_scene
from .animation import driven
from .channels import channel_of
from .mesh import KEY_NAME
from .target import bind, find_posable


def choice_problem(choice: str, ob: bpy.types.Object | None) -> str:
    """Why a variable of the object cannot be fitted, in two or three words; empty when it can."""
    if ob is None or not isinstance(ob.data, bpy.types.Mesh):
        return "no mesh" if choice != "cameras" else ""
    if choice == "pose" and not any(_has_armature(modifier) for modifier in ob.modifiers):
        return "no armature"
    if choice == "shape_keys" and not _own_keys(ob.data.shape_keys):
        return "no shape keys"
    return ""


def choices_problem(settings: SOFTRAS_PG_scene, ob: bpy.types.Object) -> str | None:
    """Why what is chosen cannot be fitted together, cheap enough for a poll; None when it can."""
    optimize = settings.optimize.chosen()
    if not optimize:
        return "Nothing is to be optimized; tick at least one box under Optimize."
    for choice in optimize:
        if reason := choice_problem(choice, ob):
            name = choice.replace("_", " ").title()
            return f"'{ob.name}' has {reason}; untick {name} under Optimize, or choose another mesh."
    if problem := _linked_problem(optimize, ob):
        return problem
    if settings.sequence and "vertices" in optimize:
        return "Vertices are fitted to one frame only; untick Vertices or Sequence."
    if settings.sequence and settings.frame_first > settings.frame_last:
        return "The first frame of the sequence is after the last; change one of them."
    if "cameras" in optimize and not settings.cameras.chosen():
        return "Nothing of the cameras is to be optimized; tick one of their boxes, or untick Cameras."
    if settings.symmetry != "NONE" and "vertices" in optimize and {"pose", "shape_keys"} & set(optimize):
        return "A posed mesh is not symmetric; switch Symmetry off, or untick Pose and Shape Keys."
    return None


def _linked_problem(optimize: Sequence[str], ob: bpy.types.Object) -> str | None:
    """Why the mesh of an object keeps nothing of a fit because it is another file's; None when it does."""
    mesh = mesh_of(ob)
    if "vertices" in optimize and (mesh.library is not None or mesh.override_library is not None):
        box = "Vertices"
    elif "shape_keys" in optimize and mesh.library is not None:
        box = "Shape Keys"
    else:
        return None
    return (
        f"The mesh of '{ob.name}' is linked from another file; make it local (Object > Relations > Make Local > "
        f"Selected Objects and Data), or untick {box}."
    )


def locks(settings: SOFTRAS_PG_scene, ob: bpy.types.Object) -> Iterator[str]:
    """For each chosen variable that has locks, a line that says what is free and what is locked."""
    optimize = [choice for choice in settings.optimize.chosen() if not choice_problem(choice, ob)]
    if "vertices" in optimize and settings.lock:
        yield f"Vertices: group '{settings.lock}' locked"
    try:
        target = bind(ob, rigged=not {"object", "pose"}.isdisjoint(optimize))
    except InputError as error:
        yield _of_probed(ob) if optimize == ["pose"] and not settings.sequence else _sentence(error)
    else:
        if "object" in optimize:
            yield from _of_object(target.mover)
        if "pose" in optimize and target.armature is not None:
            yield _of_pose(ob, target.armature)
    keys = mesh_of(ob).shape_keys
    if "shape_keys" in optimize and keys is not None:
        yield _of_shape_keys(keys)


def _has_armature(modifier: bpy.types.Modifier) -> bool:
    return isinstance(modifier, bpy.types.ArmatureModifier) and modifier.object is not None


def _own_keys(keys: bpy.types.Key | None) -> list[bpy.types.ShapeKey]:
    """The artist's shape keys that can be mixed: neither the basis nor the one that holds fitted vertices."""
    return [] if keys is None else [key for key in keys.key_blocks[1:] if key.name != KEY_NAME]


def _of_object(mover: bpy.types.Object) -> Iterator[str]:
    locked = [
        *_locked_axes("location", mover.lock_location),
        *_locked_axes("rotation", mover.lock_rotation),
        *(["scale"] if np.array(mover.lock_scale).any() else []),
    ]
    if locked:
        yield f"Object: {', '.join(locked)} locked"


def _locked_axes(name: str, locks: bpy.types.bpy_prop_array) -> Iterator[str]:
    """The name of a channel with its locked axes, without axes where all are locked; nothing where none is."""
    locked = [axis for axis, lock in zip("XYZ", np.array(locks), strict=True) if lock]
    if locked:
        yield name if len(locked) == 3 else f"{name} {' '.join(locked)}"


def _of_pose(ob: bpy.types.Object, armature: bpy.types.Object) -> str:
    """How many bones turn and how many do not, of those that move vertices of the object.

    Such a bone has a vertex group in the object, or a bone below it has one.
    """
    turn = locked = limited = 0
    carrying: set[str] = set()
    pose_bones = pose_bones_of(armature)
    for bone in reversed(skeleton_of(armature).bones):  # parents come before their children
        if bone.name not in carrying and not (bone.use_deform and bone.name in ob.vertex_groups):
            continue
        if bone.parent is not None:
            carrying.add(bone.parent.name)
        pose_bone = pose_bones[bone.name]
        if np.array(pose_bone.lock_rotation).all():
            locked += 1
            continue
        turn += 1
        constraints = any(c.type == "LIMIT_ROTATION" and not c.mute for c in pose_bone.constraints)
        limited += constraints or bool(np.array(pose_bone.lock_rotation).any())
    return f"Pose: {turn} bones turn, {locked} locked, {limited} limited"


def _of_probed(ob: bpy.types.Object) -> str:
    """What is fitted of a pose that only Blender can tell, or why it cannot be fitted."""
    try:
        find_posable(ob)
    except InputError as error:
        return _sentence(error)
    return "Pose: the bones that are seen, or those selected"


def _sentence(error: InputError) -> str:
    return f"{str(error)[:1].upper()}{str(error)[1:]}"


def _of_shape_keys(keys: bpy.types.Key) -> str:
    own = _own_keys(keys)
    muted = sum(key.mute for key in own)
    held = sum(not key.mute and driven(*channel_of(key, "value")) for key in own)
    locked = [f"{count} {what}" for count, what in ((muted, "muted"), (held, "driven")) if count]
    return ", ".join([f"Shape Keys: {len(own) - muted - held} move", *locked])

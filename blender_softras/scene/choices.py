# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the target can be optimized, and what of it is locked, in few words; cheap enough to draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import bpy

from ..engine.softras import InputError
from .animation import driven
from .job import chosen, chosen_camera_parts
from .mesh import KEY_NAME
from .rig import armature_of, mover_of

if TYPE_CHECKING:
    from ..props import SOFTRAS_PG_scene


def choice_problem(choice: str, target: bpy.types.Object | None) -> str:
    """Why the variable cannot be optimized, in two or three words; empty when it can."""
    if target is None or target.type != "MESH":
        return "no mesh" if choice != "cameras" else ""
    if choice == "pose" and not any(m.type == "ARMATURE" and m.object is not None for m in target.modifiers):
        return "no armature"
    keys = target.data.shape_keys
    if choice == "shape_keys" and (keys is None or not any(key.name != KEY_NAME for key in keys.key_blocks[1:])):
        return "no shape keys"
    return ""


def choices_problem(settings: SOFTRAS_PG_scene, target: bpy.types.Object) -> str | None:
    """Why what is chosen cannot be fitted together, cheap enough for a poll; None when it can."""
    optimize = chosen(settings)
    if not optimize:
        return "Nothing is to be optimized; tick at least one box under Optimize."
    for choice in optimize:
        if reason := choice_problem(choice, target):
            name = choice.replace("_", " ").title()
            return f"'{target.name}' has {reason}; untick {name} under Optimize, or choose another mesh."
    if settings.sequence and "vertices" in optimize:
        return "Vertices are fitted to one frame only; untick Vertices or Sequence."
    if settings.sequence and settings.frame_first > settings.frame_last:
        return "The first frame of the sequence is after the last; change one of them."
    if "cameras" in optimize and not chosen_camera_parts(settings):
        return "Nothing of the cameras is to be optimized; tick one of their boxes, or untick Cameras."
    if settings.symmetry != "NONE" and "vertices" in optimize and {"pose", "shape_keys"} & set(optimize):
        return "A posed mesh is not symmetric; switch Symmetry off, or untick Pose and Shape Keys."
    return None


def locks(settings: SOFTRAS_PG_scene, target: bpy.types.Object) -> Iterator[str]:
    """For each chosen variable that has locks, what is free and what is locked."""
    optimize = [choice for choice in chosen(settings) if not choice_problem(choice, target)]
    if "vertices" in optimize and settings.lock:
        yield f"Vertices: group '{settings.lock}' locked"
    try:
        if "object" in optimize:
            yield from _of_object(mover_of(target))
        if "pose" in optimize:
            yield _of_pose(target, armature_of(target))
    except InputError as error:
        yield f"{str(error)[:1].upper()}{str(error)[1:]}"
    if "shape_keys" in optimize:
        yield _of_shape_keys(target.data.shape_keys)


def _of_object(mover: bpy.types.Object) -> Iterator[str]:
    parts = {"location": mover.lock_location, "rotation": mover.lock_rotation}
    locked = [_axes(name, axes) for name, axes in parts.items() if any(axes)]
    if any(mover.lock_scale):
        locked.append("scale")
    if locked:
        yield f"Object: {', '.join(locked)} locked"


def _axes(name: str, locked: Sequence[bool]) -> str:
    return name if all(locked) else f"{name} {' '.join(axis for axis, lock in zip('XYZ', locked, strict=True) if lock)}"


def _of_pose(target: bpy.types.Object, armature: bpy.types.Object) -> str:
    """Counts of the bones that carry a vertex group, their own or of a bone below them."""
    turn = locked = limited = 0
    carrying: set[str] = set()
    for bone in reversed(armature.data.bones):  # parents come before their children
        if bone.name not in carrying and not (bone.use_deform and bone.name in target.vertex_groups):
            continue
        if bone.parent is not None:
            carrying.add(bone.parent.name)
        pose_bone = armature.pose.bones[bone.name]
        if all(pose_bone.lock_rotation):
            locked += 1
            continue
        turn += 1
        constraints = any(c.type == "LIMIT_ROTATION" and not c.mute for c in pose_bone.constraints)
        limited += constraints or any(pose_bone.lock_rotation)
    return f"Pose: {turn} bones turn, {locked} locked, {limited} limited"


def _of_shape_keys(keys: bpy.types.Key) -> str:
    blocks = [key for key in keys.key_blocks[1:] if key.name != KEY_NAME]
    muted = sum(key.mute for key in blocks)
    held = sum(
        not key.mute and driven(keys, f'key_blocks["{bpy.utils.escape_identifier(key.name)}"].value') for key in blocks
    )
    locked = [f"{count} {what}" for count, what in ((muted, "muted"), (held, "driven")) if count]
    return ", ".join([f"Shape Keys: {len(blocks) - muted - held} move", *locked])

# SPDX-License-Identifier: GPL-3.0-or-later
"""The target of a fit: the artist's mesh objects and what moves them, checked once and then passed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import bpy

from ..access import mesh_of, skeleton_of
from ..engine.softras import InputError
from .layer import is_enabled


@dataclass(frozen=True)
class MeshObject:
    """A mesh object that is fitted.

    The mesh and its shape keys are looked up in the object whenever they are asked for: a fit may give the object a
    mesh of its own or its first shape key.

    Attributes:
        object: the object.
        name: the name of the object when the target was made, for sentences after the object was deleted.
        modifier: the name of the Armature modifier that deforms the mesh; None where no armature is read.
    """

    object: bpy.types.Object
    name: str
    modifier: str | None = None

    @property
    def mesh(self) -> bpy.types.Mesh:
        """The mesh of the object, without modifiers."""
        return mesh_of(self.object)

    @property
    def keys(self) -> bpy.types.Key | None:
        """The shape keys of the mesh, or None."""
        return self.mesh.shape_keys

    @property
    def is_shared(self) -> bool:
        """Whether other objects use the same mesh."""
        return self.mesh.users - self.mesh.use_fake_user > 1  # a fake user keeps the mesh, and is no object

    @property
    def shown_modifiers(self) -> list[str]:
        """Names of the modifiers that are shown in the viewport."""
        return [m.name for m in self.object.modifiers if m.show_viewport]

    @property
    def left_out(self) -> list[str]:
        """Names of the modifiers that are shown in the viewport and that a fit does not take into account."""
        return [name for name in self.shown_modifiers if name != self.modifier]


@dataclass(frozen=True)
class Target:
    """What a fit is of: mesh objects that are seen together in one silhouette, and what moves them.

    Blender's references stay valid while the objects exist. One whose object was deleted, or replaced by an undo or
    another file, raises ReferenceError when it is used; the writers of results look for that (`problem`).

    Attributes:
        meshes: one or more mesh objects.
        armature: the armature object whose bones deform them, or None.
        mover: the object whose transform moves all of them: the armature object where they are below it.
    """

    meshes: tuple[MeshObject, ...]
    armature: bpy.types.Object | None
    mover: bpy.types.Object

    @property
    def single(self) -> MeshObject:
        """The mesh object, for what can be done with one only. Raises InputError where there are several."""
        if len(self.meshes) > 1:
            names = ", ".join(f"'{each.name}'" for each in self.meshes)
            raise InputError(f"{names} cannot be fitted together; choose one of them.")
        return self.meshes[0]

    @property
    def objects(self) -> set[bpy.types.Object]:
        """All objects that the target consists of."""
        return {*(each.object for each in self.meshes), self.mover} | ({self.armature} if self.armature else set())


def find_target(ob: bpy.types.Object | None, *, rigged: bool, others: Sequence[bpy.types.Object] = ()) -> Target:
    """The target of a fit of this object.

    Args:
        ob: what the artist chose.
        rigged: look for the armature, which the fit reads. Otherwise the object is taken by itself, whatever its
            modifiers are.
        others: mesh objects that the same armature deforms and that are seen together with it.

    Raises InputError when the object cannot be fitted.
    """
    problem = target_problem(ob)
    if problem or ob is None:
        raise InputError(problem or "")
    target = bind(ob, rigged=rigged)
    for other in others:
        if problem := target_problem(other):
            raise InputError(problem)
        beside = bind(other, rigged=True)
        if target.armature is None or (beside.armature, beside.mover) != (target.armature, target.mover):
            raise InputError(_apart(other, ob))
        target = replace(target, meshes=(*target.meshes, *beside.meshes))
    return target


def find_moved(ob: bpy.types.Object | None, others: Sequence[bpy.types.Object] = ()) -> Target:
    """The target of a fit that moves what is shown of an object as a whole, whatever its modifiers are.

    Args:
        ob: what the artist chose.
        others: mesh objects that are seen together with it and move with it.

    Raises InputError when one of them cannot be fitted, or does not move with the others.
    """
    for each in (ob, *others):
        if problem := target_problem(each):
            raise InputError(problem)
    meshes = [each for each in (ob, *others) if each is not None]
    chains = [[each, *parents_of(each)] for each in meshes]
    armatures = [armature for each in meshes for armature in _armatures_of(each)]
    common = [above for above in chains[0] if all(above in chain for chain in chains[1:])]
    mover = next((above for above in common if above in armatures), common[0] if common else None)
    if mover is None:
        names = ", ".join(f"'{each.name}'" for each in meshes)
        raise InputError(
            f"{names} are selected and do not move together; parent them to one of them or to an Empty, or select one."
        )
    for each in meshes:
        for armature in _armatures_of(each):
            if mover not in (armature, *parents_of(armature)):
                raise InputError(
                    f"'{each.name}' would leave its armature '{armature.name}' behind; parent it to the armature to "
                    "fit its placement."
                )
    return Target(tuple(MeshObject(each, each.name) for each in meshes), None, mover)


def find_posable(
    ob: bpy.types.Object | None, others: Sequence[bpy.types.Object] = ()
) -> tuple[Target, list[bpy.types.Object]]:
    """The target of a fit of a pose as it is shown, however its armatures move it, and these armatures.

    Args:
        ob: what the artist chose.
        others: mesh objects that are seen together with it.

    Raises InputError when one of them cannot be fitted, or no armature moves it.
    """
    for each in (ob, *others):
        if problem := target_problem(each):
            raise InputError(problem)
    meshes = [each for each in (ob, *others) if each is not None]
    movers = [_posers_of(each) for each in meshes]
    if not movers[0]:
        raise InputError(f"'{meshes[0].name}' has no Armature modifier, so it has no pose to fit.")
    for each, found in zip(meshes, movers, strict=True):
        if not set(found) & set(movers[0]):
            raise InputError(_apart(each, meshes[0]))
    armatures = list(dict.fromkeys(armature for found in movers for armature in found))
    for armature in armatures:
        if problem := _armature_problem(armature):
            raise InputError(f"'{meshes[0].name}' {problem}.")
    return Target(tuple(MeshObject(each, each.name) for each in meshes), armatures[0], armatures[0]), armatures


def bind(ob: bpy.types.Object, *, rigged: bool) -> Target:
    """A mesh object and what moves it, as `find_target`, but for the panel: the object may be unfit to be fitted now.

    Raises InputError for an armature that the engine cannot follow.
    """
    binding = _armature_of(ob) if rigged else None
    if binding is None:
        return Target((MeshObject(ob, ob.name),), None, ob)
    modifier, armature = binding
    mover = armature if armature in parents_of(ob) else ob
    return Target((MeshObject(ob, ob.name, modifier),), armature, mover)


def target_problem(ob: bpy.types.Object | None) -> str | None:
    """Why the object cannot be fitted, cheap enough for a poll; None when it can."""
    if ob is None:
        return "There is no mesh to fit; choose one in the Softras panel or make it the active object."
    if not isinstance(ob.data, bpy.types.Mesh):
        return f"'{ob.name}' is not a mesh; choose a mesh object to fit."
    if ob.library is not None:
        return (
            f"'{ob.name}' is linked from another file; override it (Object > Library Override) or make it local first."
        )
    if not is_enabled(ob):
        return (
            f"'{ob.name}' is disabled in this view layer or not in it, so Blender does not know where it is; "
            "enable it in the Outliner first."
        )
    if ob.data.is_editmode and ob.mode != "EDIT":
        return f"The mesh of '{ob.name}' is in Edit Mode through another object; go back to Object Mode there first."
    if ob.mode != "OBJECT":
        return f"'{ob.name}' is in {ob.mode.replace('_', ' ').title()} Mode; go back to Object Mode first."
    keys = ob.data.shape_keys
    if keys is not None and not keys.use_relative:
        return f"'{ob.name}' has absolute shape keys; tick Relative in its Shape Keys panel first."
    if not ob.data.polygons:
        return f"'{ob.name}' has no faces; a silhouette needs at least one."
    return None


def parents_of(ob: bpy.types.Object) -> list[bpy.types.Object]:
    """The object's parent, the parent of that, and so on."""
    parents = []
    while ob.parent is not None:
        ob = ob.parent
        parents.append(ob)
    return parents


def _apart(other: bpy.types.Object, ob: bpy.types.Object) -> str:
    """The sentence about a mesh that is selected beside another one whose armature does not move it."""
    return (
        f"'{other.name}' is selected and not moved by the armature of '{ob.name}'; bind and parent it to that, or "
        "deselect it."
    )


def _posers_of(ob: bpy.types.Object) -> list[bpy.types.Object]:
    """The armature objects whose bones move the object: by modifiers, or because it is parented to their bones."""
    chain = [ob, *parents_of(ob)]
    by_parent = [each.parent for each in chain if each.parent is not None and each.parent_type in ("BONE", "ARMATURE")]
    return list(dict.fromkeys([*_armatures_of(ob), *by_parent]))


def _armatures_of(ob: bpy.types.Object) -> list[bpy.types.Object]:
    """The armature objects that deform the object in the viewport."""
    return [
        modifier.object
        for modifier in ob.modifiers
        if isinstance(modifier, bpy.types.ArmatureModifier) and modifier.show_viewport and modifier.object is not None
    ]


def _armature_of(ob: bpy.types.Object) -> tuple[str, bpy.types.Object] | None:
    """The name of the one Armature modifier that deforms the object, and its armature object; None without any.

    Raises InputError for an armature that the engine cannot follow.
    """
    if ob.parent is not None and ob.parent.type == "ARMATURE" and ob.parent_type == "ARMATURE":
        raise InputError(
            f"'{ob.name}' is deformed by its parent without a modifier; give it an Armature modifier and parent it "
            "to the armature as an object."
        )
    found = [
        (modifier, modifier.object)
        for modifier in ob.modifiers
        if isinstance(modifier, bpy.types.ArmatureModifier) and modifier.show_viewport and modifier.object is not None
    ]
    if not found:
        return None
    if len(found) > 1:
        raise InputError(f"'{ob.name}' has {len(found)} Armature modifiers; disable all but one of them.")
    ((modifier, armature),) = found
    if modifier.use_bone_envelopes or not modifier.use_vertex_groups:
        problem = "binds to bone envelopes; bind it to vertex groups only"
    elif modifier.use_deform_preserve_volume:
        problem = "preserves volume, which cannot be fitted; untick Preserve Volume"
    elif modifier.vertex_group:
        problem = "acts on one vertex group; clear that field"
    elif trouble := _armature_problem(armature):
        problem = trouble
    else:
        return modifier.name, armature
    raise InputError(f"modifier '{modifier.name}' of '{ob.name}' {problem}.")


def _armature_problem(armature: bpy.types.Object) -> str | None:
    """What keeps every fit from posing an armature, as the rest of a sentence about what uses it; None for nothing."""
    if armature.library is not None:
        return f"uses '{armature.name}', which is linked from another file; make it local or override it"
    if armature.mode == "EDIT" or skeleton_of(armature).is_editmode:
        return f"uses '{armature.name}', which is in Edit Mode; leave Edit Mode there"
    if skeleton_of(armature).pose_position == "REST":
        return f"uses '{armature.name}', which shows its rest position; switch it to Pose Position"
    if not is_enabled(armature):
        return f"uses '{armature.name}', which is disabled or not in this view layer; enable it in the Outliner"
    return None

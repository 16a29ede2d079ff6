# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that what a fit of a sequence does not change stands still: it must be the same in every frame."""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np

from ..access import mesh_of, pose_bones_of
from ..engine.softras import InputError, Mesh
from ..engine.softras.rig import Rig
from .camera import parent_matrix
from .channels import rotation_property
from .frames import Evaluated
from .mesh import read_shown_mesh
from .target import MeshObject, Target


class StillRig:
    """The parts of a rig that are not fitted, with the values that they had when the rig was read.

    Attributes:
        objects: the objects whose values must be known in each frame.
        shapes: whether the evaluated meshes must be right in each frame; here they are not looked at.
    """

    shapes = False

    def __init__(self, target: Target, rig: Rig, optimize: Sequence[str]) -> None:
        self._target, self._rig, self._optimize = target, rig, optimize
        self.objects = target.objects
        self._expected = self._values(lambda owner: owner)

    def check(self, frame: int, evaluated: Evaluated) -> None:
        """Raises InputError that names the first part that has another value in this frame."""
        found = self._values(evaluated)
        for name, expected in self._expected.items():
            if not np.allclose(found[name], expected, rtol=1e-4, atol=1e-5):
                raise InputError(
                    f"{name} is different in frame {frame}, and the fit does not change it; remove or mute what "
                    "animates it, or optimize it too."
                )

    def _values(self, evaluated: Evaluated) -> dict[str, np.ndarray]:
        """The numbers of every part that is not fitted, by the words in which an error names the part."""
        target, optimize = self._target, self._optimize
        mover = evaluated(target.mover)
        world = np.array(mover.matrix_world, dtype=np.float64)
        if "object" in optimize:
            values = {f"the parent of '{mover.name}'": parent_matrix(mover)}
        else:
            values = {f"the transform of '{mover.name}'": world}
        for ob in target.objects - {target.mover}:
            relative = np.linalg.inv(world) @ np.array(evaluated(ob).matrix_world, dtype=np.float64)
            values[f"the transform of '{ob.name}'"] = relative
        if target.armature is not None and self._rig.armature is not None:
            pose_bones = pose_bones_of(evaluated(target.armature))
            for bone, carries in zip(self._rig.armature.bones, self._rig.armature.carries(), strict=True):
                pose_bone = pose_bones[bone.name]
                if "pose" not in optimize:
                    values[f"bone '{bone.name}'"] = np.array(pose_bone.matrix)
                elif carries:
                    held = [np.array(pose_bone.scale)]
                    if not any(bone.pose.free_location) and not pose_bone.bone.use_connect:
                        held.append(np.array(pose_bone.location))
                    if not any(bone.pose.free_rotation):
                        held.append(np.array(getattr(pose_bone, rotation_property(bone.pose.mode))))
                    values[f"bone '{bone.name}'"] = np.concatenate(held)
        free = {key.name for key in self._rig.shape_keys if key.free}
        for each in target.meshes:
            if each.keys is not None and not each.object.show_only_shape_key:
                held_keys = [
                    key for key in evaluated(each.keys).key_blocks[1:] if not key.mute and key.name not in free
                ]
                values |= {f"shape key '{key.name}'": np.array(key.value) for key in held_keys}
        return values


def check_landmarks(single: MeshObject) -> None:
    """Raises InputError where the vertices that landmarks name are not among those that are seen."""
    graph = bpy.context.evaluated_depsgraph_get()
    if len(mesh_of(single.object.evaluated_get(graph)).vertices) != len(single.mesh.vertices):
        raise InputError(
            f"the modifiers of '{single.name}' change its vertices, so its landmarks cannot be found; disable the "
            "modifiers or remove the landmarks."
        )


class StillMesh:
    """The mesh that is seen, modifiers included, where cameras alone are fitted.

    Attributes:
        mesh: the mesh in world space.
        objects: as of `StillRig`.
        shapes: as of `StillRig`; here the evaluated mesh is compared.
    """

    shapes = True

    def __init__(self, target: Target, has_landmarks: bool) -> None:
        """Raises InputError when the view layer shows a mesh that cannot be fitted, or landmarks have no vertices."""
        self.objects = target.objects
        self._single = target.single
        graph = bpy.context.evaluated_depsgraph_get()
        self.mesh: Mesh = read_shown_mesh(self._single, self._single.object.evaluated_get(graph))
        if has_landmarks:
            check_landmarks(self._single)

    def check(self, frame: int, evaluated: Evaluated) -> None:
        """Raises InputError when the mesh that is seen is another one in this frame."""
        found = read_shown_mesh(self._single, evaluated(self._single.object)).vertices
        expected = self.mesh.vertices
        if found.shape != expected.shape or np.abs(found - expected).max() > 1e-4 * np.ptp(expected, axis=0).max():
            raise InputError(
                f"'{self._single.name}' is different in frame {frame}, and cameras alone are fitted to what stands "
                "still; optimize Object or Pose too, or untick Sequence."
            )

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scene shows: the evaluated meshes of a target and the cameras, for the measurement after a fit."""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np

from ..access import mesh_of, present
from ..engine.softras import Camera, Mesh
from .camera import camera_from_blender
from .mesh import check_instances, matrix_of, mesh_positions, read_shown_mesh, transformed
from .target import Target
from .views import Shot


def shown_mesh(target: Target) -> Mesh:
    """All that is seen of the target, modifiers and pose included, as one mesh in world space.

    Raises InputError when something of it leaves no faces.
    """
    present(bpy.context.view_layer).update()
    graph = bpy.context.evaluated_depsgraph_get()
    return joined([read_shown_mesh(each, each.object.evaluated_get(graph)) for each in target.meshes])


def seen_positions(ob: bpy.types.Object) -> np.ndarray:
    """(S, 3) in object space: the vertices that are seen of the object in the scene, modifiers included.

    Raises InputError where instances are seen too.
    """
    present(bpy.context.view_layer).update()
    evaluated = ob.evaluated_get(bpy.context.evaluated_depsgraph_get())
    check_instances(ob.name, evaluated)
    return mesh_positions(mesh_of(evaluated))


def shown_positions(target: Target) -> np.ndarray:
    """(S, 3) in world space: the vertices of `shown_mesh`."""
    present(bpy.context.view_layer).update()
    graph = bpy.context.evaluated_depsgraph_get()
    found = []
    for each in target.meshes:
        evaluated = each.object.evaluated_get(graph)
        found.append(transformed(mesh_positions(mesh_of(evaluated)), matrix_of(evaluated)))
    return np.concatenate(found)


def selected_beside(ob: bpy.types.Object) -> list[bpy.types.Object]:
    """The other mesh objects that are selected, where the object itself is."""
    if not ob.select_get():
        return []
    return [each for each in bpy.context.selected_objects if each.type == "MESH" and each != ob]


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes as one: first all vertices of the first, then all of the second, and so on."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts.tolist(), strict=False)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


def shown_cameras(scene: bpy.types.Scene, shots: Sequence[Shot]) -> list[Camera]:
    """The camera of each shot as it stands in the scene now; the view layer must be up to date."""
    sizes = [(shot.engine_camera.width, shot.engine_camera.height) for shot in shots]
    return [camera_from_blender(shot.camera, *size, scene.render) for shot, size in zip(shots, sizes, strict=True)]

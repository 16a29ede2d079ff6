# SPDX-License-Identifier: GPL-3.0-or-later
"""Landmarks: a vertex, and an Empty that is seen through a view's camera where the view's image shows the vertex."""

from __future__ import annotations

import bpy
import numpy as np

from ..access import mesh_of
from ..engine.softras import Camera, InputError
from ..engine.softras.views import Landmark
from ..props import SOFTRAS_PG_view
from .frames import Evaluated
from .layer import is_enabled
from .target import MeshObject

_COLLECTION = "Softras Landmarks"  # the name of the collection that new Empties go into


def landmark_empties(item: SOFTRAS_PG_view, scene: bpy.types.Scene, target: MeshObject) -> list[bpy.types.Object]:
    """The Empties of a view's landmarks. Raises InputError when a landmark cannot be used."""
    for landmark in item.landmarks:
        name = f"the landmark of vertex {landmark.vertex} in view '{item.camera.name}'"
        count = len(target.mesh.vertices)
        if landmark.vertex >= count:
            raise InputError(f"{name} is beyond the {count} vertices of '{target.name}'; remove it.")
        if landmark.empty is None or landmark.empty.name not in scene.objects:
            raise InputError(f"{name} has lost its Empty; remove the landmark, or add it again.")
        if not is_enabled(landmark.empty):
            raise InputError(f"the Empty of {name} is disabled in this view layer; enable it or remove the landmark.")
    return [landmark.empty for landmark in item.landmarks]


def read_landmarks(item: SOFTRAS_PG_view, camera: Camera, evaluated: Evaluated) -> tuple[Landmark, ...]:
    """A view's landmarks in the frame of `evaluated`. Raises InputError for a landmark behind the camera."""
    read = []
    for landmark in item.landmarks:
        position = np.array(evaluated(landmark.empty).matrix_world.translation, dtype=np.float64)
        if not camera.orthographic and camera.to_camera(position)[2] <= 0:
            raise InputError(
                f"the Empty '{landmark.empty.name}' is behind camera '{item.camera.name}'; move it over the image."
            )
        x, y = camera.project(position)
        read.append(Landmark(landmark.vertex, (float(x), float(y)), landmark.weight))
    return tuple(read)


def add_landmark(scene: bpy.types.Scene, item: SOFTRAS_PG_view, ob: bpy.types.Object, vertex: int) -> None:
    """Give the view a landmark of a vertex of a mesh object, with a new Empty where the vertex is shown."""
    graph = bpy.context.evaluated_depsgraph_get()
    mesh = mesh_of(ob.evaluated_get(graph))
    if len(mesh.vertices) != len(mesh_of(ob).vertices):  # modifiers have made other vertices
        mesh = mesh_of(ob)
    empty = bpy.data.objects.new(f"{ob.name} {vertex} {item.camera.name}", None)
    empty.location = ob.matrix_world @ mesh.vertices[vertex].co
    empty.empty_display_type, empty.show_in_front = "SPHERE", True
    empty.empty_display_size = 0.02 * float(np.array(ob.dimensions).max())
    collection = bpy.data.collections.get(_COLLECTION) or bpy.data.collections.new(_COLLECTION)
    if collection.name not in scene.collection.children:
        scene.collection.children.link(collection)
    collection.objects.link(empty)
    landmark = item.landmarks.add()
    landmark.vertex, landmark.empty = vertex, empty
    item.active_landmark = len(item.landmarks) - 1

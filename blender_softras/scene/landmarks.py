# SPDX-License-Identifier: GPL-3.0-or-later
"""Landmarks: a vertex, and an Empty that stands before the place where a view's image shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy
import numpy as np

from ..engine.softras import Camera, InputError
from ..engine.softras.views import Landmark
from .frames import Seen
from .layer import is_enabled

if TYPE_CHECKING:
    from ..props import SOFTRAS_PG_view

_COLLECTION = "Softras Landmarks"


def landmark_empties(item: SOFTRAS_PG_view, scene: bpy.types.Scene, target: bpy.types.Object) -> list[bpy.types.Object]:
    """The Empties of a view's landmarks. Raises InputError when a landmark cannot be used."""
    for landmark in item.landmarks:
        name = f"the landmark of vertex {landmark.vertex} in view '{item.camera.name}'"
        count = len(target.data.vertices)
        if landmark.vertex >= count:
            raise InputError(f"{name} is beyond the {count} vertices of '{target.name}'; remove it.")
        if landmark.empty is None or landmark.empty.name not in scene.objects:
            raise InputError(f"{name} has lost its Empty; remove the landmark, or add it again.")
        if not is_enabled(landmark.empty):
            raise InputError(f"the Empty of {name} is disabled in this view layer; enable it or remove the landmark.")
    return [landmark.empty for landmark in item.landmarks]


def read_landmarks(item: SOFTRAS_PG_view, camera: Camera, seen: Seen) -> tuple[Landmark, ...]:
    """A view's landmarks at a moment. Raises InputError for one behind the camera."""
    read = []
    for landmark in item.landmarks:
        place = np.array(seen(landmark.empty).matrix_world.translation, dtype=np.float64)
        if not camera.orthographic and camera.to_camera(place)[2] <= 0:
            raise InputError(
                f"the Empty '{landmark.empty.name}' is behind camera '{item.camera.name}'; move it over the image."
            )
        x, y = camera.project(place)
        read.append(Landmark(landmark.vertex, (float(x), float(y)), landmark.weight))
    return tuple(read)


def add_landmark(scene: bpy.types.Scene, item: SOFTRAS_PG_view, target: bpy.types.Object, vertex: int) -> None:
    """Give the view a landmark of a vertex, with a new Empty where the vertex is shown."""
    graph = bpy.context.evaluated_depsgraph_get()
    mesh = target.evaluated_get(graph).data
    if len(mesh.vertices) != len(target.data.vertices):  # modifiers made a mesh of their own
        mesh = target.data
    empty = bpy.data.objects.new(f"{target.name} {vertex} {item.camera.name}", None)
    empty.location = target.matrix_world @ mesh.vertices[vertex].co
    empty.empty_display_type, empty.show_in_front = "SPHERE", True
    empty.empty_display_size = 0.02 * max(*target.dimensions)
    collection = bpy.data.collections.get(_COLLECTION) or bpy.data.collections.new(_COLLECTION)
    if collection.name not in scene.collection.children:
        scene.collection.children.link(collection)
    collection.objects.link(empty)
    landmark = item.landmarks.add()
    landmark.vertex, landmark.empty = vertex, empty
    item.active_landmark = len(item.landmarks) - 1

# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of a mesh object in a scene of its own, to see what modifiers make of other vertices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy
import numpy as np

from ..access import mesh_of, present
from ..engine.softras import InputError
from .mesh import IntoMesh, IntoShapeKey, check_instances, mesh_positions
from .target import MeshObject

# What of the artist's scene decides how modifiers are evaluated.
_SIMPLIFY = ("use_simplify", "simplify_subdivision", "simplify_subdivision_render", "use_simplify_normals")


class Stage:
    """A copy of a mesh object that shows vertices as the result of a fit will show them.

    The copy is in a scene of its own, so that nothing of the artist's scene changes and nobody sees it. No handler of
    other extensions is called, and the copy is gone before a file is saved. It is made when it is first needed, and
    made again after a file was saved. Whoever makes a stage must close it.

    Attributes:
        name: the name of the object, for sentences.
        evaluations: how many times it was evaluated.
    """

    def __init__(
        self, scene: bpy.types.Scene, target: MeshObject, writer: type[IntoShapeKey] | type[IntoMesh] | None = None
    ) -> None:
        """writer: what will write the result of the fit into the object; None where it is seen as it is only."""
        self.name, self.evaluations = target.name, 0
        self._artists, self._target, self._writer = scene, target, writer
        self._frame = scene.frame_current, scene.frame_subframe
        self._scene: bpy.types.Scene | None = None
        self._copy: bpy.types.Object | None = None
        bpy.app.handlers.save_pre.append(self._before_saving)

    def positions(self, offset: np.ndarray) -> np.ndarray:
        """(S, 3) in object space: the vertices that are seen where the object's own are (V, 3) away from the start."""
        self._shown(offset)
        return mesh_positions(mesh_of(self._evaluated()))

    def mesh_without(self, name: str | None) -> bpy.types.Mesh:
        """The evaluated mesh without the modifier of this name; it is valid until the stage is closed.

        Raises InputError where instances are seen too.
        """
        self._open()
        if name is not None:
            present(self._copy).modifiers[name].show_viewport = False
        self._update()
        check_instances(self.name, self._evaluated())
        return mesh_of(self._evaluated())

    def corners(self) -> np.ndarray:
        """The vertex of each corner of the faces that were seen last."""
        mesh = mesh_of(self._evaluated())
        corners = np.empty(len(mesh.loops), dtype=np.int32)
        attribute = mesh.attributes.get(".corner_vert")  # a tenth of the time of `loops`
        if isinstance(attribute, bpy.types.IntAttribute):
            attribute.data.foreach_get("value", corners)
        else:
            mesh.loops.foreach_get("vertex_index", corners)
        return corners

    def triangles(self) -> np.ndarray:
        """(F, 3) the triangles that Blender draws of the faces that were seen last. Raises InputError without any."""
        mesh = mesh_of(self._evaluated())
        if not mesh.polygons:
            raise InputError(f"the modifiers of '{self.name}' leave it no faces; a silhouette needs at least one.")
        mesh.calc_loop_triangles()
        corners = np.empty(3 * len(mesh.loop_triangles), dtype=np.int32)
        mesh.loop_triangles.foreach_get("vertices", corners)
        return corners.reshape(-1, 3)

    @property
    def modifiers(self) -> list[bpy.types.Modifier]:
        """The copy's modifiers that the viewport shows."""
        self._open()
        return [modifier for modifier in present(self._copy).modifiers if modifier.show_viewport]

    def close(self) -> None:
        """Remove the copy and its scene."""
        if self._before_saving in bpy.app.handlers.save_pre:
            bpy.app.handlers.save_pre.remove(self._before_saving)
        self._before_saving()

    def _shown(self, offset: np.ndarray) -> None:
        self._open()
        present(self._vertices).show_offset(offset)
        self._update()

    def _update(self) -> None:
        with _without_handlers():
            present(self._scene).view_layers[0].update()
        self.evaluations += 1

    def _evaluated(self) -> bpy.types.Object:
        return present(self._copy).evaluated_get(present(present(self._scene).view_layers[0].depsgraph))

    def _open(self) -> None:
        if self._scene is not None:
            return
        self._scene = bpy.data.scenes.new("Softras")
        for name in _SIMPLIFY:
            if hasattr(self._scene.render, name):
                setattr(self._scene.render, name, getattr(self._artists.render, name))
        frame, part = self._frame
        self._scene.frame_current, self._scene.frame_subframe = frame, part
        copy, mesh = present(self._target.object.copy()), present(self._target.mesh.copy())
        copy.data = mesh
        for owner in (copy, mesh.shape_keys):
            if owner is not None and owner.animation_data is not None:
                # What was changed in this frame and not keyed is what the artist sees; drivers give the same anyway.
                owner.animation_data.action, owner.animation_data.use_nla = None, False
        self._scene.collection.objects.link(copy)
        self._copy = copy
        self._vertices = None if self._writer is None else self._writer(MeshObject(copy, self.name))

    def _before_saving(self, *_: Any) -> None:
        if self._scene is None:
            return
        scene, self._scene = self._scene, None
        try:
            copy = present(self._copy)
            mesh = mesh_of(copy)
            bpy.data.objects.remove(copy)
            bpy.data.meshes.remove(mesh)
            bpy.data.scenes.remove(scene)
        except ReferenceError:
            pass  # another file was opened


@contextmanager
def _without_handlers() -> Iterator[None]:
    """No handler of any extension is called for what is evaluated meanwhile."""
    lists: list[Any] = [bpy.app.handlers.depsgraph_update_pre, bpy.app.handlers.depsgraph_update_post]
    kept = [list(handlers) for handlers in lists]
    for handlers in lists:
        handlers.clear()
    try:
        yield
    finally:
        for handlers, functions in zip(lists, kept, strict=True):
            handlers.extend(functions)

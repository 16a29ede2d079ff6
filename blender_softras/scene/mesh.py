# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh of a fit: read from a mesh object for the engine, and fitted vertices written back into the object."""

from __future__ import annotations

from typing import Any, cast

import bpy
import numpy as np

from ..access import mesh_of
from ..engine.softras import InputError, Mesh
from .animation import driven, keyed
from .target import MeshObject

KEY_NAME = "Softras"  # the name of the shape key that holds fitted vertices


def matrix_of(ob: bpy.types.Object) -> np.ndarray:
    """(4, 4) float64: leads from object space to the world. Raises InputError when it cannot be inverted."""
    matrix = np.array(ob.matrix_world, dtype=np.float64)
    if not np.isfinite(matrix).all() or np.linalg.cond(matrix[:3, :3]) > 1e6:
        raise InputError(f"'{ob.name}' is scaled to nothing along an axis; give it another scale.")
    return matrix


def read_mesh(target: MeshObject) -> Mesh:
    """The mesh with its shape keys as they are set, without modifiers, in world space.

    Quads and n-gons come as the triangles that Blender draws. All vertices come in their order, loose ones too.
    Raises InputError when the mesh cannot be fitted.
    """
    return _in_world(target.object, target.mesh, mixed_positions(target))


def read_shown_mesh(target: MeshObject, evaluated: bpy.types.Object) -> Mesh:
    """The mesh that is seen of the object, modifiers included, in world space.

    Args:
        target: the mesh object.
        evaluated: the same object as a dependency graph has it.
    """
    check_instances(target.name, evaluated)
    mesh = mesh_of(evaluated)
    if not mesh.polygons:
        raise InputError(f"the modifiers of '{target.name}' leave it no faces; a silhouette needs at least one.")
    return _in_world(evaluated, mesh, mesh_positions(mesh))


def check_instances(name: str, evaluated: bpy.types.Object) -> None:
    """Raises InputError, naming the modifier, where instances are seen of an object, which are not in its mesh.

    Args:
        name: the object's, for the sentence.
        evaluated: the object as a dependency graph has it.
    """
    if evaluated.evaluated_geometry().instances_pointcloud() is None:
        return
    nodes = [modifier.name for modifier in evaluated.modifiers if isinstance(modifier, bpy.types.NodesModifier)]
    raise InputError(
        f"modifier '{nodes[-1] if nodes else ''}' of '{name}' shows instances, which a fit does not see; end its nodes "
        "with Realize Instances, or disable it in the viewport."
    )


def _in_world(ob: bpy.types.Object, mesh: bpy.types.Mesh, positions: np.ndarray) -> Mesh:
    """The engine's mesh of an object whose mesh has its vertices at (V, 3) positions in object space."""
    matrix = matrix_of(ob)
    mesh.calc_loop_triangles()
    corners = np.empty(len(mesh.loop_triangles) * 3, dtype=np.int32)
    mesh.loop_triangles.foreach_get("vertices", corners)
    faces = corners.reshape(-1, 3)
    if np.linalg.det(matrix[:3, :3]) < 0:
        faces = faces[:, ::-1]  # a mirrored object is drawn inside out unless its faces turn too
    if not np.isfinite(positions).all():
        raise InputError(
            f"'{ob.name}' has vertices with NaN or infinite coordinates; remove them (Mesh > Clean Up) first."
        )
    return Mesh(transformed(positions, matrix), faces)


def read_lock(target: MeshObject, group_name: str) -> np.ndarray | None:
    """(V,) bool: True for vertices that the vertex group holds with a weight of at least 0.5. None without a group."""
    if not group_name:
        return None
    group = target.object.vertex_groups.get(group_name)
    if group is None:
        raise InputError(f"'{target.name}' has no vertex group '{group_name}'; choose another to lock.")
    return group_weights(target, group.index) >= 0.5


def group_weights(target: MeshObject, index: int) -> np.ndarray:
    """(V,) float64: each vertex's weight in the vertex group of this index, 0 for vertices outside the group."""
    vertices = target.mesh.vertices
    weights = np.zeros(len(vertices))
    for number, vertex in enumerate(vertices):
        for element in vertex.groups:
            if element.group == index:
                weights[number] = element.weight
    return weights


def key_offsets(target: MeshObject, key: bpy.types.ShapeKey) -> np.ndarray:
    """(V, 3) float64: how far a shape key at value 1 moves each vertex in object space, its vertex group included."""
    offsets = key_positions(key) - key_positions(key.relative_key)
    if key.vertex_group and (group := target.object.vertex_groups.get(key.vertex_group)):
        offsets *= group_weights(target, group.index)[:, None]
    return offsets


def mesh_positions(mesh: bpy.types.Mesh) -> np.ndarray:
    """(V, 3) float64: the vertices in object space, without shape keys."""
    return _read_vectors(_position_attribute(mesh).data, "vector")


def key_positions(key: bpy.types.ShapeKey) -> np.ndarray:
    """(V, 3) float64: the vertices in object space that a shape key holds."""
    return _read_vectors(key.points, "co")


def transformed(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(V, 3) points of one space in the space that the affine `matrix` (4, 4) leads to."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def mixed_positions(target: MeshObject, without: str | None = None) -> np.ndarray:
    """(V, 3) float64 in object space: the vertices with the shape keys mixed as Blender mixes them.

    `without` is the name of a shape key to leave out.
    """
    ob, keys = target.object, target.keys
    if keys is None:
        return mesh_positions(target.mesh)
    if ob.show_only_shape_key and ob.active_shape_key and ob.active_shape_key.name != without:
        return key_positions(ob.active_shape_key)
    mixed = key_positions(keys.reference_key)
    for key in keys.key_blocks[1:]:
        if not key.mute and key.value != 0 and key.name != without:
            mixed += key.value * key_offsets(target, key)
    return mixed


def _position_attribute(mesh: bpy.types.Mesh) -> bpy.types.FloatVectorAttribute:
    """The attribute that holds the vertices; to read and write it takes a hundredth of the time of `Mesh.vertices`."""
    return cast(bpy.types.FloatVectorAttribute, mesh.attributes["position"])


def _read_vectors(collection: bpy.types.bpy_prop_collection, name: str) -> np.ndarray:
    flat = np.empty(len(collection) * 3, dtype=np.float32)
    collection.foreach_get(name, flat)
    return flat.reshape(-1, 3).astype(np.float64)


def _write_mesh_positions(mesh: bpy.types.Mesh, positions: np.ndarray) -> None:
    _position_attribute(mesh).data.foreach_set("vector", np.ascontiguousarray(positions, np.float32).ravel())
    mesh.update()


def _write_key_positions(key: bpy.types.ShapeKey, positions: np.ndarray) -> None:
    key.points.foreach_set("co", np.ascontiguousarray(positions, np.float32).ravel())


class OwnMesh:
    """Gives an object that shares its mesh with others a copy of its own, so that the other objects do not change."""

    def __init__(self, target: MeshObject) -> None:
        self._target = target
        self._shared = target.mesh if target.is_shared else None
        if self._shared is not None:
            target.object.data = self._shared.copy()

    def revert(self) -> None:
        """Give the object the shared mesh again, if it was given a copy."""
        if self._shared is not None:
            copy = self._target.mesh
            self._target.object.data = self._shared
            bpy.data.meshes.remove(copy)


class _Vertices:
    """What both writers of vertices have in common: which vertices may move, and where they were at the start.

    The mesh of the object must not be shared with other objects.
    """

    def __init__(self, target: MeshObject) -> None:
        self._target = target
        self._inverse = np.linalg.inv(matrix_of(target.object))
        loops = target.mesh.loops
        corners = np.empty(len(loops), dtype=np.int32)
        loops.foreach_get("vertex_index", corners)
        self._used = np.unique(corners)  # the vertices that belong to a face
        self._start = mixed_positions(target)  # (V, 3) in object space when the fit began

    @property
    def shape(self) -> tuple[int, ...]:
        """(V, 3) of the vertices."""
        return self._start.shape

    def problem(self) -> str | None:
        """Why the vertices can be neither shown nor put back; None while the mesh has what it had at the start."""
        try:
            return None if self._intact() else f"'{self._target.name}' was edited while it was being fitted."
        except ReferenceError:
            return f"'{self._target.name}' was deleted while it was being fitted."

    def show(self, world: np.ndarray) -> None:
        """Show the vertices at (V, 3) positions in world space; loose vertices stay exactly where they were."""
        offset = np.zeros_like(self._start)
        offset[self._used] = transformed(world[self._used], self._inverse) - self._start[self._used]
        self.show_offset(offset)

    def show_offset(self, offset: np.ndarray) -> None:
        """Show the vertices (V, 3) away from where they were at the start, in object space."""
        raise NotImplementedError

    def _intact(self) -> bool:
        return len(self._target.mesh.vertices) == len(self._start)


class IntoShapeKey(_Vertices):
    """Shows fitted vertices as the object's shape key "Softras", at full value beside the other keys."""

    def __init__(self, target: MeshObject) -> None:
        """Raises InputError when the shape key would not keep its value."""
        value = f'key_blocks["{KEY_NAME}"].value'
        if target.keys is not None and (driven(target.keys, value) or keyed(target.keys, value)):
            raise InputError(
                f"the value of '{target.name}'s shape key '{KEY_NAME}' is driven or animated; "
                "remove that or rename the key to fit."
            )
        super().__init__(target)
        ob = target.object
        self._had_keys = target.keys is not None
        self._active_index = ob.active_shape_key_index
        if not self._had_keys:
            ob.shape_key_add(name="Basis", from_mix=False)
        keys = self._keys
        key = keys.key_blocks.get(KEY_NAME)
        self._original: tuple[np.ndarray, dict[str, Any]] | None = None  # the key's own positions and settings
        if key is None:
            # A new key starts at the basis: at full value it changes nothing yet.
            key = ob.shape_key_add(name=KEY_NAME, from_mix=False)
            _write_key_positions(key, key_positions(keys.reference_key))
        else:
            settings = {name: getattr(key, name) for name in ("value", "mute", "vertex_group", "slider_max")}
            self._original = key_positions(key), settings
        # The positions with which the key shows the start. A key that is pinned in the panel is all that is shown;
        # otherwise it adds to the others.
        self._at_start = self._start
        if not ob.show_only_shape_key:
            self._at_start = key_positions(key.relative_key) + self._start - mixed_positions(target, without=KEY_NAME)
        _write_key_positions(key, self._at_start)
        key.mute, key.vertex_group, key.slider_max = False, "", max(key.slider_max, 1.0)
        key.value = 1.0
        ob.active_shape_key_index = keys.key_blocks.find(KEY_NAME)

    @property
    def _keys(self) -> bpy.types.Key:
        keys = self._target.keys
        if keys is None:
            raise ReferenceError(f"'{self._target.name}' has lost its shape keys")
        return keys

    def _intact(self) -> bool:
        keys = self._target.keys
        return super()._intact() and keys is not None and KEY_NAME in keys.key_blocks

    def show_offset(self, offset: np.ndarray) -> None:
        """Show the vertices (V, 3) away from where they were at the start, in object space."""
        _write_key_positions(self._keys.key_blocks[KEY_NAME], self._at_start + offset)
        self._target.mesh.update()

    def revert(self) -> None:
        """Make the object's shape keys what they were at the start."""
        ob = self._target.object
        key = self._keys.key_blocks[KEY_NAME]
        if not self._had_keys:
            ob.shape_key_clear()
        elif self._original is None:
            ob.shape_key_remove(key)
        else:
            positions, settings = self._original
            _write_key_positions(key, positions)
            for name, value in settings.items():
                setattr(key, name, value)
        ob.active_shape_key_index = self._active_index
        self._target.mesh.update()


class IntoMesh(_Vertices):
    """Moves the vertices of the mesh itself; shape keys move along, so that each keeps its difference to the basis."""

    def __init__(self, target: MeshObject) -> None:
        super().__init__(target)
        self._original = mesh_positions(target.mesh)
        self._original_keys = [key_positions(key) for key in self._key_blocks()]

    def _key_blocks(self) -> list[bpy.types.ShapeKey]:
        keys = self._target.keys
        return [] if keys is None else list(keys.key_blocks)

    def _intact(self) -> bool:
        return super()._intact() and len(self._original_keys) == len(self._key_blocks())

    def show_offset(self, offset: np.ndarray) -> None:
        """Move the vertices (V, 3) away from where they were at the start, in object space."""
        for key, original in zip(self._key_blocks(), self._original_keys, strict=True):
            _write_key_positions(key, original + offset)
        _write_mesh_positions(self._target.mesh, self._original + offset)

    def revert(self) -> None:
        """Make the mesh what it was at the start."""
        self.show_offset(np.zeros_like(self._start))

# SPDX-License-Identifier: GPL-3.0-or-later
"""The target object's mesh as the engine's mesh, and the fitted vertices back into the object."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from ..engine.softras import InputError, Mesh
from .animation import driven, keyed
from .layer import is_enabled

KEY_NAME = "Softras"  # of the shape key that holds a result


def target_problem(target: bpy.types.Object | None) -> str | None:
    """Why the object cannot be fitted, cheap enough for a poll; None when it can."""
    if target is None:
        return "There is no mesh to fit; choose one in the Softras panel or make it the active object."
    if not isinstance(target.data, bpy.types.Mesh):
        return f"'{target.name}' is not a mesh; choose a mesh object to fit."
    if target.data.library is not None or target.library is not None:
        return f"'{target.name}' is linked from another file; make it local first."
    if not is_enabled(target):
        return (
            f"'{target.name}' is disabled in this view layer or not in it, so Blender does not know where it is; "
            "enable it in the Outliner first."
        )
    if target.data.is_editmode and target.mode != "EDIT":
        return (
            f"The mesh of '{target.name}' is in Edit Mode through another object; go back to Object Mode there first."
        )
    if target.mode != "OBJECT":
        return f"'{target.name}' is in {target.mode.replace('_', ' ').title()} Mode; go back to Object Mode first."
    keys = target.data.shape_keys
    if keys is not None and not keys.use_relative:
        return f"'{target.name}' has absolute shape keys; tick Relative in its Shape Keys panel first."
    if not target.data.polygons:
        return f"'{target.name}' has no faces; a silhouette needs at least one."
    return None


def is_shared(target: bpy.types.Object) -> bool:
    """Whether other objects use the same mesh."""
    return target.data.users - target.data.use_fake_user > 1  # a fake user keeps the mesh, and is no object


def matrix_of(target: bpy.types.Object) -> np.ndarray:
    """(4, 4) float64 object space to world. Raises InputError when it cannot be inverted."""
    matrix = np.array(target.matrix_world, dtype=np.float64)
    if not np.isfinite(matrix).all() or np.linalg.cond(matrix[:3, :3]) > 1e6:
        raise InputError(f"'{target.name}' is scaled to nothing along an axis; give it another scale.")
    return matrix


def read_mesh(target: bpy.types.Object) -> Mesh:
    """The object's base mesh with its shape keys as they are set, without modifiers, in world space.

    Quads and n-gons come as the triangles Blender draws; all vertices come, loose ones too, in their order.
    Raises InputError when the mesh cannot be fitted.
    """
    problem = target_problem(target)
    if problem:
        raise InputError(problem)
    return _in_world(target, target.data, _shown(target))


def read_shown_mesh(target: bpy.types.Object, evaluated: bpy.types.Object) -> Mesh:
    """What is seen of the object, modifiers included, in world space.

    Args:
        target: a mesh object.
        evaluated: the same, as a dependency graph has it.
    """
    if not evaluated.data.polygons:
        raise InputError(f"the modifiers of '{target.name}' leave it no faces; a silhouette needs at least one.")
    return _in_world(evaluated, evaluated.data, _positions(evaluated.data))


def _in_world(ob: bpy.types.Object, data: bpy.types.Mesh, coordinates: np.ndarray) -> Mesh:
    matrix = matrix_of(ob)
    data.calc_loop_triangles()
    corners = np.empty(len(data.loop_triangles) * 3, dtype=np.int32)
    data.loop_triangles.foreach_get("vertices", corners)
    faces = corners.reshape(-1, 3)
    if np.linalg.det(matrix[:3, :3]) < 0:
        faces = faces[:, ::-1]  # a mirrored object is drawn inside out unless its faces turn too
    if not np.isfinite(coordinates).all():
        raise InputError(
            f"'{ob.name}' has vertices with NaN or infinite coordinates; remove them (Mesh > Clean Up) first."
        )
    return Mesh(to_world(coordinates, matrix), faces)


def read_lock(target: bpy.types.Object, group_name: str) -> np.ndarray | None:
    """(V,) bool, True for vertices of the vertex group (weight of at least 0.5), or None without a group."""
    if not group_name:
        return None
    group = target.vertex_groups.get(group_name)
    if group is None:
        raise InputError(f"'{target.name}' has no vertex group '{group_name}'; choose another to lock.")
    return group_weights(target, group.index) >= 0.5


def group_weights(target: bpy.types.Object, index: int) -> np.ndarray:
    """(V,) float64 weights of a vertex group, 0 for vertices outside it."""
    weights = np.zeros(len(target.data.vertices))
    for number, vertex in enumerate(target.data.vertices):
        for element in vertex.groups:
            if element.group == index:
                weights[number] = element.weight
    return weights


def to_world(coordinates: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(V, 3) points of a space in the space that `matrix` (4, 4) leads to."""
    return coordinates @ matrix[:3, :3].T + matrix[:3, 3]


def _shown(target: bpy.types.Object, without: str | None = None) -> np.ndarray:
    """(V, 3) float64 object-space positions: the mesh with its shape keys mixed as Blender mixes them.

    `without` names a key to leave out.
    """
    keys = target.data.shape_keys
    if keys is None:
        return _positions(target.data)
    if target.show_only_shape_key and target.active_shape_key and target.active_shape_key.name != without:
        return _key_positions(target.active_shape_key)
    base = _key_positions(keys.reference_key)
    shown = base.copy()
    for key in keys.key_blocks[1:]:
        if key.mute or key.value == 0 or key.name == without:
            continue
        offset = key.value * (_key_positions(key) - _key_positions(key.relative_key))
        if key.vertex_group and (group := target.vertex_groups.get(key.vertex_group)):
            offset *= group_weights(target, group.index)[:, None]
        shown += offset
    return shown


def _positions(data: bpy.types.Mesh) -> np.ndarray:
    flat = np.empty(len(data.vertices) * 3, dtype=np.float32)
    data.attributes["position"].data.foreach_get("vector", flat)
    return flat.reshape(-1, 3).astype(np.float64)


def _key_positions(key: bpy.types.ShapeKey) -> np.ndarray:
    flat = np.empty(len(key.points) * 3, dtype=np.float32)
    key.points.foreach_get("co", flat)
    return flat.reshape(-1, 3).astype(np.float64)


def _set_positions(data: bpy.types.Mesh, coordinates: np.ndarray) -> None:
    data.attributes["position"].data.foreach_set("vector", np.ascontiguousarray(coordinates, np.float32).ravel())
    data.update()


def _set_key_positions(key: bpy.types.ShapeKey, coordinates: np.ndarray) -> None:
    key.points.foreach_set("co", np.ascontiguousarray(coordinates, np.float32).ravel())


class OwnMesh:
    """Gives an object that shares its mesh a copy of its own, so that other objects do not change."""

    def __init__(self, target: bpy.types.Object) -> None:
        self._target = target
        self._shared: Any = target.data if is_shared(target) else None
        if self._shared is not None:
            target.data = target.data.copy()

    def revert(self) -> None:
        """Give the object the mesh that it had, if that was another."""
        if self._shared is not None:
            copy = self._target.data
            self._target.data = self._shared
            bpy.data.meshes.remove(copy)


class _Vertices:
    """What the writers of vertices share: the object, and which of its vertices move.

    The object's mesh must be its own.
    """

    def __init__(self, target: bpy.types.Object) -> None:
        self._target, self._name = target, target.name
        self._inverse = np.linalg.inv(matrix_of(target))
        corners = np.empty(len(target.data.loops), dtype=np.int32)
        target.data.loops.foreach_get("vertex_index", corners)
        self._used = np.unique(corners)
        self._start = _shown(target)  # (V, 3) when the fit began

    def problem(self) -> str | None:
        """Why the mesh can be neither shown nor put back; None while it is still what it was when the fit began."""
        try:
            return None if self._intact() else f"'{self._name}' was edited while it was being fitted."
        except ReferenceError:
            return f"'{self._name}' was deleted while it was being fitted."

    def show(self, world: np.ndarray) -> None:
        """Show the vertices at (V, 3) world-space positions; loose ones stay exactly where they were."""
        offset = np.zeros_like(self._start)
        offset[self._used] = to_world(world[self._used], self._inverse) - self._start[self._used]
        self.move(offset)

    def move(self, offset: np.ndarray) -> None:
        """Show the vertices (V, 3) in object space from where they were."""
        raise NotImplementedError

    def _intact(self) -> bool:
        return len(self._target.data.vertices) == len(self._start)


class IntoShapeKey(_Vertices):
    """Shows fitted vertices as the object's shape key "Softras", at full value beside the other keys."""

    def __init__(self, target: bpy.types.Object) -> None:
        """Raises InputError when the key would not keep its value."""
        keys = target.data.shape_keys
        value = f'key_blocks["{KEY_NAME}"].value'
        if keys is not None and (driven(keys, value) or keyed(keys, value)):
            raise InputError(
                f"the value of '{target.name}'s shape key '{KEY_NAME}' is driven or animated; "
                "remove that or rename the key to fit."
            )
        super().__init__(target)
        data = target.data
        self._had_keys = data.shape_keys is not None
        self._active = target.active_shape_key_index
        if not self._had_keys:
            target.shape_key_add(name="Basis", from_mix=False)
        key = data.shape_keys.key_blocks.get(KEY_NAME)
        self._before: dict[str, Any] | None = None
        if key is None:
            # A new key starts at the basis: at full value it changes nothing yet.
            key = target.shape_key_add(name=KEY_NAME, from_mix=False)
            _set_key_positions(key, _key_positions(data.shape_keys.reference_key))
        else:
            self._before = {name: getattr(key, name) for name in ("value", "mute", "vertex_group", "slider_max")}
            self._before_points = _key_positions(key)
        # What the key holds to show the start. Pinned in the panel it is all that is shown, else it adds to the others.
        self._at_start = self._start
        if not target.show_only_shape_key:
            self._at_start = _key_positions(key.relative_key) + self._start - _shown(target, without=KEY_NAME)
        _set_key_positions(key, self._at_start)
        key.mute, key.vertex_group, key.slider_max = False, "", max(key.slider_max, 1.0)
        key.value = 1.0
        target.active_shape_key_index = data.shape_keys.key_blocks.find(KEY_NAME)

    def _intact(self) -> bool:
        keys = self._target.data.shape_keys
        return super()._intact() and keys is not None and KEY_NAME in keys.key_blocks

    def move(self, offset: np.ndarray) -> None:
        """Show the vertices (V, 3) in object space from where they were."""
        _set_key_positions(self._target.data.shape_keys.key_blocks[KEY_NAME], self._at_start + offset)
        self._target.data.update()

    def revert(self) -> None:
        """Make the object what it was before."""
        target, data = self._target, self._target.data
        key = data.shape_keys.key_blocks[KEY_NAME]
        if not self._had_keys:
            target.shape_key_clear()
        elif self._before is None:
            target.shape_key_remove(key)
        else:
            _set_key_positions(key, self._before_points)
            for name, value in self._before.items():
                setattr(key, name, value)
        target.active_shape_key_index = self._active
        target.data.update()


class IntoMesh(_Vertices):
    """Moves the mesh's own vertices; shape keys move along, so that each keeps its difference to the basis."""

    def __init__(self, target: bpy.types.Object) -> None:
        super().__init__(target)
        keys = target.data.shape_keys
        self._before = _positions(target.data)
        self._keys_before = [] if keys is None else [_key_positions(key) for key in keys.key_blocks]

    def _intact(self) -> bool:
        keys = self._target.data.shape_keys
        return super()._intact() and len(self._keys_before) == (0 if keys is None else len(keys.key_blocks))

    def move(self, offset: np.ndarray) -> None:
        """Move the vertices (V, 3) in object space from where they were."""
        data = self._target.data
        for number, before in enumerate(self._keys_before):
            _set_key_positions(data.shape_keys.key_blocks[number], before + offset)
        _set_positions(data, self._before + offset)

    def revert(self) -> None:
        """Make the mesh what it was before."""
        self.move(np.zeros_like(self._start))

"""A rig: a mesh with the object transform, the bones and the shape keys that move it, as an artist has them.

Spaces: the mesh and its shape keys are in the space of the mesh object, bones in the space of the armature object. One
object, the mover, carries both: the armature object where there is one, else the mesh object. The inheritance of bones,
rotation modes and skinning are Blender's. A rig and each of its parts equals itself only, as the mesh does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .checks import affine, array, flag, indices, number, one_of, text, whole
from .errors import InputError, shown
from .mesh import Mesh
from .rotations import ROTATION_MODES, rotation_matrix, rotation_numbers

PARTS = ("object", "pose", "shape_keys")  # The parts of a rig that a fit can move, by the names of the variables.
INHERIT_SCALE = ("FULL", "FIX_SHEAR", "ALIGNED", "AVERAGE", "NONE", "NONE_LEGACY")
LEAST_WEIGHT = 1e-4  # As in Blender, bones do not move a vertex whose weights sum to no more than this.

Axes = tuple[bool, bool, bool]
LOCKED: Axes = (False, False, False)


@dataclass(frozen=True, eq=False)
class Transform:
    """Location, rotation and scale, and which of them may change.

    Attributes:
        location: (3,).
        rotation: (4,) QUATERNION (w, x, y, z) or AXIS_ANGLE (radians, x, y, z); (3,) radians about x, y, z (Euler).
        scale: (3,), no zeros.
        mode: one of ROTATION_MODES.
        free_location: which of x, y, z may change.
        free_rotation: which Euler angles may change; XYZ angles for a mode that has none of its own.
        free_scale: whether the three scales may change by one common factor.
        limits: (3, 2) the least and the greatest value of these angles in radians, or None.
    """

    location: np.ndarray = field(default_factory=lambda: np.zeros(3))
    rotation: np.ndarray = field(default_factory=lambda: np.array([1.0, 0.0, 0.0, 0.0]))
    scale: np.ndarray = field(default_factory=lambda: np.ones(3))
    mode: str = "QUATERNION"
    free_location: Axes = LOCKED
    free_rotation: Axes = LOCKED
    free_scale: bool = False
    limits: np.ndarray | None = None

    def __post_init__(self) -> None:
        one_of("a rotation mode", self.mode, ROTATION_MODES)
        count = 4 if self.mode in ("QUATERNION", "AXIS_ANGLE") else 3
        _set(self, "location", array("a location", self.location, (3,)))
        _set(self, "rotation", array(f"a rotation of mode {self.mode}", self.rotation, (count,)))
        _set(self, "scale", array("a scale", self.scale, (3,)))
        if self.mode == "QUATERNION" and np.linalg.norm(self.rotation) < 1e-12:
            raise InputError("a rotation quaternion must not be zero; clear the rotation.")
        if np.abs(self.scale).min() < 1e-9:
            raise InputError("a scale must not be zero; give it another.")
        for name in ("free_location", "free_rotation"):
            axes = getattr(self, name)
            if not isinstance(axes, list | tuple | np.ndarray) or len(axes) != 3:
                raise InputError(f"{name} must say of x, y and z whether they may change, not {shown(axes)}.")
            _set(self, name, tuple(flag(name, axis) for axis in axes))
        _set(self, "free_scale", flag("free_scale", self.free_scale))
        if self.limits is not None:
            _set(self, "limits", array("the limits of a rotation", self.limits, (3, 2)))
            if (self.limits[:, 0] > self.limits[:, 1]).any():
                raise InputError("the lower limit of a rotation must not be above its upper limit.")
            if not self._within(self.angles()):
                raise InputError("a rotation must be within its limits.")

    def angles(self) -> np.ndarray:
        """(3,) the Euler angles to which locks and limits apply: the mode's own, or XYZ for a mode that has none."""
        if len(self.rotation) == 3:
            return self.rotation
        x, y, z = angles = rotation_numbers(rotation_matrix(self.rotation, self.mode), "XYZ", np.zeros(3))
        half = np.copysign(np.pi, angles)
        other = np.array([x - half[0], half[1] - y, z - half[2]])  # The same rotation by other angles.
        return angles if self._within(angles) or not self._within(other) else other

    def _within(self, angles: np.ndarray) -> bool:
        if self.limits is None:
            return True
        return bool((angles >= self.limits[:, 0] - 1e-5).all() and (angles <= self.limits[:, 1] + 1e-5).all())

    @property
    def turns_freely(self) -> bool:
        """Whether the rotation may become any other."""
        return all(self.free_rotation) and self.limits is None

    def matrix(self) -> np.ndarray:
        """(4, 4) translation @ rotation @ scale."""
        matrix = np.eye(4)
        matrix[:3, :3] = rotation_matrix(self.rotation, self.mode) * self.scale
        matrix[:3, 3] = self.location
        return matrix


@dataclass(frozen=True, eq=False)
class Bone:
    """A bone.

    Attributes:
        name: the name that the artist gave it.
        parent: the index of its parent, an earlier bone of the armature; -1 for none.
        rest: (4, 4) its rest matrix, from bone space to armature space, rigid (Blender: bone.matrix_local).
        pose: its location, rotation and scale in its own space.
        inherit_rotation: whether it rotates with its parent.
        inherit_scale: how its parent's scale acts on it, one of INHERIT_SCALE.
        local_location: whether its location is along the axes of its rest matrix; if not, along those of the armature.
    """

    name: str
    parent: int
    rest: np.ndarray
    pose: Transform = field(default_factory=Transform)
    inherit_rotation: bool = True
    inherit_scale: str = "FULL"
    local_location: bool = True

    def __post_init__(self) -> None:
        text("the name of a bone", self.name)
        if not isinstance(self.pose, Transform):
            raise InputError(f"the pose of bone '{self.name}' must be a softras.Transform.")
        _set(self, "parent", whole(f"the parent of bone '{self.name}'", self.parent, -1))
        for name in ("inherit_rotation", "local_location"):
            _set(self, name, flag(f"{name} of bone '{self.name}'", getattr(self, name)))
        _set(self, "rest", affine(f"the rest matrix of bone '{self.name}'", self.rest))
        if np.abs(self.rest[:3, :3].T @ self.rest[:3, :3] - np.eye(3)).max() > 1e-3:
            raise InputError(f"the rest matrix of bone '{self.name}' must have no scale; apply the armature's scale.")
        one_of(f"inherit_scale of bone '{self.name}'", self.inherit_scale, INHERIT_SCALE)


@dataclass(frozen=True, eq=False)
class Armature:
    """Bones, and how much each vertex follows each of them.

    Attributes:
        bones: parents before their children.
        skin_vertices: (n,) vertex of each entry of the skin.
        skin_bones: (n,) bone of each entry.
        skin_weights: (n,) weight of each entry, not negative; a vertex's weights need not sum to 1.
        follows: (4, 4) the matrix from armature space to the space of the mover; the identity where the armature object
            is the mover.
    """

    bones: tuple[Bone, ...]
    skin_vertices: np.ndarray
    skin_bones: np.ndarray
    skin_weights: np.ndarray
    follows: np.ndarray = field(default_factory=lambda: np.eye(4))

    def __post_init__(self) -> None:
        _set(self, "bones", tuple(self.bones))
        if not self.bones:
            raise InputError("the armature has no bones; add one or remove the armature.")
        for index, bone in enumerate(self.bones):
            if not bone.parent < index:
                raise InputError(
                    f"the parent of bone '{bone.name}' must come before it; look for a missing parent or a cycle."
                )
        _set(self, "follows", affine("the matrix of the armature object", self.follows))
        _set(self, "skin_weights", array("the weights of the skin", self.skin_weights, (None,)))
        entries = (len(self.skin_weights),)
        _set(self, "skin_vertices", indices("the vertices of the skin", self.skin_vertices, entries))
        _set(self, "skin_bones", indices("the bones of the skin", self.skin_bones, entries))
        if (self.skin_bones >= len(self.bones)).any():
            raise InputError(f"the skin names bones outside 0..{len(self.bones) - 1}.")
        if (self.skin_weights < 0).any():
            raise InputError("the weights of the skin must not be negative.")

    def weights(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The skin of a mesh of `count` vertices as vertices, bones and weights (n,); each vertex's weights sum to 1.

        Vertices whose given weights sum to LEAST_WEIGHT or less have no entries.
        """
        total = np.bincount(self.skin_vertices, self.skin_weights, count)[self.skin_vertices]
        used = (total > LEAST_WEIGHT) & (self.skin_weights > 0)
        return self.skin_vertices[used], self.skin_bones[used], self.skin_weights[used] / total[used]

    def carries(self) -> np.ndarray:
        """(B,) bool: whether the bone or one of its descendants has weights."""
        carries = np.bincount(self.skin_bones, self.skin_weights, len(self.bones)) > 0
        for index in range(len(self.bones) - 1, -1, -1):
            if carries[index] and self.bones[index].parent >= 0:
                carries[self.bones[index].parent] = True
        return carries

    def pose_matrices(self) -> np.ndarray:
        """(B, 4, 4) the matrices from bone space to armature space in the present pose (Blender: pose_bone.matrix)."""
        poses: list[np.ndarray] = []
        for bone in self.bones:
            if bone.parent < 0:
                turn = location_frame = bone.rest
                after = np.ones(3)
                frame = np.eye(4)
            else:
                above = self.bones[bone.parent]
                frame = poses[bone.parent]
                offset = np.linalg.inv(above.rest) @ bone.rest
                turn, after = _inherit(bone, above.rest, frame, offset)
                location_frame = frame @ offset
            if not bone.local_location:
                location_frame = np.block([[frame[:3, :3], location_frame[:3, 3:]], [np.eye(4)[3:]]])
            channel = bone.pose.matrix()
            pose = turn @ channel
            pose[:3, :3] *= after
            pose[:3, 3] = (location_frame @ channel[:, 3])[:3]
            poses.append(pose)
        return np.array(poses)


@dataclass(frozen=True, eq=False)
class ShapeKey:
    """A shape key.

    Attributes:
        name: the name that the artist gave it.
        offsets: (V, 3) what a value of 1 adds to the vertices, in object space. In Blender, the difference from the key
            it is relative to, times the weights of its vertex group.
        value: the factor of the offsets.
        low, high: the least and the greatest value it may have.
        free: whether the value may change.
    """

    name: str
    offsets: np.ndarray
    value: float = 0.0
    low: float = 0.0
    high: float = 1.0
    free: bool = True

    def __post_init__(self) -> None:
        text("the name of a shape key", self.name)
        _set(self, "offsets", array(f"shape key '{self.name}'", self.offsets, (None, 3)))
        _set(self, "free", flag(f"free of shape key '{self.name}'", self.free))
        for name in ("value", "low", "high"):
            _set(self, name, number(f"{name} of shape key '{self.name}'", getattr(self, name)))
        if not self.low <= self.value <= self.high:
            raise InputError(
                f"the value of shape key '{self.name}' must be in its range, {self.low:g} to {self.high:g}."
            )

    @property
    def moves(self) -> bool:
        """Whether the value can change: it is free, and its range has more than one value."""
        return self.free and self.low < self.high


@dataclass(frozen=True, eq=False)
class Rig:
    """A mesh and what moves it.

    Attributes:
        mesh: the mesh in object space, without shape keys and pose.
        transform: the transform of the mover, the object that carries mesh and bones.
        parent: (4, 4) the mover's world matrix is parent @ transform.matrix().
        follows: (4, 4) the matrix from the mesh object's space to the space of the mover; the identity where the mesh
            object is the mover.
        shape_keys: the shape keys, without the basis.
        armature: the armature, or None.
    """

    mesh: Mesh
    transform: Transform = field(default_factory=Transform)
    parent: np.ndarray = field(default_factory=lambda: np.eye(4))
    follows: np.ndarray = field(default_factory=lambda: np.eye(4))
    shape_keys: tuple[ShapeKey, ...] = ()
    armature: Armature | None = None

    def __post_init__(self) -> None:
        keys = self.shape_keys
        if not isinstance(keys, list | tuple) or not all(isinstance(key, ShapeKey) for key in keys):
            raise InputError("the shape keys of a rig must be a list of softras.ShapeKey.")
        _set(self, "shape_keys", tuple(keys))
        kinds = (("mesh", Mesh), ("transform", Transform), ("armature", Armature | None))
        if wrong := [name for name, kind in kinds if not isinstance(getattr(self, name), kind)]:
            raise InputError(f"the {wrong[0]} of a rig must be a softras.{wrong[0].capitalize()}.")
        _set(self, "parent", affine("the matrix of the parent", self.parent))
        _set(self, "follows", affine("the matrix of the mesh object", self.follows))
        count = len(self.mesh.vertices)
        for key in self.shape_keys:
            if len(key.offsets) != count:
                raise InputError(
                    f"shape key '{key.name}' has {len(key.offsets)} vertices but the mesh has {count}; make it anew."
                )
        if self.armature is not None and (self.armature.skin_vertices >= count).any():
            raise InputError(f"the skin names vertices outside 0..{count - 1}.")

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4) the matrix from the mesh object's space to the world."""
        return self.parent @ self.transform.matrix() @ self.follows

    def vertices(self) -> np.ndarray:
        """(V, 3) float64 vertices in the world: shape keys, then linear blend skinning, then the object's transform.

        This is the definition, against which the faster `deform.PosedRig` is tested.
        """
        linear, location = self._motions()
        return np.einsum("vij,vj->vi", linear, self.mesh.vertices + self._offsets()) + location

    def unposed(self, world: np.ndarray) -> np.ndarray:
        """(V, 3) what `mesh.vertices` must be so that `vertices()` is `world` (V, 3).

        Vertices that are there already stay as they are, to the bit.
        """
        moved = world - self.vertices()
        linear, _ = self._motions()
        with np.errstate(divide="ignore", invalid="ignore"):
            volume = np.abs(np.linalg.det(linear)) / np.linalg.norm(linear, axis=(1, 2)) ** 3
        # Bones that rotate a vertex by half a turn against one another blend to a matrix that cannot be inverted.
        flat = ~(volume > 1e-6)
        linear[flat] = np.eye(3)
        moved[flat] = 0
        return self.mesh.vertices + np.linalg.solve(linear, moved[:, :, None])[:, :, 0]

    def _offsets(self) -> np.ndarray:
        """(V, 3) what the shape keys add to the vertices, in object space."""
        return sum((key.value * key.offsets for key in self.shape_keys), start=np.zeros_like(self.mesh.vertices))

    def _motions(self) -> tuple[np.ndarray, np.ndarray]:
        """Linear parts (V, 3, 3) and translations (V, 3) by which pose and transform take each vertex to the world."""
        matrices = np.broadcast_to(np.eye(4), (len(self.mesh.vertices), 4, 4))
        armature = self.armature
        if armature is not None:
            deform = armature.pose_matrices() @ np.linalg.inv([bone.rest for bone in armature.bones])
            deform = armature.follows @ deform @ np.linalg.inv(armature.follows)
            vertices, bones, weights = armature.weights(len(matrices))
            blend = np.zeros_like(matrices)
            np.add.at(blend, vertices, weights[:, None, None] * deform[bones])
            blend[np.setdiff1d(np.arange(len(matrices)), vertices)] = np.eye(4)
            matrices = blend
        matrices = self.parent @ self.transform.matrix() @ matrices @ self.follows
        return matrices[:, :3, :3].copy(), matrices[:, :3, 3]


def _inherit(bone: Bone, rest: np.ndarray, above: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a bone inherits of its parent's rotation and scale: a (4, 4) matrix, and a scale (3,) that is applied last.

    Args:
        bone: the bone.
        rest: (4, 4) rest matrix of its parent.
        above: (4, 4) pose matrix of its parent.
        offset: (4, 4) rest matrix of the bone in its parent's space.
    """
    mode = bone.inherit_scale
    after = np.ones(3)
    size = np.linalg.norm(above[:3, :3], axis=0)
    volume = np.abs(np.linalg.det(above[:3, :3]))
    frame = above.copy() if bone.inherit_rotation else rest.copy()
    linear = frame[:3, :3]
    if bone.inherit_rotation:
        if mode in ("NONE", "AVERAGE", "ALIGNED"):
            linear[:] = _orthogonal(linear)
            length = np.linalg.norm(linear, axis=0)
            linear /= length
            after = length if mode == "ALIGNED" else after
        elif mode == "NONE_LEGACY":
            linear /= size
    elif mode == "FULL":
        linear *= size
    elif mode == "FIX_SHEAR":
        linear *= size * np.cbrt(volume / size.prod())
    elif mode == "ALIGNED":
        after = size * np.cbrt(volume / size.prod())
    if mode == "AVERAGE":
        linear *= np.cbrt(volume)
    turn = frame @ offset
    if mode == "FIX_SHEAR":
        turn[:3, :3] = _orthogonal(turn[:3, :3])
    return turn, after


def _orthogonal(matrix: np.ndarray) -> np.ndarray:
    """The (3, 3) matrix without shear and of the same volume: the y axis stays, x and z rotate by the same angle."""
    x, y, z = matrix.T
    x, z = x - y * (x @ y) / (y @ y), z - y * (z @ y) / (y @ y)
    lengths = np.linalg.norm(x), np.linalg.norm(z)
    x, z = x / lengths[0], z / lengths[1]
    area = np.linalg.norm(np.cross(x, z))
    between, across = (v / np.linalg.norm(v) for v in (x + z, x - z))
    scale = np.sqrt(area / 2)
    return np.column_stack([lengths[0] * scale * (between + across), y, lengths[1] * scale * (between - across)])


def _set(owner: Any, name: str, value: Any) -> None:
    object.__setattr__(owner, name, value)  # The classes are frozen; their constructors set fields once.


def mesh_in_world(start: Mesh | Rig) -> Mesh:
    """The mesh of a rig in its pose, in the world; a mesh by itself is there already."""
    return Mesh(start.vertices(), start.mesh.faces) if isinstance(start, Rig) else start


def rig_of(start: Mesh | Rig) -> Rig:
    """A rig as it is; a mesh alone as a rig whose object moves freely and rotates about the mesh's middle."""
    if isinstance(start, Rig):
        return start
    mesh = start
    used = mesh.vertices[np.unique(mesh.faces)]
    middle = (used.min(axis=0) + used.max(axis=0)) / 2
    free = (True, True, True)
    transform = Transform(location=middle, free_location=free, free_rotation=free, free_scale=True)
    return Rig(Mesh(mesh.vertices - middle, mesh.faces), transform)


def carried_frame(frame: Sequence[float] | None, before: Rig, after: Rig) -> list[float]:
    """A coordinate frame that goes with the object from one pose of a rig to another.

    Args:
        frame: the matrix from the frame to the world, 16 numbers row by row; None for the world's own.
    """
    given = np.reshape(frame or np.eye(4).ravel(), (4, 4))
    return (after.matrix @ np.linalg.inv(before.matrix) @ given).ravel().tolist()
